"""
The configuration of a sandbox's containers: the default one, with less.

Read-only root, no network but a loopback device, no capabilities, a user that nothing else on the
host has, and fewer system calls. The file systems that containers of one host share by accident
are left out: /sys, the message queues, and of /proc all but the processes.
"""

from __future__ import annotations

import os

from ..errors import UsageError
from ..lean import jsontext
from ..spec import default, system_calls
from ..spec.annotations import ISOLATION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .limits import Held, Limits

    Json = dict[str, object]

HOSTNAME = "sandbox"
MOST_PACKAGES = 10  # directories, for which a root file system has mount points
_TAKES_SPACE_UNCOUNTED = ("memfd_create", "memfd_secret", "msgget", "semget", "shmget")
_REACHES_OTHERS = ("name_to_handle_at", "process_vm_readv", "process_vm_writev", "ptrace")
_DENIED = frozenset((*_TAKES_SPACE_UNCOUNTED, *_REACHES_OTHERS, "personality", "syslog"))

# What a pool's first process needs: mounts, namespaces and users of its children.
SERVER_CAPABILITIES = ("NET_ADMIN", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN")


def configuration(
    rootfs: str,
    args: Sequence[str],
    uid: int,
    limits: Limits,
    held: Held,
    *,
    env: Mapping[str, str],
    cwd: str,
    network: str,
    mounts: Iterable[Json],
    plain_proc: bool,
    isolation: str = "namespaces",
) -> str:
    """
    The configuration of a container that runs a program of a sandbox, as text.

    network     "none", "host", or the path of a network namespace to join
    plain_proc  mount all of /proc, masked, as programs of an image may expect it
    isolation   what the program runs in
    """
    settings = default.Settings(
        env=environment(env),
        cwd=cwd,
        uid=uid,
        gid=uid,
        hostname=HOSTNAME,
        readonly=True,
        network="host" if network == "host" else "none",
        rlimits=tuple(held.rlimits(limits)),
        cap_drop=("ALL",),
        mounts=tuple(mounts),
        seccomp=profile(),
        **held.settings(limits),  # type: ignore[arg-type]
    )
    config = default.configuration(rootfs, args, settings)
    _narrow(config, plain_proc=plain_proc)
    if network.startswith("/"):
        _join(_part(config, "linux"), network)
    if isolation != "namespaces":
        _isolate(config, isolation)
    return jsontext.dumps(config)


def server(rootfs: str, args: Sequence[str], env: Mapping[str, str], mounts: Iterable[Json]) -> str:
    """The configuration of a pool's container, whose first process never runs untrusted code."""
    settings = default.Settings(
        env=environment(env),
        hostname=HOSTNAME,
        readonly=True,
        cap_drop=("ALL",),
        cap_add=SERVER_CAPABILITIES,
        mounts=tuple(mounts),
    )
    config = default.configuration(rootfs, args, settings)
    _narrow(config, plain_proc=False)
    return jsontext.dumps(config)


def environment(env: Mapping[str, str]) -> tuple[str, ...]:
    """NAME=VALUE of all variables of a sandbox."""
    usual = {"HOME": "/work", "USER": HOSTNAME, "LOGNAME": HOSTNAME, "LANG": "C.UTF-8"}
    return tuple(f"{name}={value}" for name, value in {**usual, **env}.items())


def profile() -> Json:
    """The filter of system calls."""
    if not _profile:
        _profile.update(_made_profile())
    return _profile


def _isolate(config: Json, isolation: str) -> None:
    """
    Put the program into a virtual machine, whose monitor has a jail of its own inside the filter.

    Limits of the address space would be about the monitor's; the memory is watched from outside.
    """
    config["annotations"] = {ISOLATION: isolation}
    made, process = profile(), _part(config, "process")
    rules, rlimits = made["syscalls"], process.get("rlimits", [])
    assert isinstance(rules, list)
    assert isinstance(rlimits, list)
    more = {"names": ["memfd_create"], "action": "SCMP_ACT_ALLOW"}
    _part(config, "linux")["seccomp"] = {**made, "syscalls": [*rules, more]}
    about_space = ("RLIMIT_AS", "RLIMIT_DATA")
    process["rlimits"] = [each for each in rlimits if each["type"] not in about_space]


_profile: Json = {}


def _made_profile() -> Json:
    made = system_calls.profile(())
    rules = made["syscalls"]
    assert isinstance(rules, list)
    for rule in rules:
        rule["names"] = [name for name in rule["names"] if name not in _DENIED]
    made["syscalls"] = [rule for rule in rules if rule["names"]]
    return made


def _narrow(config: Json, *, plain_proc: bool) -> None:
    """Leave out mounts that sandboxes would share, or that reveal the host."""
    kept = ("/proc", "/dev", "/dev/pts", "/dev/shm", *(("/sys",) if plain_proc else ()))
    found = config["mounts"]
    assert isinstance(found, list)
    bound = {mount["destination"] for mount in found if mount["type"] == "bind"}
    ours = [
        mount
        for mount in found
        if mount["type"] == "bind"
        or (mount["destination"] in kept and mount["destination"] not in bound)
    ]
    for mount in ours:
        if mount["destination"] == "/proc" and not plain_proc:
            mount["options"] = ["nosuid", "nodev", "noexec", "subset=pid"]
    config["mounts"] = ours
    if not plain_proc:
        linux = _part(config, "linux")
        linux["maskedPaths"], linux["readonlyPaths"] = [], []


def bind(source: str, destination: str, *options: str) -> Json:
    """A mount of a file or directory of the host."""
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["bind", "nosuid", "nodev", *options],
    }


def _join(linux: Json, path: str) -> None:
    """Have the container join a network namespace instead of making one."""
    namespaces = linux["namespaces"]
    assert isinstance(namespaces, list)
    for namespace in namespaces:
        if namespace["type"] == "network":
            namespace["path"] = path


def packages(directories: Sequence[str | os.PathLike[str]]) -> tuple[list[str], list[Json]]:
    """Where directories of Python packages are seen inside, and their mounts. Raises UsageError."""
    if isinstance(directories, (str, bytes)):
        raise UsageError("is not a list of directories", at="packages", value=repr(directories))
    if len(directories) > MOST_PACKAGES:
        raise UsageError(f"has more than {MOST_PACKAGES} directories", at="packages")
    for directory in directories:
        if not os.path.isdir(directory):
            raise UsageError("is not a directory", at="packages", value=os.fspath(directory))
    paths = [f"/packages/{number}" for number in range(len(directories))]
    return paths, [
        bind(os.path.realpath(directory), path, "ro")
        for directory, path in zip(directories, paths, strict=True)
    ]


def _part(config: Json, name: str) -> Json:
    found = config[name]
    assert isinstance(found, dict)
    return found
