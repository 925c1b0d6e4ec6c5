"""
Compile seccomp profiles to BPF programs with libseccomp, and cache the programs.

A profile of Docker's size takes libseccomp some 20 ms; reading its program from a file takes a
hundredth of that. Only the parent does either: the child makes one system call with the program.

Source: seccomp(2); seccomp_init(3) and the pages it refers to.
"""

from __future__ import annotations

import _stat as stat
import errno
from _blake2 import blake2b

from ..errors import HostError, SpecError, reason
from ..lean import os
from . import calls
from . import const as c
from ._ffi import ffi
from .safe_path import writable_by_others

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeAlias

    from .safe_path import Directory

    Comparison: TypeAlias = tuple[int, int, int, int]
    Rule: TypeAlias = tuple[int, tuple[str, ...], tuple[Comparison, ...]]
    Instruction: TypeAlias = tuple[int, int, int, int]  # struct sock_filter: code, jt, jf, k

    class Profile(Protocol):
        """The attributes of plan.seccomp.Profile."""

        @property
        def default(self) -> int: ...
        @property
        def architectures(self) -> tuple[int, ...]: ...
        @property
        def rules(self) -> tuple[Rule, ...]: ...


_LIBRARY = "libseccomp.so.2"
_AT = "linux.seccomp"

# <seccomp.h>
_SCMP_ARCH_X32 = 0x4000_003E
_SCMP_FLTATR_CTL_OPTIMIZE = 8
_NR_SCMP_ERROR = -1

# struct seccomp_data, seccomp(2)
_NR_OFFSET = 0
_ARCH_OFFSET = 4

_X32_SYSCALL_BIT = 0x4000_0000


def to_bpf(profile: Profile) -> bytes:
    """
    The profile's program, an array of struct sock_filter in this machine's byte order.

    Names that libseccomp does not know are ignored, since profiles are written for many kernels,
    and so are rules with the default action. Calls of other architectures than the native one and
    the listed ones kill the thread. Several rules for one call that compare the same arguments
    depend on how libseccomp merges them, which 2.5.4 does wrong for some orderings.

    Raises HostError if libseccomp is missing or cannot compile the profile, and SpecError if rules
    contradict each other or the program is longer than the kernel accepts.
    """
    library = _load()
    context = library.seccomp_init(profile.default)
    if not context:
        raise HostError("is an action unknown to libseccomp", at=_AT, value=f"{profile.default:#x}")
    try:
        _add_architectures(library, context, profile.architectures)
        if _add_rules(library, context, profile):  # libseccomp <= 2.5.4: no empty tree
            _search_by_tree(library, context)
        program = _export(library, context)
    finally:
        library.seccomp_release(context)
    program = _enosys_for_newer(library, profile) + program
    length = len(program) // ffi.sizeof("struct sock_filter")
    if length > c.BPF_MAXINSNS:
        why = f"needs {length} instructions; the kernel accepts {c.BPF_MAXINSNS}"
        raise SpecError(why, at=_AT, remedy="list fewer architectures or rules")
    return program


# --- what libseccomp does ----------------------------------------------------------------------


def _load() -> Any:
    try:
        return ffi.dlopen(_LIBRARY)
    except OSError:
        remedy = "install libseccomp 2.5 or later (Debian: libseccomp2), or remove linux.seccomp"
        raise HostError("cannot be loaded", at=_LIBRARY, remedy=remedy) from None


def _add_architectures(library: Any, context: Any, architectures: tuple[int, ...]) -> None:
    for index, architecture in enumerate(architectures):
        result = library.seccomp_arch_add(context, architecture)
        if result in (0, -errno.EEXIST):  # the native one is always present
            continue
        version = library.seccomp_version()
        raise HostError(
            "has a different byte order from this machine"
            if result == -errno.EDOM
            else f"is unknown to libseccomp {version.major}.{version.minor}.{version.micro}",
            at=f"{_AT}.architectures[{index}]",
            value=f"{architecture:#x}",
            remedy="remove it from the profile: nothing on this machine can use it",
        )


def _add_rules(library: Any, context: Any, profile: Profile) -> int:
    """Add the rules that have an effect; returns their number."""
    count = 0
    for action, names, comparisons in profile.rules:
        if action == profile.default:
            continue  # which libseccomp refuses as an error
        array = ffi.new("struct scmp_arg_cmp[]", list(comparisons))
        for name in names:
            number = library.seccomp_syscall_resolve_name(_encoded(name))
            if number == _NR_SCMP_ERROR:
                continue
            result = library.seccomp_rule_add_array(
                context, action, number, len(comparisons), array
            )
            if result == -errno.EEXIST:
                why = "has rules with different actions for the same case"
                raise SpecError(why, at=f"{_AT}.syscalls", value=name)
            _checked(result, "seccomp_rule_add_array", name)
            count += 1
    return count


def _search_by_tree(library: Any, context: Any) -> None:
    """
    Find the system call by binary search instead of comparing with one after the other.

    Faster for long profiles, and needed for short ones: when the list of an architecture begins
    with a call which that architecture lacks, libseccomp 2.5.4 does not load the call's number, and
    the rules of the list never apply.
    """
    result = library.seccomp_attr_set(context, _SCMP_FLTATR_CTL_OPTIMIZE, 2)
    _checked(result, "seccomp_attr_set", "CTL_OPTIMIZE")


def _export(library: Any, context: Any) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)  # libseccomp 2.5 exports to descriptors only
    try:
        _checked(library.seccomp_export_bpf(context, fd), "seccomp_export_bpf", "")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _checked(result: int, call: str, value: str) -> None:
    if result < 0:
        raise HostError(reason(-result), call=call, at=_AT, value=value, errno=-result)


def _encoded(name: str) -> bytes:
    return name.encode(
        errors="replace"
    )  # JSON can contain lone surrogates, the names of calls do not


# --- calls newer than the profile --------------------------------------------------------------


def _enosys_for_newer(library: Any, profile: Profile) -> bytes:
    """
    Instructions to put before the filter: ENOSYS for calls newer than any that the profile names.

    The author of the profile could not know those calls, and programs that try a new call before
    an old one only fall back on ENOSYS (runc#2151, moby#42680). A default action that allows
    calls, or already is ENOSYS, does not need this; a tracer or an agent
    handles new calls itself.
    """
    permissive = (
        c.SECCOMP_RET_ALLOW, c.SECCOMP_RET_LOG, c.SECCOMP_RET_TRACE, c.SECCOMP_RET_USER_NOTIF,
    )  # fmt: skip
    if profile.default & c.SECCOMP_RET_ACTION_FULL in permissive or profile.default == _ENOSYS:
        return b""
    names = {_encoded(name) for _, names, _ in profile.rules for name in names}
    architectures = dict.fromkeys((library.seccomp_arch_native(), *profile.architectures))
    instructions: list[Instruction] = []
    for architecture in reversed(architectures):
        newest = _newest(library, architecture, names)
        if newest >= 0:
            section = _section(architecture, newest, after=len(instructions))
            instructions = section + instructions
    return bytes(ffi.buffer(ffi.new("struct sock_filter[]", instructions)))


_ENOSYS = c.SECCOMP_RET_ERRNO | errno.ENOSYS


def _newest(library: Any, architecture: int, names: set[bytes]) -> int:
    """The highest number among these calls, or less than 0 when the architecture has none."""
    resolve = library.seccomp_syscall_resolve_name_arch
    numbers = [resolve(architecture, name) for name in names]
    newest = max(numbers, default=_NR_SCMP_ERROR)
    if any(-300 < number <= -101 for number in numbers):
        # Numbers that libseccomp invents for calls that some architectures make through
        # socketcall(2) and ipc(2). Their direct numbers (4.3 and 5.1) end at 402.
        newest = max(newest, 402)
    return newest


def _section(architecture: int, newest: int, after: int) -> list[Instruction]:
    """
    The check for one architecture, to be put before `after` instructions of other sections.

    x86-64 and x32 are one architecture to the kernel: bit 30 of the number tells them apart.
    """
    check: list[Instruction] = [
        (c.BPF_JGT_K, 0, 1, newest),
        (c.BPF_RET_K, 0, 0, _ENOSYS),
        (c.BPF_JA, 0, 0, after),
    ]
    if architecture == c.AUDIT_ARCH_X86_64:
        check.insert(0, (c.BPF_JSET_K, len(check), 0, _X32_SYSCALL_BIT))
    if architecture == _SCMP_ARCH_X32:
        architecture = c.AUDIT_ARCH_X86_64
        check.insert(0, (c.BPF_JSET_K, 0, len(check), _X32_SYSCALL_BIT))
    return [
        (c.BPF_LD_W_ABS, 0, 0, _ARCH_OFFSET),
        (c.BPF_JEQ_K, 0, 1 + len(check), architecture),
        (c.BPF_LD_W_ABS, 0, 0, _NR_OFFSET),
        *check,
    ]


# --- the cache ---------------------------------------------------------------------------------
#
# A file contains a digest, a line that identifies the libseccomp used, and the program:
#
#     32 bytes   BLAKE2b of the rest, keyed with the profile's key
#     text       path, modification time (ns) and size of the library, and a line feed
#     the rest   struct sock_filter[]
#
# With the line one stat(2) proves that the library on disk is still the same, so a hit does not
# load it. The digest proves both that the file is complete and that it is this profile's.

_FORMAT = b"pycontain bpf 1"  # increment if to_bpf compiles the same profile to another program


def compiled(profile: Profile, key: bytes, directory: str, parent: Directory) -> bytes:
    """
    The profile's program from the cache in this directory, compiled and added if missing.

    key        plan.seccomp.key() of the profile
    directory  its path, of which only the name is used; created if missing (0700)
    parent     the directory that it is in, which is ours (`kernel.safe_path`)

    Files that are damaged, owned by another user, or compiled by another libseccomp are replaced.

    Raises HostError for a directory that others can write to, OSError when it cannot be read, and
    what to_bpf raises.
    """
    fd = _open_directory(directory, parent)
    try:
        program = _look_up(fd, key)
        if program is None:
            program = to_bpf(profile)
            try:
                _keep(fd, key, program)
            except OSError:
                pass  # disk full, or no O_TMPFILE there: the next container compiles again
        return program
    finally:
        os.close(fd)


def _open_directory(path: str, parent: Directory) -> int:
    name = os.path.split(path)[1]
    try:
        os.mkdir(name, 0o700, dir_fd=parent.fd)
    except FileExistsError:
        pass
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=parent.fd)
    if not _is_ours(os.fstat(fd)):
        os.close(fd)
        why = "belongs to another user, or others can write to it"
        raise HostError(why, at=path, remedy="remove it: a new one will be created")
    return fd


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not writable_by_others(status)


def _place(key: bytes) -> str:
    """The file's name: one of 4096, so that the cache cannot grow without end."""
    return key.hex()[:3]


def _look_up(directory: int, key: bytes) -> bytes | None:
    """The program of this key, or None."""
    content = _read(directory, _place(key))
    if content is None:
        return None
    digest, rest = content[:32], content[32:]
    stamp, _, program = rest.partition(b"\n")
    return program if digest == _digest(key, rest) and _is_current(stamp) else None


def _read(directory: int, name: str) -> bytes | None:
    """The content of a regular file of ours, or None."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        return file.read() if stat.S_ISREG(status.st_mode) and _is_ours(status) else None


def _keep(directory: int, key: bytes, program: bytes) -> None:
    """Store a program, completely or not at all, and leave nothing behind on failure."""
    rest = _stamp(_library_path()) + b"\n" + program
    fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory)
    with open(fd, "wb", buffering=0) as file:
        file.write(_digest(key, rest) + rest)
        try:
            os.unlink(_place(key), dir_fd=directory)
        except FileNotFoundError:
            pass
        try:
            os.link(f"/proc/self/fd/{fd}", _place(key), dst_dir_fd=directory)
        except FileExistsError:
            pass  # another process was faster; its program is as good


def _digest(key: bytes, rest: bytes) -> bytes:
    return blake2b(rest, digest_size=32, key=key, person=_FORMAT).digest()


def _is_current(stamp: bytes) -> bool:
    """Whether the library that this stamp identifies still exists, unchanged."""
    try:
        return stamp == _stamp(stamp.rsplit(b" ", 2)[0])
    except FileNotFoundError:
        return False


def _stamp(library: bytes) -> bytes:
    """What distinguishes one build of the library from the next."""
    status = os.stat(library)
    return b"%s %d %d" % (library, status.st_mtime_ns, status.st_size)


def _library_path() -> bytes:
    """The path at which the dynamic loader found the library. dladdr(3)."""
    library = _load()  # kept until the end: an object without references is unloaded
    information = ffi.new("Dl_info *")
    calls.lib.dladdr(ffi.addressof(library, "seccomp_init"), information)
    return ffi.string(information.dli_fname)  # type: ignore[no-any-return]
