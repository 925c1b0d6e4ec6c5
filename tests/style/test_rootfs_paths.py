"""
Before the pivot nothing in a rootfs is reached by a path (CONTRIBUTING.md, habit 4).

Every container escape of the last years was a path of the rootfs resolved as a string. In the
modules that run then, a function that takes a path must be given a descriptor to resolve it below.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pycontain"
BEFORE_THE_PIVOT = (
    "init/rootfs.py", "init/devices.py", "init/protection.py", "init/pivot.py", "init/copying.py", "kernel/root.py", "kernel/mounts.py", "kernel/tty.py",
)  # fmt: skip

# Functions of os that resolve a path, unless they are given `dir_fd`.
RESOLVE = frozenset(
    (
        "access", "chdir", "chflags", "chmod", "chown", "chroot", "execl", "execle", "execlp",
        "execlpe", "execv", "execve", "execvp", "execvpe", "getxattr", "lchown", "link", "listdir",
        "listxattr", "lstat", "makedirs", "mkdir", "mkfifo", "mknod", "open", "pathconf",
        "posix_spawn", "posix_spawnp", "readlink", "remove", "removedirs", "removexattr", "rename",
        "renames", "replace", "rmdir", "scandir", "setxattr", "stat", "statvfs", "symlink",
        "system", "truncate", "unlink", "utime", "walk",
    )
)  # fmt: skip
RESOLVE_PATH = frozenset(
    (
        "abspath", "exists", "expanduser", "getatime", "getctime", "getmtime", "getsize", "isdir",
        "isfile", "islink", "ismount", "join", "lexists", "realpath", "samefile",
    )
)  # fmt: skip
MODULES = frozenset({"glob", "io", "pathlib", "shutil", "subprocess", "tempfile"})
OUR_OWN_DIRECTORY = frozenset({"/", ".", b"."})

# Functions that resolve a host path: one from the configuration, or the host's own /proc.
OF_THE_HOST = {("init/rootfs.py", "open_host"), ("init/rootfs.py", "host_path")}
# Calls whose argument is a descriptor.
OF_DESCRIPTORS = {("init/copying.py", "listdir"), ("init/copying.py", "utime")}


def violations(tree, name):
    """The lines of a module that resolve paths, and what they call."""
    allowed = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (name, node.name) in OF_THE_HOST
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        found = violation(node, name)
        if found and node not in allowed:
            yield node.lineno, found


def violation(node, name):
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        )
        return next((module for module in modules if module in MODULES), "")
    if isinstance(node, (ast.Attribute, ast.Name)):
        return "AT_FDCWD" if ast.unparse(node).endswith("AT_FDCWD") else ""
    if isinstance(node, ast.Call):
        return resolving_call(node, name)
    return ""


def resolving_call(node, name):
    called = ast.unparse(node.func)
    module, _, function = called.rpartition(".")
    if called == "open" or (module == "os.path" and function in RESOLVE_PATH):
        return called
    if module != "os" or function not in RESOLVE or (name, function) in OF_DESCRIPTORS:
        return ""
    below = any(keyword.arg and keyword.arg.endswith("dir_fd") for keyword in node.keywords)
    ours = bool(node.args) and getattr(node.args[0], "value", None) in OUR_OWN_DIRECTORY
    return "" if below or ours else called


@pytest.mark.parametrize("name", BEFORE_THE_PIVOT)
def test_no_path_is_resolved_before_the_pivot(name):
    assert list(violations(ast.parse((PACKAGE / name).read_text()), name)) == []


@pytest.mark.parametrize(("name", "function"), sorted(OF_THE_HOST))
def test_exceptions_to_the_rule_are_functions_that_exist(name, function):
    tree = ast.parse((PACKAGE / name).read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("name", "function"), sorted(OF_DESCRIPTORS))
def test_exceptions_to_the_rule_are_needed(name, function):
    assert f"os.{function}(" in (PACKAGE / name).read_text()


BREAKS = [
    ("open('/x')", True),
    ("os.open(path, os.O_PATH)", True),
    ("os.open(path, os.O_PATH, dir_fd=root)", False),
    ("os.open('/', os.O_PATH)", False),
    ("os.open('/proc', os.O_PATH)", True),
    ("os.open(root + path, 0)", True),
    ("os.path.join(rootfs, path)", True),
    ("os.path.exists(path)", True),
    ("os.path.samestat(one, other)", False),
    ("os.makedirs(path)", True),
    ("os.symlink(target, name, dir_fd=directory)", False),
    ("os.rename(one, other, src_dir_fd=a, dst_dir_fd=b)", False),
    ("os.listdir(folder)", True),
    ("os.chdir('/')", False),
    ("os.chdir(path)", True),
    ("os.fchdir(fd)", False),
    ("calls.openat2(c.AT_FDCWD, path, 0, 0)", True),
    ("import shutil", True),
    ("from pathlib import Path", True),
    ("import os", False),
    ("def open_host(path): return os.open(path, 0)", False),
    ("def other(path): return os.open(path, 0)", True),
]


@pytest.mark.parametrize(("text", "wrong"), BREAKS)
def test_the_rule_for_rootfs_paths_detects_violations(text, wrong):
    assert bool(list(violations(ast.parse(text), "init/rootfs.py"))) == wrong
