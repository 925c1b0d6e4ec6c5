"""
The package in one file, for starts in milliseconds.

Finding, opening and checking seventy modules costs Python more than running a container, so
`freezing.write` puts their code into one file beside the byte code cache, and the launcher's first
lines run this module's code from it. Modules that a command is known to need are made at once, in
the order in which they were once imported; others when they are asked for. A module whose source
has changed since is imported in the ordinary way, so the file can be old or missing without harm.

    marshal   (this module's code, index, orders, extensions)
              index       {module: (package?, source, mtime in ns, size, offset, length)}
              orders      {command: [module, ...]}
              extensions  {compiled module: its file}, which saves listing whole directories
    marshal   each module's code, at its offset from here
"""

from __future__ import annotations

import marshal
import sys
from _frozen_importlib import ModuleSpec
from posix import pread, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader
    from types import ModuleType
    from typing import TypeAlias

    Entry: TypeAlias = tuple[bool, str, int, int, int, int]
    Index: TypeAlias = dict[str, Entry]

_Module = type(sys)


def file() -> str:
    """Where the frozen file is, for this version of Python."""
    return __file__.replace("frozen.py", f"__pycache__/frozen.{sys.implementation.cache_tag}")


def boot(path: str) -> str:
    """Source code that starts from the frozen file, if there is one, and runs the command line."""
    return f"""\
import gc, marshal, sys
gc.disable()
sys.path = {path}
try:
    file = open({file()!r}, "rb")
except FileNotFoundError:
    pass
else:
    code, *tables = marshal.load(file)
    scope = {{"__name__": "pycontain.frozen", "__file__": {__file__!r}}}
    exec(code, scope)
    scope["start"](file, *tables)
from pycontain.cli.fast import program
program()
"""


def start(
    file: BufferedReader, index: Index, orders: dict[str, list[str]], extensions: dict[str, str]
) -> None:
    """Take modules from the file that was just read, those of this command line at once."""
    finder = _Finder(file, index, extensions)
    sys.meta_path.insert(0, finder)
    for word in sys.argv[1:]:
        if word in orders:
            return finder.preload(orders[word])


class _Finder:
    """A finder and loader, as importlib wants them. loaded: the modules, as they were completed."""

    def __init__(self, file: BufferedReader, index: Index, extensions: dict[str, str]) -> None:
        self.file = file  # keeps the descriptor open
        self.fd = file.fileno()
        self.start = file.tell()
        self.index = index
        self.extensions = extensions
        self.loaded: list[str] = []

    def preload(self, names: list[str]) -> None:
        """Make modules without asking importlib, up to the first whose source has changed."""
        for name in names:
            if not self._is_current(name):
                return
            package, source, *_ = self.index[name]
            parent, _, last = name.rpartition(".")
            module = _Module(name)
            module.__file__ = source
            module.__package__ = name if package else parent
            if package:
                module.__path__ = [source.removesuffix("/__init__.py")]
            sys.modules[name] = module
            self.exec_module(module)
            if parent:
                setattr(sys.modules[parent], last, module)

    def _is_current(self, name: str) -> bool:
        _, source, mtime, size, *_ = self.index[name]
        found = stat(source)
        return (found.st_mtime_ns, found.st_size) == (mtime, size)

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """The module, unless its source is another by now."""
        if name in self.extensions:
            return self._extension(name)
        if name not in self.index or not self._is_current(name):
            return None
        package, source, *_ = self.index[name]
        spec = ModuleSpec(name, self, origin=source, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [source.removesuffix("/__init__.py")]
        return spec

    def _extension(self, name: str) -> ModuleSpec:
        from _frozen_importlib_external import ExtensionFileLoader

        path = self.extensions[name]
        spec = ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)
        spec.has_location = True
        return spec

    def create_module(self, _: ModuleSpec) -> None:
        """Python makes the module object itself."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        *_, offset, length = self.index[module.__name__]
        code = marshal.loads(pread(self.fd, length, self.start + offset))
        exec(code, module.__dict__)  # noqa: S102
        self.loaded.append(module.__name__)
