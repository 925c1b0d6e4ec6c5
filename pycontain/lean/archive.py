"""
The package's code in one archive file, for starts in milliseconds.

Finding, opening and checking seventy modules takes Python longer than running a container does. So
`cli.pack` writes their code to one file, and the first lines of the launcher run this module's code
from it. The modules that a command is known to need are stored together, in the order in which they
are imported: a few reads load them all. Others are loaded on first use. A module whose source has
changed since is imported in the ordinary way, so an archive that is outdated or missing does no
harm. Its name has the version of this package and of Python, its first bytes those of the byte
code: what an upgrade leaves behind is not read.

It is kept in the package's byte code cache, or, if that belongs to another user or cannot be
written to, in a cache of our own. It is read only if it and its directory belong to root, to the
package's owner or to us, and nobody else can write to them.

    4 bytes   the magic number of Python's byte code
    8 bytes   the length of the next part, little-endian
    marshal   (this module's code, groups, extensions, index)
              groups      {command: [(offset, length), ...]}
              extensions  {compiled module: its file}, which saves listing whole directories
              index       (offset, length)
    marshal   for each part of a group [(module, package?, source, mtime in ns, size, code), ...]
    marshal   for each module (package?, source, mtime in ns, size, code)
    marshal   the index: {module: (offset, length)}

Offsets count from the end of the second part, lengths are in bytes.
"""

from __future__ import annotations

import marshal
import sys
from posix import environ, geteuid, pread, preadv, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _frozen_importlib import ModuleSpec
    from collections.abc import Iterator
    from types import CodeType, ModuleType
    from typing import Any, TypeAlias

    Part: TypeAlias = tuple[int, int]
    Module: TypeAlias = tuple[str, bool, str, int, int, CodeType]
    Index: TypeAlias = dict[str, Part]

# No byte code is written: root's would end up wherever a user lets __pycache__ point. Isolated,
# without site-packages, and UTF-8 whatever the locale, which saves loading a locale. A single word,
# because a script's first line can pass only one argument.
FLAGS = "-BISXutf8"
PROGRAM = "pycontain.cli.fast:program"

_PACKAGE = __file__.removesuffix("lean/archive.py")

_Module = type(sys)


def file() -> str:
    """
    The path of the archive for this version of the package and of Python.

    It is in the package's byte code cache, unless there is one in the user's cache alone.
    """
    inside = f"{inner_directory()}/{name()}"
    return inside if _exists(inside) or not _exists(path := f"{cache()}/{name()}") else path


def name() -> str:
    """The name of the archive's file."""
    from .. import __version__

    return f"archive-{__version__}.{sys.implementation.cache_tag}"


def inner_directory() -> str:
    """The package's own directory for the archive."""
    return f"{_PACKAGE}lean/__pycache__"


def cache() -> str:
    """
    The directory for the archive in a cache of our own.

    That is /var/cache for root, and the user's by the XDG Base Directory Specification for others.
    """
    if geteuid() == 0:
        base = "/var/cache"
    else:
        base = environ.get(b"XDG_CACHE_HOME", b"").decode(errors="surrogateescape")
        if not base.startswith("/"):  # the specification: ignore relative paths
            base = environ.get(b"HOME", b"").decode(errors="surrogateescape") + "/.cache"
    return f"{base}/pycontain/code{_PACKAGE}".rstrip("/")


def _exists(path: str) -> bool:
    try:
        stat(path)
    except OSError:
        return False
    return True


def boot(path: str, main: str = PROGRAM) -> str:
    """
    Source code that loads the archive, if it exists, and calls a function.

    path is a statement that adds the package's directories to sys.path.
    """
    module, _, function = main.partition(":")
    return f"""\
{beginning(path)}\
from {module} import {function}
sys.exit({function}())
"""


def beginning(path: str = "pass") -> str:
    """Source code that loads the archive and sets `usable`: whether it could. path as in `boot`."""
    directory, _, last = file().rpartition("/")
    return f"""\
import gc, marshal, posix, sys
from _frozen_importlib_external import MAGIC_NUMBER
gc.disable()
for stream in 0, 1, 2:  # if one is closed, the next file opened would take its number
    try:
        posix.fstat(stream)
    except OSError:
        posix.set_inheritable(posix.open("/dev/null", posix.O_RDWR), True)
{path}
try:
    flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW
    directory = posix.open({directory!r}, flags | posix.O_DIRECTORY)
    file = posix.open({last!r}, flags | posix.O_NONBLOCK, dir_fd=directory)
    found = posix.fstat(file), posix.fstat(directory)
    posix.close(directory)
    owners = 0, posix.geteuid(), posix.stat({__file__!r}).st_uid
    usable = found[0].st_mode & 0o170000 == 0o100000 and posix.read(file, 4) == MAGIC_NUMBER
    for status in found:
        usable = usable and not status.st_mode & 0o022 and status.st_uid in owners
except OSError:
    usable = False
if usable:
    size = int.from_bytes(posix.read(file, 8), "little")
    code, *tables = marshal.loads(posix.read(file, size))
    scope = {{"__name__": "pycontain.lean.archive", "__file__": {__file__!r}}}
    exec(code, scope)
    scope["start"](file, 12 + size, *tables)
"""


def command(interpreter: str, main: str, *arguments: str) -> list[str]:
    """
    The command line that calls a function in another Python, with this one's import path.

    Our own directory need not be on it: an editable installation adds an import hook instead.
    """
    own = _PACKAGE.rpartition("/pycontain/")[0]
    path = sys.path if own in sys.path else [*sys.path, own]
    return [interpreter, FLAGS, "-c", boot(f"sys.path = {path!r}", main), *arguments]


def start(
    file: int, base: int, groups: dict[str, list[Part]], extensions: dict[str, str], index: Part
) -> None:
    """
    Load modules from the archive that was just opened, starting with those of this command.

    base  the position that offsets are relative to
    """
    finder = _Finder(file, base, extensions, index)
    sys.meta_path.insert(-1, finder)  # before the one that searches sys.path
    for word in sys.argv[1:]:
        if word in groups:
            return finder.preload(groups[word])


class _Spec:
    """What importlib reads of a loaded module's spec; cheaper than a ModuleSpec."""

    __slots__ = (
        "_uninitialized_submodules", "has_location", "loader", "name", "origin", "parent",
        "submodule_search_locations",
    )  # fmt: skip
    _initializing = False

    def __init__(self, name: str, parent: str, loader: _Finder, origin: str) -> None:
        self.name = name
        self.parent = parent
        self.loader = loader
        self.origin = origin
        self.has_location = True
        self.submodule_search_locations: list[str] | None = None
        self._uninitialized_submodules: list[str] = []  # importlib's own, since 3.11


class _Finder:
    """A finder and loader for importlib."""

    def __init__(self, file: int, base: int, extensions: dict[str, str], index: Part) -> None:
        self._file = file
        self._base = base
        self._extensions = extensions
        self._where = index
        self._index: Index = {}

    def preload(self, group: list[Part]) -> None:
        """Load modules without importlib, up to the first whose source has changed."""
        for name, package, source, mtime, size, code in self._modules(group):
            if name in sys.modules:
                continue
            if not _is_current(source, mtime, size):
                return
            parent, _, last = name.rpartition(".")
            module = _Module(name)
            module.__file__ = source
            module.__package__ = name if package else parent
            spec = _Spec(name, module.__package__, self, source)
            if package:
                module.__path__ = spec.submodule_search_locations = _paths(source)
            module.__spec__ = spec  # type: ignore[assignment]
            sys.modules[name] = module
            exec(code, module.__dict__)  # noqa: S102
            if parent in sys.modules:  # a package that imports its own modules is loaded after them
                setattr(sys.modules[parent], last, module)

    def _modules(self, group: list[Part]) -> Iterator[Module]:
        # one buffer for all reads: each new page would cost one to three microseconds
        space = memoryview(bytearray(max(length for _, length in group)))
        for offset, length in group:
            preadv(self._file, [space[:length]], self._base + offset)
            yield from marshal.loads(space[:length])

    def find_spec(self, name: str, *_where: object) -> ModuleSpec | None:
        """The spec of a module, unless its source has changed."""
        from _frozen_importlib import ModuleSpec

        if name in self._extensions and _is_ours(self._extensions[name]):
            return self._extension(name)
        if name.partition(".")[0] != "pycontain":
            return None
        self._index = self._index or marshal.loads(self._read(self._where))
        if name not in self._index:
            return None
        package, source, mtime, size, code = marshal.loads(self._read(self._index[name]))
        if not _is_current(source, mtime, size):
            return None
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=source, loader_state=code, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = _paths(source)
        return spec

    def _extension(self, name: str) -> ModuleSpec:
        from _frozen_importlib import ModuleSpec
        from _frozen_importlib_external import ExtensionFileLoader

        path = self._extensions[name]
        spec = ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)
        spec.has_location = True
        return spec

    def create_module(self, _: ModuleSpec) -> None:
        """Leave it to Python to create the module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        exec(module.__spec__.loader_state, module.__dict__)  # type: ignore[union-attr]  # noqa: S102

    def _read(self, part: Part) -> bytes:
        offset, length = part
        return pread(self._file, length, self._base + offset)


def _is_current(source: str, mtime: int, size: int) -> bool:
    try:
        status = stat(source)
    except FileNotFoundError:
        return False
    return status.st_mtime_ns == mtime and status.st_size == size


def _is_ours(extension: str) -> bool:
    """Whether a compiled module's file belongs to the current environment."""
    directory = extension.rpartition("/")[0]
    return directory in sys.path or directory.startswith(_PACKAGE)


def _paths(source: str) -> list[str]:
    return [source.removesuffix("/__init__.py")]
