"""
Writing the frozen file that `frozen.py` reads: `python -m pycontain.freezing`.

Code is frozen without docstrings and types, and without the column numbers of tracebacks: they are
half of it.
"""

from __future__ import annotations

import ast
import marshal
import os
import subprocess
import sys

from . import frozen, jsontext
from .cli.table import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import TypeVar

    from .frozen import Index

    Body = TypeVar("Body", ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

_FOLDER = os.path.dirname(frozen.__file__)

# What one command imports: the modules as they are completed, and the compiled ones with their
# files. The commands of people may take their time.
_TRACE = """
import sys
sys.path = {path!r}
from pycontain import frozen, jsontext
code, index, orders, extensions = __import__("marshal").load(file := open({half!r}, "rb"))
frozen.start(file, index, {{}}, {{}})
finder = sys.meta_path[0]
before = set(sys.modules)
import pycontain.cli.fast, pycontain.runtime.options
if {enters!r}:
    import pycontain.kernel.seal
import {module}
compiled = {{
    name: module.__file__ for name, module in sys.modules.items()
    if name not in before and getattr(module, "__file__", "").endswith(".so")
}}
print(jsontext.dumps([["pycontain", *finder.loaded], compiled]))
"""


def write() -> str:
    """Freeze the package as it is now; returns the file. Raises OSError."""
    index, codes = _freeze()
    path = frozen.file()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    half = f"{path}.{os.getpid()}"
    orders: dict[str, list[str]] = {}
    extensions: dict[str, str] = {}
    try:
        _put(half, index, {}, {}, codes)
        for command in COMMANDS.values():
            if command.calls.startswith("pycontain.runtime.") or command.enters:
                module = command.calls.partition(":")[0]
                orders[command.name], compiled = _trace(half, module, command.enters)
                extensions.update(compiled)
        _put(half, index, orders, extensions, codes)
        os.replace(half, path)
    finally:
        if os.path.exists(half):
            os.unlink(half)
    return path


def _freeze() -> tuple[Index, list[bytes]]:
    """The index and the code of every module."""
    index: Index = {}
    codes: list[bytes] = []
    offset = 0
    for name, source in _sources():
        code = marshal.dumps(_code_of(source))
        found = os.stat(source)
        package = source.endswith("__init__.py")
        index[name] = (package, source, found.st_mtime_ns, found.st_size, offset, len(code))
        codes.append(code)
        offset += len(code)
    return index, codes


def _put(
    path: str,
    index: Index,
    orders: dict[str, list[str]],
    extensions: dict[str, str],
    codes: list[bytes],
) -> None:
    with open(path, "wb") as file:
        marshal.dump((_code_of(frozen.__file__), index, orders, extensions), file)
        file.writelines(codes)


def _trace(half: str, module: str, enters: bool) -> tuple[list[str], dict[str, str]]:
    code = _TRACE.format(path=sys.path, half=half, module=module, enters=enters)
    done = subprocess.run(
        (sys.executable, "-IS", "-c", code), capture_output=True, text=True, check=True
    )
    result = jsontext.loads(done.stdout)
    assert isinstance(result, list)
    order, compiled = result
    return order, compiled


def _sources() -> list[tuple[str, str]]:
    """(module, source file) of the whole package, but for what freezes it."""
    found = []
    for folder, _, names in os.walk(_FOLDER):
        prefix = os.path.relpath(folder, os.path.dirname(_FOLDER)).replace(os.sep, ".")
        for name in names:
            module = f"{prefix}.{name.removesuffix('.py')}".removesuffix(".__init__")
            if name.endswith(".py") and module not in ("pycontain.frozen", "pycontain.freezing"):
                found.append((module, os.path.join(folder, name)))
    return found


def _code_of(source: str) -> CodeType:
    """The code of a source file, lean."""
    with open(source, "rb") as file:
        tree = ast.parse(file.read(), source)
    return compile(_Lean().visit(tree), source, "exec", dont_inherit=True)


class _Lean(ast.NodeTransformer):
    """
    Drops docstrings, annotations of functions and `if TYPE_CHECKING` blocks.

    Annotations of classes stay: records are made of them.
    """

    def visit_Module(self, node: ast.Module) -> ast.AST:  # noqa: N802
        return self.generic_visit(_without_docstring(node))

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:  # noqa: N802
        return self.generic_visit(_without_docstring(node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:  # noqa: N802
        node.returns = None
        return self.generic_visit(_without_docstring(node))

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:  # noqa: N802
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(inner) for inner in node.orelse]
        return self.generic_visit(node)


def _without_docstring(node: Body) -> Body:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node.body[0])]
    return node


def main() -> None:
    """Freeze, in a Python that leaves out column numbers."""
    if "no_debug_ranges" in sys._xoptions:  # noqa: SLF001
        write()
    else:
        command = (sys.executable, "-X", "no_debug_ranges", "-m", "pycontain.freezing")
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
