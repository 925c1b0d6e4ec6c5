"""The bundles: a small one, and one as Podman writes it, on a busybox root file system."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import cffi

ROOT = Path(__file__).parents[1]
PROGRAM = ["/bin/true"]
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_PODMANS = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
    "CAP_SYS_CHROOT",
]  # fmt: skip
_MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
]  # fmt: skip
_PODMAN_MASKED = [*_MASKED, "/sys/fs/selinux", "/sys/dev/block"]
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_NAMESPACES = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]
_DEV = {
    "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
}  # fmt: skip
_PTS = {
    "destination": "/dev/pts", "type": "devpts", "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
}  # fmt: skip
_SYSTEM_CALLS = 350  # the size of the default profile of Podman and Docker


def rootfs() -> str:
    """The busybox root file system, created if it is missing."""
    command = [str(ROOT / "rootfs" / "make.sh"), "busybox"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(folder: str, config: dict[str, object]) -> str:
    """Write a bundle with a configuration; returns its folder."""
    os.makedirs(folder)
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file, indent=1)
    return folder


def small(root: str, args: list[str]) -> dict[str, object]:
    """What `runc spec` writes, minus its device rules, for which crun needs CAP_SYS_RESOURCE."""
    flags = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "process": _process(args, _CAPABILITIES),
        "root": {"path": root, "readonly": True},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            _DEV,
            _PTS,
            _tmpfs("/dev/shm", "shm", [*flags, "mode=1777", "size=65536k"]),
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": flags},
            {
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": [*flags, "ro"],
            },
        ],
        "linux": {
            "namespaces": _NAMESPACES,
            "maskedPaths": _MASKED,
            "readonlyPaths": _READONLY,
        },
    }  # fmt: skip


def podmans(root: str, folder: str, args: list[str]) -> dict[str, object]:
    """As Podman writes it: a seccomp profile of Docker's size, bind mounts, more of the rest."""
    flags = ["nosuid", "noexec", "nodev"]
    config = small(root, args)
    config["process"] = _process(args, _PODMANS) | {"oomScoreAdj": 0}
    config["mounts"] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
        _DEV,
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*flags, "ro"]},
        _PTS,
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": flags},
        *(_bound(folder, name) for name in ("hosts", "resolv.conf", "hostname")),
        _tmpfs("/dev/shm", "shm", [*flags, "mode=1777", "size=64000k"]),
        _tmpfs("/run", "tmpfs", [*flags, "mode=755", "size=64m"]),
        _tmpfs("/tmp", "tmpfs", ["nosuid", "nodev", "mode=1777", "size=64m"]),
    ]
    config["annotations"] = {"org.opencontainers.image.stopSignal": "15"}
    config["linux"] = {
        "namespaces": [*_NAMESPACES, {"type": "cgroup"}],
        "sysctl": {"net.ipv4.ping_group_range": "0 0"},
        "maskedPaths": _PODMAN_MASKED,
        "readonlyPaths": _READONLY,
        "seccomp": _seccomp(),
    }
    return config


def _process(args: list[str], capabilities: list[str]) -> dict[str, object]:
    return {
        "args": args,
        "cwd": "/",
        "env": ["PATH=/usr/bin:/bin", "TERM=xterm", "HOME=/root"],
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": True,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
    }


def _tmpfs(target: str, source: str, options: list[str]) -> dict[str, object]:
    return {"destination": target, "type": "tmpfs", "source": source, "options": options}


def _bound(folder: str, name: str) -> dict[str, object]:
    """A bind mount of a host file; its mount point is created in /dev, the root is read-only."""
    source = f"{folder}.{name}"
    with open(source, "w") as file:
        file.write(f"# {name}\n")
    options = ["rbind", "rprivate", "nosuid", "nodev"]
    return {"destination": f"/dev/{name}", "type": "bind", "source": source, "options": options}


def _seccomp() -> dict[str, object]:
    conditions = [(0x7E020000, "SCMP_CMP_MASKED_EQ"), (0, "SCMP_CMP_EQ")]
    clone, personality = (
        {"index": 0, "value": value, "valueTwo": 0, "op": op} for value, op in conditions
    )
    allow = "SCMP_ACT_ALLOW"
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": _names(), "action": allow},
            {"names": ["clone"], "action": allow, "args": [clone]},
            {"names": ["personality"], "action": allow, "args": [personality]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    }


def _names() -> list[str]:
    """The first system calls of x86-64 from libseccomp, without those that have conditions."""
    ffi = cffi.FFI()
    ffi.cdef("char *seccomp_syscall_resolve_num_arch(uint32_t, int);")
    library = ffi.dlopen("libseccomp.so.2")
    native = 0xC000003E  # AUDIT_ARCH_X86_64
    found = (library.seccomp_syscall_resolve_num_arch(native, n) for n in range(440))
    names = [ffi.string(name).decode() for name in found if name]
    return [n for n in names if n not in ("clone", "clone3", "personality")][:_SYSTEM_CALLS]
