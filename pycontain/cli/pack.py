"""
Write the archive that `lean.archive` reads: `python -m pycontain.cli.pack`.

The code is compiled without docstrings, annotations and the column numbers for tracebacks, which
are half of its size.
"""

from __future__ import annotations
import __future__

import ast
import fcntl
import marshal
import os
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import MAGIC_NUMBER

from ..errors import HostError
from ..kernel import safe_path
from ..kernel.safe_path import Directory
from ..lean import archive
from .replacing import replacing
from .table import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType
    from typing import TypeAlias, TypeVar

    from .table import Command

    Module: TypeAlias = tuple[str, bool, str, int, int, CodeType]
    Body = TypeVar("Body", ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

_DIRECTORY = os.path.dirname(os.path.dirname(archive.__file__))

# Prints what one command imports: the modules in the order in which they are completed, and the
# compiled ones with their files. It is not done for commands that only people use.
_TRACE = """
import marshal, posix, sys
sys.path = {path!r}
file = posix.open({half!r}, posix.O_RDONLY)
size = int.from_bytes(posix.pread(file, 8, 4), "little")
code, *tables = marshal.loads(posix.pread(file, size, 12))
scope = {{"__name__": "pycontain.lean.archive", "__file__": {archive!r}}}
exec(code, scope)
scope["start"](file, 12 + size, *tables)
finder = sys.meta_path[-2]
make = finder.exec_module
order = []
def exec_module(module):
    make(module)
    order.append(module.__name__)
finder.exec_module = exec_module
before = set(sys.modules)
import {modules}
compiled = {{
    name: module.__file__ for name, module in sys.modules.items()
    if name not in before and getattr(module, "__file__", "").endswith(".so")
}}
print((order, compiled))
"""


@contextmanager
def place(*, wait: bool = True) -> Iterator[str]:
    """
    The directory for the archive, created if missing; locked, so that one process writes at a time.

    That is the package's own, if that is ours to write to: anyone who can change a directory above
    it could change the package itself, so that is not checked. Otherwise it is one in our cache,
    above which nobody else may write. Raises BlockingIOError if it is locked and we should not
    wait, HostError, KernelError and OSError.
    """
    path = archive.inner_directory()
    package = os.path.dirname(path)
    if os.stat(package).st_uid == os.geteuid() and os.access(package, os.W_OK):
        directory = _inner(path)
    else:
        path = archive.cache()
        directory = safe_path.open_directory(path, create=True)
    lock = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory.fd)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield path
    finally:
        os.close(lock)
        directory.close()


def _inner(path: str) -> Directory:
    """The package's own directory, which from now on nobody else can write to."""
    try:
        os.mkdir(path)
    except FileExistsError:
        pass
    directory = Directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
    status = os.fstat(directory.fd)
    if status.st_uid != os.geteuid():
        raise HostError("belongs to another user", at=path, remedy="remove it")
    os.fchmod(directory.fd, 0o755)  # whatever the umask
    return directory


def pack(directory: str) -> str:
    """Pack the package that is running into this directory; returns the path. Raises HostError."""
    path = f"{directory}/{archive.name()}"
    # a new Python, which omits column numbers; with our own path, whatever started this one
    code = (
        f"import sys; sys.path = {_path()!r}; from pycontain.cli.pack import write; write({path!r})"
    )
    done = subprocess.run(
        (sys.executable, "-BISX", "no_debug_ranges", "-c", code),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise HostError(f"cannot be packed: {done.stderr.strip().rpartition(chr(10))[2]}", at=path)
    return path


def _path() -> list[str]:
    """Where we import from; an editable installation is not found by the path."""
    return [*sys.path, os.path.dirname(_DIRECTORY)]


def write(path: str) -> None:
    """Pack the current package, in the format that `lean.archive` describes. Raises OSError."""
    modules = _compile_all()
    orders: dict[str, list[str]] = {}
    extensions: dict[str, str] = {}
    with replacing(path, 0o644) as half:
        _put(half, {}, {}, modules)
        for command in COMMANDS.values():
            if command.calls.startswith("pycontain.runtime.") or command.enters:
                orders[command.name], compiled = _trace(half, command)
                extensions.update(compiled)
        _put(half, orders, extensions, modules)
    _remove_former(path)


def _remove_former(path: str) -> None:
    """Remove the archives of other versions for this Python, and halves of them."""
    directory, name = os.path.split(path)
    tag = f".{sys.implementation.cache_tag}."
    for other in os.listdir(directory):
        archived = other.startswith(("archive", ".archive")) and tag in f"{other}."
        if archived and other != name:
            os.unlink(f"{directory}/{other}")


def _compile_all() -> dict[str, Module]:
    """Every module with its code."""
    codes = {}
    for name, source in _sources():
        status = os.stat(source)
        package = source.endswith("__init__.py")
        code = _code_of(source)
        codes[name] = (name, package, source, status.st_mtime_ns, status.st_size, code)
    return codes


def _put(
    path: str,
    orders: dict[str, list[str]],
    extensions: dict[str, str],
    modules: dict[str, Module],
) -> None:
    """Write the parts that `lean.archive` describes."""
    parts = _Parts()
    groups = {
        command: [parts.add([modules[name] for name in names]) for names in _pieces(order)]
        for command, order in orders.items()
    }
    index = {name: parts.add(about) for name, *about in modules.values()}
    where = parts.add(index)
    head = marshal.dumps((_code_of(archive.__file__), groups, extensions, where))
    with open(path, "wb") as file:
        file.writelines((MAGIC_NUMBER, len(head).to_bytes(8, "little"), head, *parts.made))


def _pieces(order: list[str]) -> Iterator[list[str]]:
    """
    The modules of a command in pieces of some 50 KiB of code each.

    All are read into the same buffer: more pieces make it smaller, but what two pieces have in
    common, such as names, is stored twice.
    """
    size = 16  # modules
    return (order[start : start + size] for start in range(0, len(order), size))


class _Parts:
    """Marshalled values, concatenated."""

    def __init__(self) -> None:
        self.made: list[bytes] = []
        self.end = 0

    def add(self, value: object) -> tuple[int, int]:
        """Add a value; returns its offset and length."""
        data = marshal.dumps(value)  # type: ignore[arg-type]
        self.made.append(data)
        self.end += len(data)
        return self.end - len(data), len(data)


def _trace(half: str, command: Command) -> tuple[list[str], dict[str, str]]:
    modules = [
        f"pycontain.{name}" for name in ("cli.fast", "cli.engine_commands", "cli.log", "options")
    ]
    if command.enters:
        # how a run usually makes its child, and the others always (`plan.vfork`)
        way = "vfork" if command.name == "run" else "fork"
        modules += ["pycontain.kernel.seal", f"pycontain.launch.{way}"]
        modules += ["pycontain.launch.forked"] if way == "fork" else []
    if command.name == "run":  # its flags, which `table` makes when they are needed
        modules.append("pycontain.cli.image_flags")
    # the steps of most plans: the others are imported when a plan has one
    if command.name == "exec":  # most containers have a pid namespace
        modules += ["pycontain.plan.steps.joining", "pycontain.init.joining"]
        modules += [f"pycontain.{room}.joined_pids" for room in ("plan.steps", "init", "launch")]
    elif command.enters:
        modules += ["pycontain.plan.steps.filesystem", "pycontain.init.filesystem"]
    if command.name == "create":
        modules.append("pycontain.init.start")
    if command.name in ("pause", "resume"):
        modules.append("pycontain.cgroup.tree")
    modules += [name.partition(":")[0] for name in (command.calls, command.request) if name]
    code = _TRACE.format(
        path=sys.path, half=half, archive=archive.__file__, modules=", ".join(modules)
    )
    done = subprocess.run(
        (sys.executable, "-BIS", "-c", code), capture_output=True, text=True, check=True
    )
    order, compiled = ast.literal_eval(done.stdout)
    return order, compiled


def _sources() -> list[tuple[str, str]]:
    """(module, source file) of the whole package, except the two modules that pack and load it."""
    modules = []
    for directory, _, names in os.walk(_DIRECTORY):
        prefix = os.path.relpath(directory, os.path.dirname(_DIRECTORY)).replace(os.sep, ".")
        for name in names:
            module = f"{prefix}.{name.removesuffix('.py')}".removesuffix(".__init__")
            if name.endswith(".py") and module not in (
                "pycontain.lean.archive",
                "pycontain.cli.pack",
            ):
                modules.append((module, os.path.join(directory, name)))
    return modules


def _code_of(source: str) -> CodeType:
    """The code of a source file, stripped."""
    with open(source, "rb") as file:
        tree = ast.parse(file.read(), source)
    package = os.path.relpath(os.path.dirname(source), os.path.dirname(_DIRECTORY))
    stripped = _Strip(package.split(os.sep)).visit(tree)
    flags = __future__.annotations.compiler_flag
    code: CodeType = compile(stripped, source, "exec", flags=flags, dont_inherit=True)
    return code


class _Strip(ast.NodeTransformer):
    """
    Drops docstrings, annotations of functions, `if TYPE_CHECKING` blocks and future imports.

    Annotations of classes are kept: records get their fields from them. Imports become absolute,
    since a relative one is resolved each time.
    """

    def __init__(self, package: list[str]) -> None:
        self._package = package

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self.generic_visit(_without_docstring(node))

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self.generic_visit(_without_docstring(node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(_without_docstring(node))

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        """Drop future imports, for which the compiler gets a flag instead."""
        if node.module == "__future__":
            return None
        if node.level:
            above = self._package[: len(self._package) + 1 - node.level]
            node.module = ".".join((*above, node.module) if node.module else above)
            node.level = 0
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(inner) for inner in node.orelse]
        return self.generic_visit(node)


def _without_docstring(node: Body) -> Body:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node.body[0])]
    return node


def main() -> None:
    """Pack into the place for it."""
    with place() as directory:
        pack(directory)


if __name__ == "__main__":
    main()
