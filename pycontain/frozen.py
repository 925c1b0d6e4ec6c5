"""
The package in one file, for starts in milliseconds.

Finding, opening and checking seventy modules costs Python more than running a container. `write`
puts their code into one file beside the byte code cache, without what only readers need, and
`install` makes `import` take modules from there. A module whose source has changed since is
imported in the ordinary way, so the file can be old or missing without harm.

    8 bytes   length of the index, little-endian
    index     marshal: {module: (package?, source, mtime in ns, size, offset, length)}
    code      marshal, at its offset from here
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import TypeAlias

    Entry: TypeAlias = tuple[bool, str, int, int, int, int]

_FOLDER = os.path.dirname(__file__)
_FILE = os.path.join(_FOLDER, "__pycache__", f"frozen.{sys.implementation.cache_tag}")
_HEAD = 8


def install() -> None:
    """Take the package's modules from the frozen file, if there is one."""
    try:
        fd = os.open(_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    length = int.from_bytes(os.read(fd, _HEAD), "little")
    sys.meta_path.insert(0, _Finder(fd, marshal.loads(os.read(fd, length)), _HEAD + length))


class _Finder:
    """A finder and loader, as importlib wants them."""

    def __init__(self, fd: int, index: dict[str, Entry], start: int) -> None:
        self.fd = fd
        self.index = index
        self.start = start

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """The module, unless its source is another by now."""
        entry = self.index.get(name)
        if entry is None:
            return None
        package, source, mtime, size, *_place = entry
        found = os.stat(source)
        if (found.st_mtime_ns, found.st_size) != (mtime, size):
            return None
        spec = ModuleSpec(name, self, origin=source, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def create_module(self, _: ModuleSpec) -> None:
        """Python makes the module object itself."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        *_, offset, length = self.index[module.__name__]
        code = marshal.loads(os.pread(self.fd, length, self.start + offset))
        exec(code, module.__dict__)  # noqa: S102


def write() -> str:
    """Freeze the package as it is now; returns the file. Raises OSError."""
    from .freezing import code_of

    index: dict[str, Entry] = {}
    codes: list[bytes] = []
    offset = 0
    for name, source in _sources():
        code = marshal.dumps(code_of(source))
        found = os.stat(source)
        package = source.endswith("__init__.py")
        index[name] = (package, source, found.st_mtime_ns, found.st_size, offset, len(code))
        codes.append(code)
        offset += len(code)
    head = marshal.dumps(index)
    os.makedirs(os.path.dirname(_FILE), exist_ok=True)
    half = f"{_FILE}.{os.getpid()}"
    with open(half, "wb") as file:
        file.write(len(head).to_bytes(_HEAD, "little") + head + b"".join(codes))
    os.replace(half, _FILE)
    return _FILE


def _sources() -> list[tuple[str, str]]:
    """(module, source file) of the whole package, but for what runs before this."""
    found = []
    for folder, _, names in os.walk(_FOLDER):
        prefix = os.path.relpath(folder, os.path.dirname(_FOLDER)).replace(os.sep, ".")
        for name in names:
            module = f"{prefix}.{name.removesuffix('.py')}".removesuffix(".__init__")
            if name.endswith(".py") and module not in ("pycontain", "pycontain.frozen"):
                found.append((module, os.path.join(folder, name)))
    return found
