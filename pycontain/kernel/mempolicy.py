"""The memory policy of a process. set_mempolicy(2), <linux/mempolicy.h>."""

from __future__ import annotations

from ..errors import KernelError
from . import const as c
from ._ffi import ffi
from .calls import lib

_call = ffi.cast(
    "long(*)(long, int, const unsigned long *, unsigned long)", ffi.addressof(lib, "syscall")
)
_WORD = 64  # bits of an unsigned long, of which a mask of nodes is an array


def set_mempolicy(mode: int, nodes: tuple[int, ...], at: str) -> None:
    """Allocate this process's memory on these NUMA nodes; the mode contains the flags."""
    words = [0] * (max(nodes, default=0) // _WORD + 1)
    for node in nodes:
        words[node // _WORD] |= 1 << node % _WORD
    mask = ffi.new("unsigned long[]", words)
    bits = len(words) * _WORD + 1 if nodes else 0  # the kernel takes one less: the page's NOTES
    if _call(c.SYS_set_mempolicy, mode, mask if nodes else ffi.NULL, bits) < 0:
        raise KernelError.of("set_mempolicy", ffi.errno, at)
