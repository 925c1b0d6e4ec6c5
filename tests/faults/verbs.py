"""The commands that are tried: what they need beforehand, and what shows that they have worked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tests.bundles import Bundle
from tests.lifecycle.test_failures import RICH, VFORK, hooks

PROGRAM = r"""#!/bin/sh
# write what this process is and sees to /report, without what differs each time
{
    grep -E "^(Cap|NoNewPrivs|Seccomp|SigBlk|SigIgn|Uid|Gid|Groups)" /proc/self/status
    # each line once: what cannot be examined is covered once more, to be safe
    sed 's/^[0-9]* [0-9]* [0-9:]* //; s/:[0-9]*//g' /proc/self/mountinfo | awk '!seen[$0]++'
    grep -E "core file|address space|open files" /proc/self/limits
    cat /proc/self/oom_score_adj /proc/sys/kernel/domainname
    grep 0:: /proc/self/cgroup; ls /proc/sys/net/ipv4 | wc -l; hostname
    ls -A /sys/firmware; touch /sys/kernel/new; pwd; ls /proc/self/fd; stat -c "%A %u %g %t,%T %n" /dev/*; env; ifconfig lo | grep UP
} >/report/.$1 2>&1
mv /report/.$1 /report/$1
[ "$2" != stay ] || exec sleep 1000
"""


def _reporting(changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """These changes of a configuration, with the program above and the place it writes to."""
    place = {"destination": "/report", "source": "report", "options": ["bind"]}
    return {**changes, "mounts": [*changes["mounts"], place], **more}


class Verb(NamedTuple):
    """
    A command that is tried.

    words    of the command line; BUNDLE and ID are replaced
    changes  of the configuration
    before   commands that prepare the container
    after    commands that complete it, if the command has succeeded
    reports  the name of the report that its program then writes, "" for none
    """

    words: str
    changes: dict[str, Any]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reports: str = ""


_STAY = {"process.args": ["/bin/program", "seen", "stay"]}
_RICH = _reporting(RICH, **_STAY)
_VFORK = _reporting(VFORK, **_STAY)
_PLAIN = {**_VFORK, "process.terminal": False, "process.args": ["/bin/program", "seen"]}
_COVERED = {
    **_PLAIN,
    "mounts": [
        *_PLAIN["mounts"],
        {"destination": "/sys", "type": "sysfs", "options": ["ro"]},
        {"destination": "/alias", "source": "cover", "options": ["bind"]},
    ],
    "linux.maskedPaths": ["/sys/firmware"],
    "linux.readonlyPaths": ["/sys/kernel"],
}
_BARE = {key: value for key, value in _VFORK.items() if not key.startswith("linux.resources")}
_NO_CGROUP = "--cgroup-manager disabled"
_CONSOLE = "--console-socket BUNDLE/sock"
_CREATE = f"create -b BUNDLE {_CONSOLE} --pid-file BUNDLE/pid --pidfd-socket BUNDLE/sock ID"
_START = "start ID"
_RUN = f"run --detach -b BUNDLE {_CONSOLE} ID"

VERBS = {
    "run": Verb("run -b BUNDLE ID", _PLAIN, reports="seen"),
    "run, covered": Verb("run -b BUNDLE ID", _COVERED, reports="seen"),
    "run --detach": Verb(_RUN, _VFORK, reports="seen"),
    "run, no cgroup": Verb(f"{_NO_CGROUP} {_RUN}", _BARE, reports="seen"),
    "create, no cgroup": Verb(
        f"{_NO_CGROUP} {_CREATE}",
        {**_BARE, "hooks": _RICH["hooks"]},
        after=(f"{_NO_CGROUP} {_START}",),
        reports="seen",
    ),
    "create": Verb(_CREATE, _RICH, after=(_START,), reports="seen"),
    "start": Verb(_START, _RICH, before=(_CREATE,), reports="seen"),
    "exec": Verb("exec ID /bin/program more", _VFORK, before=(_RUN,), reports="more"),
    "update": Verb("update --resources BUNDLE/resources ID", _VFORK, before=(_RUN,)),
    "kill": Verb("kill ID TERM", _VFORK, before=(_RUN,)),
    "kill --all": Verb("kill --all ID KILL", _VFORK, before=(_RUN,)),
    "pause": Verb("pause ID", _VFORK, before=(_RUN,)),
    "resume": Verb("resume ID", _VFORK, before=(_RUN, "pause ID")),
    "delete": Verb("delete ID", _RICH, before=(_CREATE,)),
    "delete --force": Verb("delete --force ID", _VFORK, before=(_RUN,)),
    "state": Verb("state ID", _VFORK, before=(_RUN,)),
    "list": Verb("list --format json", _VFORK, before=(_RUN,)),
    "ps": Verb("ps --format json ID", _VFORK, before=(_RUN,)),
    "events": Verb("events --stats ID", _VFORK, before=(_RUN,)),
}
"""By name."""

LAUNCHES = (
    "run", "run, covered", "run --detach", "create", "start", "exec", "run, no cgroup",
    "create, no cgroup",
)  # fmt: skip
"""Those that bring a process up."""


def furnish(made: Bundle, verb: Verb) -> None:
    """Put into a bundle what the programs and hooks of a verb need."""
    program = made.rootfs / "bin/program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    report = made.path / "report"
    report.mkdir()
    report.chmod(0o777)
    (made.path / "resources").write_text('{"unified": {"cgroup.max.depth": "7"}}')
    for name in ("firmware/secret", "kernel/x"):
        (made.path / "cover" / name).mkdir(parents=True)
    (made.rootfs / "alias").symlink_to("/sys")
    mounts = made.config["mounts"]
    for mount in mounts:
        if mount.get("source") in ("report", "cover"):
            mount["source"] = str(made.path / mount["source"])
    made.edit({"mounts": mounts})
    if verb.changes["hooks"]:
        made.edit({"hooks": hooks(str(made.path / "log"))})


def spoken(words: str, made: Bundle, id: str) -> list[str]:
    """The words of a command for this bundle and this container."""
    return [word.replace("BUNDLE", str(made.path)).replace("ID", id) for word in words.split()]


def report(made: Bundle, name: str, id: str) -> str:
    """What a program has reported, "" if nothing yet."""
    path: Path = made.path / "report" / name
    return path.read_text().replace(id, "ID") if path.exists() else ""
