"""The rules of CONTRIBUTING.md that a program can check on the syntax trees of the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pycontain"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "_ffi.py")  # generated
SCREEN = 60
PAGE = 500

# A file may import from its own folder and from those with a lower number ...
LAYERS = {
    "lean": -1,
    "result": 0,
    "errors": 1,
    "kernel": 2, "spec": 2, "options": 2, "units": 2,
    "wire": 3, "state": 3, "hooks": 3, "plan": 3,
    "vm": 3, "cgroup": 4, "init": 4,
    "launch": 5,
    "runtime": 6,
    "image": 7,
    "library": 8, "compare": 8,
    "sandbox": 9,
    "cli": 10,
    "__main__": 11, "__init__": 11,
}  # fmt: skip

# ... except that plans are computed without the kernel, and the child never parses.
NEVER = {
    "plan": ("kernel",),
    "init": ("spec",),
    "hooks": ("spec",),
}
NUMBERS = "kernel.const"  # constants may be imported everywhere

HEAVY = {
    "argparse", "asyncio", "concurrent", "contextlib", "ctypes", "dataclasses", "enum", "functools",
    "inspect", "ipaddress", "json", "logging", "multiprocessing", "pathlib", "pyroute2",
    "re", "rich", "shutil", "signal", "socket", "struct", "subprocess", "tempfile", "threading",
    "traceback", "typer", "typing", "uuid",
}  # fmt: skip
COMFORTABLE = {  # for interactive use, or not used for every container
    "cli/shebang.py", "cli/completion.py", "cli/helptext.py", "cli/launcher.py", "cli/manual.py",
    "launch/netdevices.py", "cli/pack.py", "cli/render.py", "cli/replacing.py", "cli/setup.py", "cli/vm.py",
    "library/aio.py", "library/call.py", "library/cancel.py", "library/container.py",
    "library/pool.py", "library/process.py", "library/stream.py", "library/streams.py",
    "runtime/doctor.py",
}  # fmt: skip


def name_of(path):
    return str(path.relative_to(PACKAGE))


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(path):
    """(module, whether only type checkers see it, whether importing the file imports it)."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])

    def walk(node, typing_only, at_import):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, typing_only, at_import
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*base, *([child.module] if child.module else [])])
                for alias in child.names:
                    submodule = ROOT.joinpath(*module.split("."), f"{alias.name}.py").exists()
                    folder = ROOT.joinpath(*module.split("."), alias.name).is_dir()
                    full = f"{module}.{alias.name}" if submodule or folder else module
                    yield full, typing_only, at_import
            elif is_type_checking(child):
                for inner in child.body:
                    yield from walk(ast.Module([inner], []), True, at_import)
                for inner in child.orelse:
                    yield from walk(ast.Module([inner], []), typing_only, at_import)
            else:
                function = isinstance(child, (ast.FunctionDef, ast.Lambda))
                yield from walk(child, typing_only, at_import and not function)

    yield from walk(ast.parse(path.read_text()), False, True)


def broken_layers(path):
    """The imports of one file that go up, across, or into a folder that its own must not use."""
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for module, typing_only, _ in imports(path):
        first, _, inside = module.partition(".")
        other = inside.partition(".")[0]
        if first != "pycontain" or not other or other == own:
            continue
        if LAYERS[other] >= LAYERS[own]:
            yield f"{name_of(path)} imports {module}"
        forbidden = other in NEVER.get(own, ()) and inside != NUMBERS
        if forbidden and not typing_only:
            yield f"{name_of(path)} imports {module}"


def functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


every_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)


def test_the_sources_to_check_are_found():
    assert PACKAGE / "errors.py" in SOURCES


@every_source
def test_imports_go_down_the_layers(path):
    assert list(broken_layers(path)) == []


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def cycle(graph):
    """Modules that need each other to be imported, in the order of their imports; [] if none do."""
    done, path = set(), []

    def follow(module):
        if module in path:
            return [*path[path.index(module) :], module]
        path.append(module)
        for other in sorted(graph.get(module, set()) - done):
            if found := follow(other):
                return found
        done.add(path.pop())
        return []

    return next(filter(None, map(follow, sorted(graph))), [])


def test_no_modules_import_each_other():
    graph = {
        module_of(path): {
            module
            for module, typing_only, at_import in imports(path)
            if at_import and not typing_only and module != module_of(path)
        }
        for path in SOURCES
    }
    assert cycle(graph) == []


def test_a_cycle_of_imports_is_detected():
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "d": {"b"}}) == ["b", "d", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_every_package_has_its_layer():
    folders = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in SOURCES}
    assert folders <= LAYERS.keys()


@every_source
def test_nothing_heavy_is_imported_on_the_engines_path(path):
    comfortable = ("vm/", "compare/", "image/", "sandbox/")
    if name_of(path) in COMFORTABLE or name_of(path).startswith(comfortable):
        return
    heavy = [
        module
        for module, typing_only, at_import in imports(path)
        if at_import and not typing_only and module.partition(".")[0] in HEAVY
    ]
    assert heavy == []


@every_source
def test_no_function_is_longer_than_a_screen(path):
    assert [name for name, lines in functions(path) if lines > SCREEN] == []


@every_source
def test_no_file_is_longer_than_500_lines(path):
    assert len(path.read_text().splitlines()) <= PAGE


@every_source
def test_annotations_are_never_evaluated(path):
    """Records read them as text, and evaluating them would cost time at each start."""
    body = [node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.Expr)]
    if body:
        assert ast.unparse(body[0]) == "from __future__ import annotations"


BREAKS = [
    ("spec/x.py", "from ..kernel import calls", True),
    ("spec/x.py", "from ..lean import jsontext", False),
    ("plan/x.py", "from ..kernel import const as c", False),
    ("plan/x.py", "from ..kernel import calls", True),
    ("plan/x.py", "from ..spec.records import Mount", False),
    ("kernel/x.py", "from ..plan import steps", True),
    ("init/x.py", "def late():\n    from ..spec.parse import parse", True),
    ("init/x.py", "if TYPE_CHECKING:\n    from ..spec.records import Mount", False),
    ("init/x.py", "if TYPE_CHECKING:\n    from ..launch.launch import Launch", True),
    ("init/x.py", "import pycontain.launch.fork", True),
    ("runtime/x.py", "from ..cli import table", True),
    ("cli/x.py", "from ..runtime.run import run", False),
    ("errors.py", "from .kernel import calls", True),
]


@pytest.mark.parametrize(("name", "text", "broken"), BREAKS)
def test_the_layer_rule_detects_violations(tmp_path, monkeypatch, name, text, broken):
    path = tmp_path / "pycontain" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for folder in LAYERS:
        (tmp_path / "pycontain" / folder).mkdir(exist_ok=True)
    (tmp_path / "pycontain" / "kernel" / "const.py").touch()
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "pycontain")
    assert bool(list(broken_layers(path))) == broken


LISTED = re.compile(r"^    ([a-z_]+)/? {2,}\S", re.M)


@pytest.mark.parametrize(
    "package", ["image", "init", "kernel", "launch", "library", "plan", "sandbox"]
)
def test_the_modules_that_a_package_lists_exist(package):
    directory = PACKAGE / package
    modules = {path.stem for path in directory.glob("*.py")} - {"__init__", "_ffi"}
    modules |= {path.parent.name for path in directory.glob("*/__init__.py")}
    docstring = ast.get_docstring(ast.parse((directory / "__init__.py").read_text()))
    assert docstring is not None
    listed = set(LISTED.findall(docstring))
    assert listed
    assert listed <= modules
