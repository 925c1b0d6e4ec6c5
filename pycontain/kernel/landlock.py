"""Landlock: a process gives up the files, the network and the processes that it does not need."""

from __future__ import annotations

import errno

from ..errors import KernelError
from ..lean import os
from ._ffi import ffi
from .calls import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# numbers that are the same on all architectures; <linux/landlock.h>
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
_FILE = _WRITE_FILE | _READ_FILE | _TRUNCATE  # rights that a rule on a regular file may have
# directories, regular files, FIFOs, links; neither devices nor sockets
_REMOVE_AND_MAKE = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 12 | 1 << 13
_MAKE_SOCKET = 1 << 9
# version of the interface -> all rights on files that it knows: landlock(7)
_KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_KNOWN_TODAY = (1 << 16) - 1  # since 5
_TCP, _SCOPES = 0b11, 0b11  # bind and connect, since 4; abstract sockets and signals, since 6

_create = ffi.cast("long(*)(long, const void *, size_t, unsigned)", ffi.addressof(lib, "syscall"))
_add = ffi.cast("long(*)(long, int, int, const void *, unsigned)", ffi.addressof(lib, "syscall"))
_restrict = ffi.cast("long(*)(long, int, unsigned)", ffi.addressof(lib, "syscall"))


def version() -> int:
    """The version of the kernel's interface, 0 where there is none."""
    number: int = _create(_CREATE_RULESET, ffi.NULL, 0, _VERSION)
    return max(0, number)


def restrict(places: Iterable[tuple[int, bool, bool]], *, network: bool = False) -> None:
    """
    Let this thread, and what it starts, open nothing but what is beneath these descriptors.

    Each has whether it is a directory, and whether it may be changed. Nothing can be executed.
    Without network, TCP cannot be bound or connected (since Linux 6.7); with it, sockets can be
    made as files. Processes outside cannot be sent signals (since 6.12). no_new_privs must be set.
    Raises KernelError. landlock_restrict_self(2)
    """
    supported = _KNOWN.get(version(), _KNOWN_TODAY)
    ruleset = _ruleset(supported, 0 if network else _TCP)
    try:
        for fd, directory, writable in places:
            rights = _READ_FILE | _READ_DIR
            if writable:
                rights |= _FILE | _REMOVE_AND_MAKE | (_MAKE_SOCKET if network else 0)
            _allow(ruleset, fd, rights & supported & (-1 if directory else _FILE))
        if _restrict(_RESTRICT_SELF, ruleset, 0) < 0:
            raise KernelError.of("landlock_restrict_self", ffi.errno)
    finally:
        os.close(ruleset)


def _ruleset(supported: int, ports: int) -> int:
    number = version()
    fields = [supported, *([ports] if number >= 4 else []), *([_SCOPES] if number >= 6 else [])]
    attributes = ffi.new("uint64_t[]", fields)
    ruleset: int = _create(_CREATE_RULESET, attributes, 8 * len(fields), 0)
    if ruleset < 0:
        raise KernelError.of("landlock_create_ruleset", ffi.errno)
    return ruleset


def _allow(ruleset: int, fd: int, rights: int) -> None:
    # struct landlock_path_beneath_attr is packed
    rule = ffi.from_buffer(rights.to_bytes(8, "little") + fd.to_bytes(4, "little"))
    if _add(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0) < 0 and ffi.errno != errno.EBADFD:
        raise KernelError.of("landlock_add_rule", ffi.errno)
