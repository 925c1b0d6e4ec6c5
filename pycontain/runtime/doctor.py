"""
Checks, by trying, whether this host has what containers need.

A problem is something that is missing or that we are not allowed to use; each is reported with what
it prevents and one remedy. Nothing here is on the engines' path.
"""

from __future__ import annotations

import errno
import os
import shutil

from ..cgroup import controllers, place
from ..errors import KernelError, PycontainError, fault_of, reason
from ..kernel import calls, seal
from ..kernel import const as c
from ..kernel._ffi import ffi
from ..lean.record import Record
from ..spec.names import CAPABILITIES
from ..vm import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal

    Status = Literal["ok", "missing", "denied"]

OK: Status = "ok"
MISSING: Status = "missing"  # this host does not have it
DENIED: Status = "denied"  # it may be there, but not for us

# What a problem prevents, the worst first.
EVERYTHING = "every container"
_SANDBOXES = "sandboxes, and limits without a delegated cgroup"
_LIMITS_OF_IT = "its limits"
_PROFILES = "seccomp profiles"
_RIGHTS = "giving them to a container"
_NAMESPACE = "namespaces of this kind"
_SPEED = "fast starts"
_MACHINES = "virtual machines, except emulated ones"
_RANKS = (
    EVERYTHING, _SANDBOXES, _LIMITS_OF_IT, _PROFILES, _RIGHTS, _NAMESPACE, _SPEED, _MACHINES, "",
)  # fmt: skip

_OLDEST_KERNEL = (5, 14)
_AS_ROOT = "use sudo"
_ANOTHER_KERNEL = "boot a kernel built with it"

_NAMESPACES = {
    "mount": c.CLONE_NEWNS,
    "pid": c.CLONE_NEWPID,
    "network": c.CLONE_NEWNET,
    "ipc": c.CLONE_NEWIPC,
    "uts": c.CLONE_NEWUTS,
    "cgroup": c.CLONE_NEWCGROUP,
    "time": c.CLONE_NEWTIME,
    "user": c.CLONE_NEWUSER,
}
_OPTIONAL = {"user", "time"}
_LIMITS = ("memory", "cpu", "cpuset", "pids", "io", "hugetlb", "rdma")
_V1_NAMES = {"io": "blkio"}

_ENGINES = {
    "podman": 'add to [engine.runtimes] in containers.conf: pycontain = ["{program}"]',
    "docker": 'add to "runtimes" in daemon.json: "pycontain": {{"path": "{program}"}}',
    "containerd": 'set in the options of a runc.v2 runtime: BinaryName = "{program}"',
}
_PROGRAM = "/usr/local/bin/pycontain"


class Finding(Record):
    """
    The outcome of one check.

    name      what was checked
    status    "ok", "missing" (this host does not have it) or "denied" (we are not allowed to)
    found     what was found
    prevents  what does not work because of a problem
    remedy    what can be done about it, or for an engine: how to make it use pycontain
    """

    name: str
    status: Status
    found: str
    prevents: str = ""
    remedy: str = ""


def examine() -> list[Finding]:
    """
    Run every check. The problems come first, sorted by what they prevent.

    A user without root privileges becomes root of a user namespace first, as for a container.
    """
    findings = [finding for check in _CHECKS for finding in check()]
    return sorted(findings, key=lambda finding: _RANKS.index(finding.prevents))


def is_ready(findings: Iterable[Finding]) -> bool:
    """Whether nothing prevents containers."""
    return all(finding.prevents != EVERYTHING for finding in findings)


# --- the kernel --------------------------------------------------------------------------------


def kernel(release: str = "") -> Iterator[Finding]:
    """The kernel's version."""
    release = release or os.uname().release
    major, minor = release.split(".")[:2]
    digits = minor[: len(minor) - len(minor.lstrip("0123456789"))]
    if (int(major), int(digits)) >= _OLDEST_KERNEL:
        yield Finding(name="kernel", status=OK, found=release)
    else:
        oldest = ".".join(map(str, _OLDEST_KERNEL))
        yield Finding(
            name="kernel", status=MISSING, found=release, prevents=EVERYTHING,
            remedy=f"boot Linux {oldest} or later",
        )  # fmt: skip


def user() -> Iterator[Finding]:
    """Whether we are root, or can become root of a new user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        yield Finding(name="user", status=OK, found="root")
        return
    prevents, namespace = _SANDBOXES, "root of a user namespace"
    try:
        _become_root(uid, gid)
    except (KernelError, OSError):
        prevents, namespace = EVERYTHING, "user namespaces are denied"
    yield Finding(
        name="user", status=DENIED, found=f"not root, but user {uid}: {namespace}",
        prevents=prevents, remedy=_AS_ROOT,
    )  # fmt: skip


def _become_root(uid: int, gid: int) -> None:
    """Enter a new user namespace, and a mount namespace of it, for good. user_namespaces(7)."""
    calls.unshare(c.CLONE_NEWUSER | c.CLONE_NEWNS)
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{file}", "w") as opened:
            opened.write(text)


def system_calls() -> Iterator[Finding]:
    """The newer system calls: a seccomp profile around this process may forbid them."""
    for name, attempt in _ATTEMPTS.items():
        try:
            attempt()
        except KernelError as error:
            yield _refused(name, error.errno, EVERYTHING)
        else:
            yield Finding(name=name, status=OK, found="works")


def _refused(name: str, number: int, prevents: str) -> Finding:
    """The finding for a system call that fails with this errno."""
    status, remedy = MISSING, _ANOTHER_KERNEL
    if number in (errno.EPERM, errno.EACCES):
        status, remedy = DENIED, _AS_ROOT
        if os.geteuid() == 0:
            remedy = "grant CAP_SYS_ADMIN, or relax the seccomp profile that pycontain runs under"
    elif number == errno.ENOSPC:
        status, remedy = DENIED, "raise its limit in /proc/sys/user"
    return Finding(name=name, status=status, found=reason(number), prevents=prevents, remedy=remedy)


def _try_openat2() -> None:
    os.close(calls.openat2(c.AT_FDCWD, "/", os.O_PATH, c.RESOLVE_IN_ROOT))


def _try_clone3() -> None:
    pid, pidfd = calls.clone3(0)
    if pid == 0:
        os._exit(0)
    os.close(pidfd)
    os.waitpid(pid, 0)


def _try_pidfd() -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        calls.send_signal(pidfd, 0)
    finally:
        os.close(pidfd)


def _try_close_range() -> None:
    beyond = 0x7FFF_FFFF  # no descriptor has this number
    calls.close_range(beyond, beyond)


def _try_mounts() -> None:
    """Create a detached file system and clone a mount; closing the descriptors removes both."""
    context = calls.fsopen("tmpfs")
    try:
        calls.fsconfig(context, c.FSCONFIG_CMD_CREATE)
        os.close(calls.fsmount(context, c.MOUNT_ATTR_NOEXEC))
    finally:
        os.close(context)
    # recursively: in a user namespace, mounts cannot be separated from each other
    # (mount_namespaces(7))
    tree = calls.open_tree(c.AT_FDCWD, "/", c.OPEN_TREE_CLONE | c.AT_RECURSIVE)
    try:
        calls.mount_setattr(tree, set=c.MOUNT_ATTR_RDONLY)
    finally:
        os.close(tree)


_ATTEMPTS: dict[str, Callable[[], None]] = {
    "openat2": _try_openat2,
    "clone3": _try_clone3,
    "pidfd": _try_pidfd,
    "close_range": _try_close_range,
    "mount API": _try_mounts,
}


def namespaces() -> Iterator[Finding]:
    """
    Each kind of namespace, created by a child that exits at once.

    Those that are denied are one finding, since they have one cause.
    """
    denied = []
    for kind, flag in _NAMESPACES.items():
        name = f"{kind} namespace"
        number = _unshare(flag)
        if number == errno.EPERM and kind != "user":
            denied.append(kind)
        elif number:
            yield _refused(name, number, _NAMESPACE if kind in _OPTIONAL else EVERYTHING)
        else:
            yield Finding(name=name, status=OK, found="works")
    if denied:
        name = f"{', '.join(denied)} namespaces"
        yield _refused(name, errno.EPERM, _NAMESPACE if set(denied) <= _OPTIONAL else EVERYTHING)


def _unshare(flag: int) -> int:
    """0, or the errno with which unshare fails in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            calls.unshare(flag)
        except KernelError as error:
            os._exit(error.errno)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def filesystems(file: str = "/proc/filesystems") -> Iterator[Finding]:
    """overlayfs, with which the interpreter is sealed and engines store images."""
    if "overlay" in _read(file).split():
        yield Finding(name="overlayfs", status=OK, found="works")
    else:
        yield Finding(
            name="overlayfs", status=MISSING, found="not loaded", prevents=_SPEED,
            remedy="modprobe overlay",
        )  # fmt: skip


# --- control groups ----------------------------------------------------------------------------


def cgroups(mountinfo: str = "/proc/self/mountinfo") -> Iterator[Finding]:
    """The cgroup2 mount, and the controllers for limits."""
    mounts = [point for point, _ in place.mounts("cgroup2", mountinfo)]
    if not mounts:
        yield Finding(
            name="cgroup v2", status=MISSING, found="not mounted", prevents=EVERYTHING,
            remedy="mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )  # fmt: skip
        return
    yield Finding(name="cgroup v2", status=OK, found=f"at {mounts[0]}")
    here = controllers.of(mounts[0])
    holders = {
        option: point for point, options in place.mounts("cgroup", mountinfo) for option in options
    }
    for name in _LIMITS:
        yield _controller(name, name in here, holders.get(_V1_NAMES.get(name, name), ""))


def _controller(name: str, here: bool, holder: str) -> Finding:
    title = f"{name} controller"
    if here:
        return Finding(name=title, status=OK, found="in cgroup v2")
    found, remedy = "not in this kernel", _ANOTHER_KERNEL
    if holder:
        found, remedy = f"in cgroup v1, at {holder}", "boot with cgroup_no_v1=all"
    return Finding(
        name=title, status=MISSING, found=found, prevents=_LIMITS_OF_IT,
        remedy=f"{remedy}, or run without these limits: --cgroup-missing warn",
    )  # fmt: skip


def init_system() -> Iterator[Finding]:
    """Whether systemd is the init system. sd_booted(3)."""
    booted = os.path.isdir("/run/systemd/system")
    found = "running" if booted else "not running: cgroups are created directly"
    yield Finding(name="systemd", status=OK, found=found)


# --- privileges and confinement ----------------------------------------------------------------


def capabilities(file: str = "/proc/self/status") -> Iterator[Finding]:
    """The bounding set: containers cannot have a capability that is missing from it."""
    fields = dict(line.split(":\t", 1) for line in _read(file).splitlines())
    bounding = int(fields["CapBnd"], 16)
    last = int(_read("/proc/sys/kernel/cap_last_cap"))
    missing = [
        name for name, number in CAPABILITIES.items()
        if number <= last and not bounding >> number & 1
    ]  # fmt: skip
    if not missing:
        yield Finding(name="capabilities", status=OK, found="all in the bounding set")
        return
    yield Finding(
        name="capabilities",
        status=DENIED,
        found=f"missing from the bounding set: {', '.join(missing)}",
        prevents=EVERYTHING if "CAP_SYS_ADMIN" in missing else _RIGHTS,
        remedy="run pycontain from a session that has them",
    )


def seccomp() -> Iterator[Finding]:
    """Seccomp in the kernel, and the library that compiles filters."""
    try:
        actions = _read("/proc/sys/kernel/seccomp/actions_avail").split()
    except FileNotFoundError:
        yield Finding(
            name="seccomp", status=MISSING, found="not in this kernel", prevents=_PROFILES,
            remedy=_ANOTHER_KERNEL,
        )  # fmt: skip
    else:
        yield Finding(name="seccomp", status=OK, found=", ".join(actions))
    try:
        library = ffi.dlopen("libseccomp.so.2")
    except OSError:
        yield Finding(
            name="libseccomp", status=MISSING, found="not installed", prevents=_PROFILES,
            remedy="install libseccomp2",
        )  # fmt: skip
    else:
        version = library.seccomp_version()  # points into the library: it must stay loaded
        found = f"{version.major}.{version.minor}.{version.micro}"
        yield Finding(name="libseccomp", status=OK, found=found)


def security_modules(file: str = "/sys/kernel/security/lsm") -> Iterator[Finding]:
    """The Linux security modules that are active."""
    try:
        found = _read(file)
    except OSError:
        found = "unknown: securityfs is not mounted"
    yield Finding(name="security modules", status=OK, found=found.strip().replace(",", ", "))


def interpreter() -> Iterator[Finding]:
    """Whether a container could overwrite Python through /proc/self/exe."""
    name = "interpreter"
    if seal.is_sealed():
        yield Finding(name=name, status=OK, found="sealed")
    elif os.geteuid() != 0:
        yield Finding(name=name, status=OK, found="sealed for root alone")
    else:
        yield _unsealed(name)


def _unsealed(name: str) -> Finding:
    try:
        seal.mounted(seal.own())
    except (PycontainError, OSError) as error:
        fault = fault_of(error)
        found = f"copied into memory at every create, run and exec: {fault.line()}"
        return Finding(
            name=name,
            status=MISSING,
            found=found,
            prevents=_SPEED,
            remedy=fault.remedy or "modprobe overlay",
        )
    return Finding(
        name=name, status=MISSING, prevents=_SPEED,
        found="not sealed: create, run and exec start it a second time, sealed",
        remedy=f"as root: python -m pycontain.cli.launcher {_PROGRAM}",
    )  # fmt: skip


# --- beside containers -------------------------------------------------------------------------


def kvm(device: str = "/dev/kvm", modules: str = "/sys/module") -> Iterator[Finding]:
    """The virtual machine interface, and what provides it."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        yield _without_kvm(device, error.errno or 0)
        return
    try:
        version = calls.ioctl(fd, abi.IOCTL["KVM_GET_API_VERSION"], 0, "KVM_GET_API_VERSION")
    finally:
        os.close(fd)
    found = f"API version {version}, by {_virtualisation(modules)}"
    if version == abi.API_VERSION:
        yield Finding(name="KVM", status=OK, found=found)
    else:
        yield Finding(
            name="KVM", status=MISSING, found=found, prevents=_MACHINES, remedy=_ANOTHER_KERNEL
        )


def _without_kvm(device: str, number: int) -> Finding:
    status, remedy = MISSING, "load kvm_intel or kvm_amd, or enable virtualization in the firmware"
    if number in (errno.EPERM, errno.EACCES):
        status, remedy = DENIED, "join the group that owns it, or use sudo"
    return Finding(
        name="KVM", status=status, found=f"{device} {reason(number)}", prevents=_MACHINES,
        remedy=remedy,
    )  # fmt: skip


def _virtualisation(modules: str) -> str:
    kinds = {"kvm_intel": "VT-x", "kvm_amd": "AMD-V", "kvm_pvm": "PVM, in software"}
    loaded = [kind for module, kind in kinds.items() if os.path.isdir(f"{modules}/{module}")]
    flags = set(_read("/proc/cpuinfo").split()) & {"vmx", "svm"}
    return ", ".join([*loaded, *(f"CPU flag {flag}" for flag in sorted(flags))]) or "the kernel"


def engines() -> Iterator[Finding]:
    """Container engines, and how to configure each to use pycontain."""
    for name, hint in _ENGINES.items():
        path = shutil.which(name)
        if path:
            remedy = hint.format(program=shutil.which("pycontain") or _PROGRAM)
            yield Finding(name=name, status=OK, found=path, remedy=remedy)
        else:
            yield Finding(name=name, status=OK, found="not installed")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


_CHECKS = (
    kernel,
    interpreter,  # before `user`, which may enter a user namespace
    user,
    system_calls,
    namespaces,
    filesystems,
    cgroups,
    init_system,
    capabilities,
    seccomp,
    security_modules,
    kvm,
    engines,
)
