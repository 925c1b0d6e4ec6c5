"""
A program sees the same whether a child of vfork or a forked child executes it.

Each configuration runs twice: unchanged, and with a hook, which requires a forked child.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from pycontain.plan import plan as planning
from pycontain.plan import steps
from pycontain.plan.facts import Facts
from pycontain.plan.request import Request
from pycontain.spec.parse import parse
from tests.bundles import LIMIT, MOUNTS, Bundle

LOOK = r"""exec 2>&1
grep -E '^(Uid|Gid|Groups|Sig[BICP]|Shd|Cap|NoNewPrivs|Seccomp|Threads|Cpus_allowed)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj /proc/self/cgroup /proc/self/sessionid
cut -d' ' -f4- /proc/self/mountinfo
for f in /proc/$$/fd/*; do echo fd ${f##*/} $(readlink $f); done
cut -d' ' -f7-8,18-20,40,41 /proc/$$/stat
for n in pid net ipc uts mnt cgroup time; do readlink /proc/self/ns/$n; done
ls -l /dev /made /sys/fs/cgroup 2>/dev/null
cat /proc/self/comm /proc/sys/kernel/hostname /proc/sys/kernel/domainname /proc/net/dev
pwd; umask; env | sort; cat /proc/self/timens_offsets; tr '\0' '\n' </proc/$$/environ
cat /proc/$$/personality /proc/$$/coredump_filter /proc/$$/setgroups /proc/keys 2>&1
"""
HOOK = {"createRuntime": [{"path": "/bin/true"}]}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "unchanged": {},
    "no namespaces": {"linux.namespaces": [], "hostname": None, "mounts": []},
    "a mount namespace alone": {"linux.namespaces": [{"type": "mount"}], "hostname": None},
    "a cgroup namespace": {
        "linux.namespaces": [{"type": kind} for kind in ("pid", "mount", "cgroup", "ipc", "uts")],
        "mounts": [*MOUNTS, {"destination": "/sys/fs/cgroup", "type": "cgroup2"}],
    },
    "a joined network namespace": {
        "linux.namespaces": [{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/net"}],
        "hostname": None,
    },
    "a user": {"process.user": {"uid": 1000, "gid": 7, "additionalGids": [8, 9], "umask": 0o77}},
    "capabilities": {
        "process.capabilities": {
            kind: ["CAP_KILL", "CAP_CHOWN"]
            for kind in ("bounding", "permitted", "effective", "inheritable", "ambient")
        },
        "process.user": {"uid": 1000, "gid": 1000},
    },
    "no capabilities, no new privileges": {
        "process.capabilities": {},
        "process.noNewPrivileges": True,
    },
    "limits": {
        "process.rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_AS", "soft": 1 << 30, "hard": 1 << 30},
        ]
    },
    "a directory that is created": {"process.cwd": "/made/here"},
    "a read-only root": {"root.readonly": True, "linux.readonlyPaths": ["/proc/sys", "/bin"]},
    "masked paths": {"linux.maskedPaths": ["/proc/keys", "/proc/timer_list", "/sys/firmware"]},
    "propagation": {"linux.rootfsPropagation": "shared"},
    "binds": {
        "mounts": [
            *MOUNTS,
            {"destination": "/made", "source": "/etc", "options": ["rbind", "ro", "rslave"]},
            {"destination": "/made/hostname", "source": "/proc/version", "options": ["bind"]},
        ]
    },
    "devices": {
        "linux.devices": [
            {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "uid": 5, "gid": 6},
            {"type": "p", "path": "/dev/a/pipe", "fileMode": 0o600},
        ]
    },
    "names and parameters": {
        "hostname": "here",
        "domainname": "example.org",
        "linux.sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"},
    },
    "scheduling": {
        "process.scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "process.ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
        "linux.personality": {"domain": "LINUX32"},
    },
    "a filter": {
        "process.noNewPrivileges": True,
        "linux.seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
        },
    },
    "an environment": {"process.env": ["A=b", "EMPTY=", "NAME=ä=ö", "PATH=/bin"]},
    "a terminal": {"process.terminal": True, "process.consoleSize": {"height": 5, "width": 9}},
}


def shares_memory(made: Bundle) -> bool:
    facts = Facts(last_capability=40, permitted=0, bounding=0)
    request = Request(id="x", bundle=str(made.path), separate_start=False)
    plan = planning.build(parse(json.dumps(made.config)), request, facts)
    [found] = [not step.fork_because for step in plan.steps if isinstance(step, steps.Spawn)]
    return bool(found)


def seen(runtime: Any, made: Bundle, id: str) -> list[str]:
    """What a program sees, without what differs each time."""
    command = runtime.command("run", "-b", made.path, id)
    if made.config["process"].get("terminal"):  # needs one of its own to be shown on
        command = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])", *command]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False
    )
    assert done.stderr == b"", done.stderr
    text = done.stdout.decode()
    assert len(text) > 1000, text
    text = re.sub(r"\b(pid|net|ipc|uts|mnt|cgroup|time):\[\d+\]", own_or_new, text)
    text = re.sub(r"\d+:\d+ / /", "DEV / /", text)
    text = re.sub(r"(pipe|socket):\[\d+\]|/dev/pts/\d+|[0-9a-f]{8} I.* keyring .*", "", text)
    text = re.sub(r"[A-Z][a-z]{2} +\d+ \d\d:\d\d|devpts \S+", "", text)
    text = re.sub(r"/proc/\d+/", "/proc/PID/", text)
    return [line for line in text.splitlines() if line]


def own_or_new(found: re.Match[str]) -> str:
    file = {"pid": "pid"}.get(found[1], found[1])
    return (
        f"{found[1]}: {'the host' if os.readlink(f'/proc/self/ns/{file}') == found[0] else 'new'}"
    )


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_the_program_sees_the_same_after_vfork_and_fork(runtime, bundle, what):
    made = bundle(LOOK, CONFIGURATIONS[what])
    assert shares_memory(made)
    id = runtime.new_id()
    with_vfork = seen(runtime, made, id)
    made.edit({"hooks": HOOK})
    assert not shares_memory(made)
    assert with_vfork == seen(runtime, made, id)
