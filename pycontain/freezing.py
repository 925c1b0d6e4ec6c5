"""A module's code without docstrings and types: what `frozen.write` puts into its file."""

from __future__ import annotations

import ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import TypeVar

    Body = TypeVar("Body", ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_of(source: str) -> CodeType:
    """The code of a source file, lean."""
    with open(source, "rb") as file:
        tree = ast.parse(file.read(), source)
    return compile(_Lean().visit(tree), source, "exec", dont_inherit=True)


class _Lean(ast.NodeTransformer):
    """
    Drops docstrings, annotations of functions and `if TYPE_CHECKING` blocks.

    Annotations of classes stay: records are made of them.
    """

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

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(inner) for inner in node.orelse]
        return self.generic_visit(node)


def _without_docstring(node: Body) -> Body:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node.body[0])]
    return node
