"""
A file system of a certain size for what one container writes: ext4 in a file, on a loop device.

The file is sparse: it takes only what is written. The device is released with the last mount of
the file system (LO_FLAGS_AUTOCLEAR), and so with the container, whoever ends it.

Source: loop(4); include/uapi/linux/loop.h, LOOP_CONFIGURE (Linux 5.8); mke2fs(8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ..errors import KernelError
from ..kernel.mounts import Tree
from . import tools

_CONTROL = "/dev/loop-control"
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
# struct loop_config: the descriptor, the block size, then struct loop_info64 with lo_flags in it
_CONFIG = struct.Struct("=II 5Q 3I I 64s 64s 32s 2Q 8Q")
_TRIES = 100  # another program may take the free device first


def file_system(path: str, size: int, attributes: int) -> Tree:
    """
    A detached mount of a new file system of `size` bytes, its own tables included, in a new file.

    Raises HostError without mkfs.ext4, and KernelError without loop devices or ext4.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
        tools.make_file_system(fd)
        device = _attached(fd)
        try:
            return Tree.new("ext4", (), attributes, source=f"/proc/self/fd/{device}")
        finally:
            os.close(device)  # detached here, unless it is mounted
    except OSError as error:
        raise KernelError.of("LOOP_CONFIGURE", error.errno or 0, path) from None
    finally:
        os.close(fd)


def _attached(file: int) -> int:
    """A descriptor of a loop device that shows a file. Raises OSError."""
    zeros = (0,) * 5
    config = _CONFIG.pack(
        file, 0, *zeros, 0, 0, 0, _LO_FLAGS_AUTOCLEAR, b"", b"", b"", 0, 0, *(0,) * 8
    )
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
                return device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    finally:
        os.close(control)
