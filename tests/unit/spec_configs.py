"""Configurations for the tests of spec/: a minimal one, one with everything, and edits."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

MINIMAL = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}}

_HOOK = {"path": "/bin/true", "args": ["true", "-v"], "env": ["A=b", "EMPTY="], "timeout": 5}

FULL = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "box",
    "domainname": "example.org",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "data", "type": "none", "source": "/srv", "options": ["rbind", "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "options": ["nosuid", "mode=1777", "tmpcopyup"]},
    ],
    "process": {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "cwd": "/",
        "env": ["PATH=/bin", "EMPTY=", "TWO=a=b"],
        "args": ["sh", ""],
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3], "username": "me"},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 18446744073709551615},
        ],
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        "noNewPrivileges": True,
        "apparmorProfile": "",
        "selinuxLabel": "",
        "oomScoreAdj": -1000,
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            "runtime": 10000,
            "deadline": 20000,
            "period": 30000,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
        "execCPUAffinity": {"initial": "0-1", "final": "0,1"},
    },
    "hooks": {
        "prestart": [_HOOK],
        "createRuntime": [_HOOK],
        "createContainer": [_HOOK],
        "startContainer": [_HOOK],
        "poststart": [_HOOK],
        "poststop": [_HOOK],
    },
    "annotations": {"org.example.key": "value", "org.example.empty": ""},
    "linux": {
        "namespaces": [
            {"type": "pid"},
            {"type": "network", "path": "/run/netns/a"},
            {"type": "mount"},
            {"type": "ipc", "path": ""},
            {"type": "uts"},
            {"type": "cgroup"},
            {"type": "time"},
        ],
        "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 999999999}, "boottime": {"secs": 3}},
        "devices": [
            {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438},
            {"type": "p", "path": "/dev/pipe"},
            {"type": "u", "path": "/dev/raw", "major": 162, "minor": 0, "uid": 0, "gid": 0},
        ],
        "cgroupsPath": "/a..b/c",
        "resources": {
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 10, "minor": -1, "access": "rw"},
                {"allow": True, "type": "b", "major": 8},
            ],
            "memory": {"limit": 1048576, "reservation": -1, "swap": 1048576, "swappiness": 100},
            "cpu": {
                "shares": 1024,
                "quota": 50000,
                "burst": 50000,
                "period": 100000,
                "cpus": "0-3,7",
                "mems": "0",
                "idle": 1,
            },
            "pids": {"limit": 0},
            "blockIO": {
                "weight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 9}, {"pageSize": "64KB", "limit": 0}],
            "rdma": {"mlx5_1": {"hcaHandles": 3}},
            "unified": {"memory.high": "max", "cgroup.max.depth": "3"},
        },
        "sysctl": {
            "net.ipv4.ip_forward": "1",
            "net/ipv4/conf/eth0.100/rp_filter": "1",
            "kernel.shm_rmid_forced": "1",
            "fs.mqueue.msg_max": "5",
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_SHEB"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 5, "value": 0, "op": "SCMP_CMP_EQ"}],
                },
                {"names": ["clone3"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535},
            ],
        },
        "rootfsPropagation": "slave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "personality": {"domain": "LINUX32", "flags": []},
    },
}


def steps(path: str) -> list[str | int]:
    """The keys of a JSON path: "a.b[0][c.d]" is a, b, 0, c.d."""
    found: list[str | int] = []
    while path:
        if path[0] == "[":
            inside, path = path[1:].split("]", 1)
            found.append(int(inside) if inside.isdecimal() else inside)
        else:
            end = min((path.find(mark, 1) for mark in ".[" if mark in path[1:]), default=len(path))
            found.append(path[:end].strip("."))
            path = path[end:]
    return found


def edited(config: Json, path: str, value: Json) -> Json:
    """A copy of the configuration with another value at this path, added if missing."""
    changed = json.loads(json.dumps(config))
    _put(changed, steps(path), value)
    return changed


def _put(place: Json, way: list[str | int], value: Json) -> None:
    key, *rest = way
    if isinstance(key, int) and key == len(place):
        place.append(None)
    if not rest:
        place[key] = value
        return
    if isinstance(key, str):
        place.setdefault(key, None)
    if place[key] is None:
        place[key] = [] if isinstance(rest[0], int) else {}
    _put(place[key], rest, value)


def without(config: Json, path: str) -> Json:
    """A copy of the configuration without the value at this path."""
    changed = json.loads(json.dumps(config))
    place = changed
    *way, last = steps(path)
    for key in way:
        place = place[key]
    del place[last]
    return changed
