"""The steps of the child from its creation to execve, except those for its file system."""

from __future__ import annotations

from .base import Step

# --- entering namespaces -----------------------------------------------------------------------


class Guard(Step):
    """From here on no code is loaded from any disk."""

    name = "guard"
    preserve_fds: int = 0

    def what(self) -> str:
        return "block imports, reset signals, mark descriptors close-on-exec"


class JoinKeyring(Step):
    """A new session keyring: the container cannot reach the caller's keys."""

    name = "keyring"

    def what(self) -> str:
        return "join a new session keyring"


class Unshare(Step):
    """Namespaces that the child itself must create."""

    name = "unshare"
    flags: int
    names: tuple[str, ...]

    def what(self) -> str:
        return f"unshare {', '.join(self.names)}"


class RaiseLoopback(Step):
    """A new network namespace starts with `lo` down."""

    name = "loopback"

    def what(self) -> str:
        return "bring lo up"


# --- names, parameters, terminal, hooks ----------------------------------------------------------


class WriteSysctls(Step):
    """Kernel parameters, through a private /proc."""

    name = "sysctl"
    settings: tuple[tuple[str, str, str], ...]  # (file below /proc/sys, value, JSON path)

    def what(self) -> str:
        return "set " + ", ".join(f"{file} = {value}" for file, value, _ in self.settings)


class SetHostname(Step):
    """The names of the UTS namespace; an empty one leaves the name unchanged."""

    name = "hostname"
    hostname: str = ""
    domainname: str = ""

    def what(self) -> str:
        names = (("host name", self.hostname), ("domain name", self.domainname))
        return "set " + ", ".join(f"{kind} {name}" for kind, name in names if name)


# --- the process -------------------------------------------------------------------------------


class StartSession(Step):
    """A new session, so that nothing can be typed into the caller's terminal."""

    name = "session"
    umask: int = 0o022

    def what(self) -> str:
        return f"start a session, set umask {self.umask:04o}"


class EnterDirectory(Step):
    """The working directory, created if missing."""

    name = "cwd"
    path: str
    make: bool = True

    def what(self) -> str:
        return f"change to {self.path} and check that it is inside the root"


class LoadSeccomp(Step):
    """The system call filter."""

    name = "seccomp"
    flags: int

    def what(self) -> str:
        return (
            f"install the system call filter (seccomp filter flags: {self.flags})"  # runc's words
        )


class BoundCapabilities(Step):
    """Capabilities that no program in the container may ever have are dropped."""

    name = "bounding set"
    keep: int  # bit mask
    last: int  # the highest capability the kernel knows

    def what(self) -> str:
        return f"keep the capabilities {self.keep:#x} in the bounding set"


class TakeUser(Step):
    """The process takes its groups, its gid and its uid."""

    name = "user"
    uid: int
    gid: int
    groups: tuple[int, ...] | None  # None where no process may set them
    takes_files: bool = False  # chown files among its streams; pipes and sockets always are

    def what(self) -> str:
        named = "unchanged" if self.groups is None else "none"
        groups = ",".join(map(str, self.groups or ())) or named
        return f"become uid {self.uid}, gid {self.gid}, groups {groups}"


class SetCapabilities(Step):
    """The four other sets, as bit masks."""

    name = "capabilities"
    effective: int
    permitted: int
    inheritable: int
    ambient: int

    def what(self) -> str:
        return (
            f"set capabilities: effective {self.effective:#x}, permitted {self.permitted:#x}, "
            f"inheritable {self.inheritable:#x}, ambient {self.ambient:#x}"
        )


class NoNewPrivileges(Step):
    """From here on, execve grants no privileges."""

    name = "no new privileges"

    def what(self) -> str:
        return "set no_new_privs"


class FindProgram(Step):
    """The program is looked up as the user it will run as, so that a missing one fails create."""

    name = "find program"
    args: tuple[str, ...]
    env: tuple[str, ...]

    def what(self) -> str:
        return f"look up {self.args[0]}"


class SetRlimits(Step):
    """Resource limits, while the process may still raise them."""

    name = "rlimits"
    limits: tuple[tuple[str, int, int, int, str], ...]  # (name, number, soft, hard, JSON path)

    def what(self) -> str:
        return "set " + ", ".join(f"{name} {soft}:{hard}" for name, _, soft, hard, _ in self.limits)


class RaiseRlimits(Step):
    """The hard limits of those set later, when the process may no longer raise them."""

    name = "hard limits"
    limits: tuple[tuple[str, int, int, str], ...]  # (name, number, hard, JSON path)

    def what(self) -> str:
        limits = ", ".join(f"{name} to {hard}" for name, _, hard, _ in self.limits)
        return f"raise where lower: {limits}"


class AwaitStart(Step):
    """Everything is set up except the program; the child continues at `start`."""

    name = "wait for start"

    def what(self) -> str:
        return "wait for `start`"


class Execute(Step):
    """The child becomes the program."""

    name = "execve"
    args: tuple[str, ...]
    env: tuple[str, ...]
    preserve_fds: int = 0
    listen_fds: int = 0
    listen_names: str = ""

    def what(self) -> str:
        return "execve " + " ".join(self.args)
