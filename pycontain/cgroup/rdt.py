"""
Classes of service of Intel RDT: directories of the file system resctrl.

Source: the kernel's documentation, filesystems/resctrl; config-linux.md, IntelRdt.
"""

from __future__ import annotations

import errno

from ..errors import HostError, KernelError, StateError
from ..kernel.files import read_text
from ..kernel.mounts import mounted
from ..lean import os
from ..spec.rdt_rules import DEFAULT_CLASS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_AT = "linux.intelRdt"
_HEXADECIMAL = ("L2", "L3")  # and L3CODE, L3DATA: masks of bits; others are decimal


def find_mount() -> str:
    """Where resctrl is mounted. Raises HostError."""
    for _, point, kind, _ in mounted():
        if kind == "resctrl":
            return point
    raise HostError(
        "needs resctrl, which is not mounted",
        at=_AT,
        remedy="mount -t resctrl resctrl /sys/fs/resctrl, on a CPU that has Intel RDT",
    )


class Group:
    """
    A class of service, and the monitoring group in it.

    directory  the class's
    monitor    the monitoring group's, "" for none
    """

    def __init__(self, name: str, id: str, *, monitored: bool) -> None:
        """Raises HostError without resctrl."""
        mount = find_mount()
        self.directory = mount if name == DEFAULT_CLASS else os.path.join(mount, name or id)
        self.monitor = os.path.join(self.directory, "mon_groups", id) if monitored else ""

    def make(self, name: str, lines: tuple[str, ...], record: Callable[[list[str]], None]) -> None:
        """
        Create what is missing; `record` gets the directories to remove later, before they exist.

        A class named by closID belongs to the user, and is kept. Raises StateError if it does not
        exist and there are no schemata to create it with, or if it has other schemata.
        """
        exists = os.path.exists(self.directory)
        if not exists and name and not lines:
            raise StateError("does not exist", at=f"{_AT}.closID", value=name, remedy=_REMEDY)
        own = [self.directory] if not exists and not name else []
        record([*own, *([self.monitor] if self.monitor else [])])
        if exists:
            self._compare(lines)
        else:
            _make(self.directory)
            try:
                self.write(lines)
            except KernelError:
                os.rmdir(self.directory)
                raise
        if self.monitor:
            _make(self.monitor)

    def write(self, lines: tuple[str, ...]) -> None:
        """Write the schemata. Raises KernelError with the kernel's own message."""
        if not lines:
            return
        text = "".join(f"{line}\n" for line in lines)
        try:
            _write(f"{self.directory}/schemata", text)
        except OSError as error:
            failed = KernelError.of("write schemata", error.errno or 0, _AT)
            failed.fault.value = "; ".join(lines)
            failed.fault.remedy = self._why()
            raise failed from None

    def join(self, pid: int) -> None:
        """Put a process into the class, and into the monitoring group."""
        for folder in (self.directory, self.monitor):
            if folder:
                try:
                    _write(f"{folder}/tasks", str(pid))
                except OSError as error:
                    raise KernelError.of("write tasks", error.errno or 0, folder) from None

    def _compare(self, lines: tuple[str, ...]) -> None:
        current = _values(read_text(f"{self.directory}/schemata"))
        configured = _values("\n".join(lines))
        for key, value in configured.items():
            if current.get(key) != value:
                name, domain = key
                raise StateError(
                    f"has another {name} for domain {domain} than the bundle",
                    at=f"{_AT}.closID",
                    value=os.path.split(self.directory)[1],
                    remedy="use another closID, or leave the schemata out",
                )

    def _why(self) -> str:
        """The last error message of resctrl; "" if there is none."""
        try:
            mount = os.path.dirname(self.directory)
            return read_text(f"{mount}/info/last_cmd_status").strip()
        except (OSError, KernelError):
            return ""


_REMEDY = "create it, or set l3CacheSchema, memBwSchema or schemata to create it with"


def _values(text: str) -> dict[tuple[str, str], str | int]:
    """(resource, domain) -> value of schemata, which can be padded."""
    values: dict[tuple[str, str], str | int] = {}
    for line in text.splitlines():
        name, _, rest = line.strip().partition(":")
        base = 16 if name.startswith(_HEXADECIMAL) else 10
        for part in rest.split(";"):
            domain, equals, value = part.strip().partition("=")
            if equals:
                values[name, domain] = _number(value.strip(), base)
    return values


def _number(text: str, base: int) -> str | int:
    try:
        return int(text, base)
    except ValueError:
        return text


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o755)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            why = "cannot be created: the CPU has no more classes of service"
            raise HostError(why, at=path, errno=errno.ENOSPC) from None
        raise KernelError.of("mkdir", error.errno or 0, path) from None


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
