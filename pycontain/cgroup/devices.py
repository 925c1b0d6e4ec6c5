"""Attach and detach the device filters that `plan.device_filter` generates. bpf(2)."""

from __future__ import annotations

from ..kernel import bpf
from ..kernel import const as c
from ..lean import os

_NAME = b"pycontain"  # by which `attach` recognizes its own programs


def attach(
    cgroup: int, code: bytes, *, first: bool = False, kept: dict[bytes, int] | None = None
) -> None:
    """
    Attach this program to a cgroup, in place of one that pycontain attached before.

    Programs of others, such as systemd's, stay: a device must pass all of them.

    cgroup  a descriptor of its directory
    first   whether no program of pycontain can be attached to it yet
    kept    a cache of loaded programs, code -> descriptor, to which this one is added

    Raises KernelError, with the verifier's message if there is one.
    """
    new = kept[code] if kept and code in kept else _load(code)
    old = -1
    try:
        if not first:
            old = bpf.attached(cgroup, c.BPF_CGROUP_DEVICE, _NAME)
        bpf.attach(cgroup, c.BPF_CGROUP_DEVICE, new, old)
    finally:
        if kept is None:
            os.close(new)  # the cgroup keeps the program loaded
        else:
            kept[code] = new
        if old >= 0:
            os.close(old)


def detach(cgroup: int) -> None:
    """Detach pycontain's filter, if any, from a cgroup that outlives the container."""
    program = bpf.attached(cgroup, c.BPF_CGROUP_DEVICE, _NAME)
    if program >= 0:
        try:
            bpf.detach(cgroup, c.BPF_CGROUP_DEVICE, program)
        finally:
            os.close(program)


def _load(code: bytes) -> int:
    return bpf.load(c.BPF_PROG_TYPE_CGROUP_DEVICE, code, _NAME)
