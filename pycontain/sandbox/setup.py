"""
What the programs of a sandbox find: their root file system, network, packages and variables.

`Sandbox` and `Pool` take the same arguments for it, and for the limits (`sandbox.limits`).
"""

from __future__ import annotations

import os

from ..errors import HostError, KernelError, StateError, UsageError, reason
from ..kernel.descriptors import close_owned
from ..kernel.root import Root
from ..lean.record import Record
from ..library import arguments
from ..runtime.host import may_contain
from . import configure, interpreter, root
from .container import Contained
from .image import Unpacked
from .limits import Held, Limits, limits
from .namespace import PLACE, ROOT
from .network import VARIABLES, Network
from .places import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from .files import Files
    from .limits import LimitArguments
    from .namespace import Namespace

    class SandboxArguments(LimitArguments, total=False):
        """What `Sandbox` and `Pool` take; `Sandbox` says what each means."""

        image: str | None
        rootfs: str | os.PathLike[str] | None
        python: bool | None
        packages: Sequence[str | os.PathLike[str]]
        network: Literal["host"] | Sequence[str] | None
        isolation: Literal["namespaces", "kvm", "emulate"]
        env: Mapping[str, str] | None
        record: str | os.PathLike[str] | None


FLAGS = "-BISXutf8"  # of our interpreter, which finds nothing but what it is given
_FLAGS_THERE = "-BIXutf8"  # of one in an image, which may have packages installed


class Wanted(Record):
    """What a caller wants, but for the limits."""

    image: str | None = None
    rootfs: str | os.PathLike[str] | None = None
    python: bool | None = None
    packages: Sequence[str | os.PathLike[str]] = ()
    network: Literal["host"] | Sequence[str] | None = None
    isolation: str = "namespaces"
    env: Mapping[str, str] | None = None
    record: str | os.PathLike[str] | None = None


class Setup:
    """
    What was given, checked, and the configurations of containers from it.

    limits  of each run
    held    which of them cgroup v2 holds
    rootfs  the directory of the root file system, "" for that of this interpreter
    record  the file for lines about runs, None for none
    """

    def __init__(self, given: SandboxArguments) -> None:
        """Raises UsageError, HostError, and TypeError for an argument that does not exist."""
        bounds = {name: value for name, value in given.items() if name in Limits.FIELDS}
        rest = {name: value for name, value in given.items() if name not in bounds}
        if unknown := set(rest) - set(Wanted.FIELDS):
            raise TypeError(f"a sandbox has no argument {', '.join(sorted(unknown))}")
        if not may_contain():
            remedy = "use sudo; pycontain.run and pycontain.Container work without root"
            raise HostError("needs root", at="a sandbox", remedy=remedy)
        self.limits = limits(**bounds)  # type: ignore[arg-type]
        wanted = Wanted(**rest)  # type: ignore[arg-type]
        _require_one(wanted)
        if wanted.image is not None and not isinstance(wanted.image, str):
            raise UsageError("is not the name of an image", at="image", value=repr(wanted.image))
        arguments.environment(wanted.env)
        self.record = wanted.record
        self.isolation = arguments.isolation(wanted.isolation)
        self.paths, self.packages = configure.packages(wanted.packages)
        self._allowed = None if wanted.network == "host" else places(wanted.network)
        self.held = Held()
        self._image = None if wanted.image is None else Unpacked(wanted.image)
        self.rootfs = "" if wanted.rootfs is None else os.path.abspath(wanted.rootfs)
        if self._image is not None:
            self.rootfs = self._image.rootfs
        self._root = _identity(self.rootfs) if self.rootfs else (0, 0)
        self._host = -1  # a descriptor of this program's network namespace, if it is wanted
        if wanted.network == "host":
            self._host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.env = {
            **(self._image.env if self._image is not None else {}),
            **(VARIABLES if self._allowed is not None else {}),
            **(wanted.env or {}),
        }

    def close(self) -> None:
        """Give it up."""
        close_owned(self, "_host")
        if self._image is not None:
            self._image.close()

    def _require_root(self) -> None:
        """Raises StateError if the path leads to another directory than it did."""
        if self.rootfs and _identity(self.rootfs) != self._root:
            why, remedy = "is another directory than it was", "make another sandbox"
            raise StateError(why, at="rootfs", value=self.rootfs, remedy=remedy)

    def has(self, path: str) -> bool:
        """Whether this is the path of a directory in the root file system."""
        place = os.open(self.rootfs or root.python_root(), os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(Root(place).open(path, os.O_PATH | os.O_DIRECTORY))
        except KernelError:
            return False
        finally:
            os.close(place)
        return path.startswith("/")

    def network(self) -> Network | None:
        """A new network of the places that are allowed, if that is wanted."""
        return None if self._allowed is None else Network(self._allowed)

    def joined(self, made: Network | None) -> list[int]:
        """A descriptor of the network namespace to join, if it is not a new one."""
        if made is not None:
            return [made.namespace]
        return [self._host] if self._host >= 0 else []

    def python(self, mode: str, imports: Sequence[str] = ()) -> list[str]:
        """The command that runs `inside.snippet`, which an image does not have as a file."""
        words = [mode, ":".join(self.paths), *imports]
        if not self.rootfs:
            return [root.PYTHON, FLAGS, root.SNIPPET, *words]
        return [interpreter.NAME, _FLAGS_THERE, "-c", root.snippet_text(), *words]

    def contained(
        self,
        args: Sequence[str],
        uid: int,
        chosen: Limits,
        files: Files,
        mounts: Namespace,
        joined: Network | None,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/work",
    ) -> Contained:
        """
        A run in a container of its own, which has not begun.

        chosen  its limits
        mounts  where its files are mounted
        joined  the network that it joins, if one was made
        """
        self._require_root()
        given = {**self.env, **(env or {})}
        if self.paths:
            given.setdefault("PYTHONPATH", ":".join(self.paths))
        none = "none" if self._host < 0 else "host"
        config = configure.configuration(
            ROOT if self.rootfs else root.python_root(), args, uid, chosen, self.held,
            env=given, cwd=cwd, network=none if joined is None else joined.path,
            mounts=[*_own_mounts(), *self.packages], plain_proc=bool(self.rootfs),
            isolation=self.isolation,
        )  # fmt: skip
        return Contained(config, mounts, files, chosen, self.held)


def _identity(directory: str) -> tuple[int, int]:
    """Which directory it is. Raises HostError."""
    try:
        found = os.stat(directory)
    except OSError as error:
        raise HostError(reason(error.errno or 0), at="rootfs", value=directory) from None
    return found.st_dev, found.st_ino


def _require_one(wanted: Wanted) -> None:
    """Raises UsageError unless at most one root file system was given."""
    given = [
        name
        for name, is_given in (
            ("image", wanted.image is not None),
            ("rootfs", wanted.rootfs is not None),
            ("python", wanted.python),
        )
        if is_given
    ]
    if len(given) > 1:
        raise UsageError("exclude each other", at=" and ".join(given), remedy="give one of them")
    if not given and wanted.python is False:
        raise UsageError("leaves no root file system", at="python", value="False")


def _own_mounts() -> list[configure.Json]:
    places = (("work", "/work"), ("tmp", "/tmp"), ("shm", "/dev/shm"))
    return [configure.bind(f"{PLACE}/{name}", place) for name, place in places]
