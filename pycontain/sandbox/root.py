"""
The root file system of `python=True`: the interpreter that runs this program, and nothing else.

It holds copies of the interpreter, its standard library and the libraries that they need, at the
places where a distribution has them. Mounts of the originals would show their paths on the host
(/proc/self/mountinfo), everything beside them, and what an administrator changes later. A copy
takes a second and some 40 MB, is made once, and again when the interpreter has changed.

    /var/lib/pycontain/roots      root's alone, mode 0700
        0123456789abcdef          one for each interpreter, by what it was made from
            usr lib lib64         the copies
            dev etc proc tmp …    what a container mounts on
"""

from __future__ import annotations
import __future__

import fcntl
import hashlib
import importlib.util
import json
import marshal
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time

from ..errors import HostError
from ..kernel import calls, elf, seal
from ..kernel.descriptors import close_locked, open_lock
from ..kernel.safe_path import open_directory
from .configure import MOST_PACKAGES

BASE = "/var/lib/pycontain/roots"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_KEPT = 30 * 86400  # seconds after its last use
SERVER = "/server"  # where a pool's container has the code of its first process
PYTHON = "/usr/bin/python3"
SNIPPET = "/usr/lib/pycontain/snippet.pyc"  # compiled: a script would be compiled at each start

_LIBRARY = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LEFT_OUT = (
    "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo",
    "turtle.py", "lib2to3", "ensurepip", "config-*", "__pycache__", "sitecustomize.py",
    "EXTERNALLY-MANAGED",
)  # fmt: skip
_EMPTY = (
    "dev", "etc", "proc", "run", "server/pycontain", "server/packages", "sys", "tmp", "work",
    *(f"packages/{number}" for number in range(MOST_PACKAGES)),
)  # fmt: skip
_ETC = {
    "passwd": "root:x:0:0:root:/:/usr/sbin/nologin\n",
    "group": "root:x:0:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
# What threads need, and what compiled packages are allowed to expect: PEP 600.
_EXPECTED = (
    "libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1",
    "libutil.so.1", "libm.so.6",
)  # fmt: skip
# Imports every compiled module, and prints what the dynamic loader has opened for them.
_PROBE = """
import ctypes, importlib, os, sys
for name in sorted(os.listdir(sys.argv[1])):
    try:
        importlib.import_module(name.partition(".")[0])
    except Exception:  # what it needs is not installed here, either
        pass
for name in sys.argv[2:]:
    try:
        ctypes.CDLL(name)
    except OSError:
        pass
import json
with open("/proc/self/maps") as maps:
    files = {line.split(maxsplit=5)[5].rstrip("\\n") for line in maps if line.count("/")}
print(json.dumps(sorted(file for file in files if ".so" in os.path.basename(file))))
"""


def python_root() -> str:
    """
    The path of the root file system, which is created if missing, and kept while this program runs.

    It is another one once the interpreter or its standard library were upgraded. If they were moved
    or removed, it is the last one.

    Raises HostError if others than root could change it, or if the interpreter has no standard
    library beside it.
    """
    with _lock:
        try:
            path = f"{BASE}/{_key()}"
        except FileNotFoundError as error:
            if not _found:
                why = "has been moved or removed since this program started"
                remedy = "start the program again"
                raise HostError(
                    why, at="the interpreter", value=str(error.filename), remedy=remedy
                ) from None
            return next(reversed(_found))
        if path not in _found:
            _found[path] = _taken(path)
        return path


_lock = threading.Lock()
_found: dict[str, int] = {}  # paths, each with a descriptor that has a shared lock

_sources: list[str] = []


def _taken(path: str) -> int:
    """A locked descriptor of the root, created if missing, so that others do not remove it."""
    base = open_directory(BASE, create=True)
    lock = open_lock(".", _DIRECTORY, dir_fd=base.fd)
    try:
        calls.lock(lock)
        if not os.path.isdir(path):
            _remove_unused()
            _make(path)
        taken = os.open(path, _DIRECTORY)  # a forked child uses the root, too
        fcntl.flock(taken, fcntl.LOCK_SH)
        os.utime(taken)
        return taken
    finally:
        close_locked(lock)


def _remove_unused() -> None:
    """Remove the roots of interpreters that no program has used for a month."""
    for entry in os.scandir(BASE):
        if entry.stat(follow_symlinks=False).st_mtime > time.time() - _KEPT:
            continue
        fd = open_lock(entry.path, _DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path)
        except BlockingIOError:
            continue  # a program that has run for that long
        finally:
            close_locked(fd)


def _key() -> str:
    """What the copies are made from: files, by their inodes and times, and our own code."""
    if not _sources:
        _sources.extend((_interpreter(), f"{_stdlib()}/os.py", _inside(), __file__))
    entries = [seal.entry(path, os.stat(path)) for path in _sources]
    return hashlib.sha256("//".join([*entries, sys.version]).encode()).hexdigest()[:16]


def _interpreter() -> str:
    return os.path.realpath(seal.own())


def _stdlib() -> str:
    return os.path.realpath(sysconfig.get_path("stdlib"))


def _inside() -> str:
    return os.path.join(os.path.dirname(__file__), "inside", "snippet.py")


def snippet_text() -> str:
    """`inside.snippet`, for an interpreter of an image."""
    with open(_inside(), encoding="utf-8") as file:
        return file.read()


def _make(path: str) -> None:
    made = f"{path}.new"
    shutil.rmtree(made, ignore_errors=True)  # of an earlier attempt that was interrupted
    for name in _EMPTY:
        os.makedirs(f"{made}/{name}", mode=0o755)
    for name, text in _ETC.items():
        _write(f"{made}/etc/{name}", text.encode())
    for name in ("bin", "lib", "lib64"):
        os.makedirs(f"{made}/usr/{name}", mode=0o755)
        os.symlink(f"usr/{name}", f"{made}/{name}")
    _copy(_interpreter(), f"{made}{PYTHON}")
    _copy_library(f"{made}/usr/lib/{_LIBRARY}")
    _copy_loader(made)
    for file in _shared_libraries():
        _copy(file, made + _place(file))
        for name in _other_names(file):
            os.symlink(os.path.basename(file), f"{os.path.dirname(made + _place(file))}/{name}")
    _compile(made, f"/usr/lib/{_LIBRARY}")
    _compile_snippet(made + SNIPPET)
    os.rename(made, path)


def _copy_library(target: str) -> None:
    """The standard library; its files must not name the place on the host that they come from."""
    stdlib = _stdlib()
    if not os.path.isfile(f"{stdlib}/os.py"):
        raise HostError("has no standard library", at=_interpreter(), value=stdlib)
    shutil.copytree(
        stdlib,
        target,
        ignore=shutil.ignore_patterns(*_LEFT_OUT),
        ignore_dangling_symlinks=True,
    )
    prefix = sys.base_prefix.encode()
    for name in os.listdir(target):
        if name.startswith("_sysconfigdata") and prefix != b"/usr":
            with open(f"{target}/{name}", "rb") as file:
                text = file.read()
            _write(f"{target}/{name}", text.replace(prefix, b"/usr"))


def _compile(made: str, directory: str) -> None:
    """
    Compile a directory of the new root, under the names that its files have inside.

    In another process: this one may have threads, and compileall forks to use every processor.
    """
    flags = ["-q", "-q", "-j", "0", "-s", made, "-p", "/"]  # a module that is broken stays as it is
    subprocess.run(
        [_interpreter(), "-IS", "-m", "compileall", *flags, made + directory],
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _compile_snippet(target: str) -> None:
    """
    `inside.snippet`, without the import of `__future__`, which would take time at each start.

    What it switches on is a flag of the compiler, too. importlib: a header of 16 bytes, whose flags
    say that the source is not looked at (PEP 552).
    """
    text = snippet_text().replace("from __future__ import annotations\n", "\n")
    flags = __future__.annotations.compiler_flag
    code = compile(text, "snippet.py", "exec", flags, dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    _write(target, header + marshal.dumps(code))


def _shared_libraries() -> list[str]:
    """The files that the interpreter and its compiled modules load, without these modules."""
    modules = f"{_stdlib()}/lib-dynload"
    done = subprocess.run(
        [_interpreter(), "-IS", "-c", _PROBE, modules, *_EXPECTED],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    if done.returncode:
        why = "does not run with its standard library alone"
        raise HostError(why, at="the interpreter", value=_interpreter())
    loaded: list[str] = json.loads(done.stdout)
    return [file for file in loaded if os.path.dirname(file) != modules]


def _place(library: str) -> str:
    """Where a library is copied to: system directories are kept, others may be anyone's."""
    real, name = os.path.split(library)
    for top in ("/usr/lib/", "/usr/lib64/", "/lib/", "/lib64/"):
        if f"{real}/".startswith(top):
            return f"{'' if top.startswith('/usr') else '/usr'}{real}/{name}"
    return f"/usr/lib/{name}"


def _other_names(library: str) -> list[str]:
    """The links beside a library that lead to it: programs name it by one, such as libz.so.1."""
    directory = os.path.dirname(library)
    with os.scandir(directory) as entries:
        links = [entry.name for entry in entries if entry.is_symlink()]
    return [name for name in links if os.path.realpath(f"{directory}/{name}") == library]


def _copy_loader(made: str) -> None:
    """The dynamic loader, at the path that the interpreter names. elf(5), PT_INTERP."""
    with open(_interpreter(), "rb") as file:
        loader = elf.interpreter(file.fileno(), elf.Header(file.read(elf.HEADER_SIZE)))
    if loader:
        _copy(os.path.realpath(loader), made + _place(loader))


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as file:
        _write(target, file.read())
    os.chmod(target, 0o755)


def _write(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o644)
