"""BPF programs, and the cgroups they are attached to. bpf(2), <linux/bpf.h>."""

from __future__ import annotations

import errno

from ..errors import KernelError
from ..lean import os
from . import calls
from . import const as c
from ._ffi import ffi

_LICENSE = b"Apache-2.0"  # no helper that needs the GPL is called
_LOG_SIZE = 65536  # bytes of the verifier's log
_MOST_PROGRAMS = 64  # of one attach type on one cgroup (BPF_CGROUP_MAX_PROGS)


def load(kind: int, code: bytes, name: bytes) -> int:
    """
    A descriptor of a program of this BPF_PROG_TYPE; code is an array of struct bpf_insn.

    Raises KernelError, with the last line of the verifier's log if it rejected the program.
    """
    instructions, license_text = ffi.from_buffer(code), ffi.new("char[]", _LICENSE)
    attributes = ffi.new("union bpf_attr *")
    attributes.prog_type = kind
    attributes.insn_cnt = len(code) // 8
    attributes.insns = _address(instructions)
    attributes.license = _address(license_text)
    attributes.prog_name = name
    try:
        return _load(attributes)
    except KernelError:
        return _load_with_log(attributes)


def _load(attributes: object) -> int:
    while True:
        try:
            return _bpf(c.BPF_PROG_LOAD, attributes, "PROG_LOAD")
        except KernelError as error:
            if error.errno != errno.EAGAIN:  # a signal interrupted the verifier
                raise


def _load_with_log(attributes: object) -> int:
    """Load it again with the verifier's log, which is too expensive to always ask for."""
    log = ffi.new("char[]", _LOG_SIZE)
    attributes.log_level = 1  # type: ignore[attr-defined]
    attributes.log_size = _LOG_SIZE  # type: ignore[attr-defined]
    attributes.log_buf = _address(log)  # type: ignore[attr-defined]
    try:
        return _load(attributes)
    except KernelError as error:
        lines = ffi.string(log).decode(errors="replace").splitlines()
        messages = [line for line in lines if line and not line.startswith("processed ")]
        if messages:
            error.fault.why += f": {messages[-1]}"
        raise


def attach(cgroup: int, kind: int, program: int, instead_of: int = -1) -> None:
    """
    Attach a program to a cgroup (BPF_F_ALLOW_MULTI: beside those of others), both by descriptor.

    `instead_of` is replaced atomically: one of the two is attached at any time (5.6).
    """
    attributes = ffi.new("union bpf_attr *")
    attributes.target_fd = cgroup
    attributes.attach_bpf_fd = program
    attributes.attach_type = kind
    attributes.attach_flags = c.BPF_F_ALLOW_MULTI
    if instead_of >= 0:
        attributes.attach_flags |= c.BPF_F_REPLACE
        attributes.replace_bpf_fd = instead_of
    _bpf(c.BPF_PROG_ATTACH, attributes, "PROG_ATTACH")


def detach(cgroup: int, kind: int, program: int) -> None:
    """Detach a program from a cgroup, both by descriptor."""
    attributes = ffi.new("union bpf_attr *")
    attributes.target_fd = cgroup
    attributes.attach_bpf_fd = program
    attributes.attach_type = kind
    _bpf(c.BPF_PROG_DETACH, attributes, "PROG_DETACH")


def attached(cgroup: int, kind: int, name: bytes) -> int:
    """A descriptor of the program of this name that is attached to a cgroup, or -1."""
    for number in _programs(cgroup, kind):
        attributes = ffi.new("union bpf_attr *")
        attributes.prog_id = number
        try:
            fd = _bpf(c.BPF_PROG_GET_FD_BY_ID, attributes, "PROG_GET_FD_BY_ID")
        except KernelError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
                continue  # hidden by SELinux, or just unloaded: in either case not ours
            raise
        if _name(fd) == name:
            return fd
        os.close(fd)
    return -1


def _programs(cgroup: int, kind: int) -> list[int]:
    """The ids of the programs of this kind on a cgroup."""
    ids = ffi.new("uint32_t[]", _MOST_PROGRAMS)
    attributes = ffi.new("union bpf_attr *")
    attributes.query.target_fd = cgroup
    attributes.query.attach_type = kind
    attributes.query.prog_ids = _address(ids)
    attributes.query.prog_cnt = _MOST_PROGRAMS
    _bpf(c.BPF_PROG_QUERY, attributes, "PROG_QUERY")
    return list(ids[0 : attributes.query.prog_cnt])


def _name(fd: int) -> bytes:
    info = ffi.new("struct bpf_prog_info *")
    attributes = ffi.new("union bpf_attr *")
    attributes.info.bpf_fd = fd
    attributes.info.info_len = ffi.sizeof("struct bpf_prog_info")
    attributes.info.info = _address(info)
    _bpf(c.BPF_OBJ_GET_INFO_BY_FD, attributes, "OBJ_GET_INFO_BY_FD")
    return bytes(ffi.string(info.name))


def _bpf(command: int, attributes: object, name: str) -> int:
    return calls.bpf(command, attributes, ffi.sizeof("union bpf_attr"), name)


def _address(data: object) -> int:
    return int(ffi.cast("uintptr_t", data))
