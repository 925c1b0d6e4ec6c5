"""
Whichever step fails, and however, the host is left unchanged.

One bundle needs every kind of step. Each of its steps fails in turn: once because a step that
neither side knows takes its place, and once, on the child's side, because the child crashes in it.
A second bundle needs every step that a child of vfork can perform, a third one those of a user
namespace.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import PycontainError, StepError
from pycontain.init import program
from pycontain.kernel import userns
from pycontain.kernel._ffi import ffi
from pycontain.launch import bring_up as launching
from pycontain.launch.launch import ContainerLaunch
from pycontain.options import Options
from pycontain.plan import plan as planning
from pycontain.plan import steps
from pycontain.plan.facts import Facts
from pycontain.plan.request import Request
from pycontain.plan.steps import idmap
from pycontain.plan.walk import child_step
from pycontain.runtime.bundle import Bundle as Loaded
from pycontain.runtime.prepare import prepare
from pycontain.spec.parse import parse
from tests.bundles import CONFIG, MOUNTS, TOKEN, Bundle, changed, look
from tests.idmap import MAPPINGS, give
from tests.steps import import_all

_HOOKS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip


def hooks(log: str) -> dict[str, list[dict[str, object]]]:
    """A hook of each kind; those on the host write their kind to a log."""
    made = {}
    for kind in _HOOKS:
        script = "true" if kind == "startContainer" else f"echo {kind} >>{log}"
        shell = "/bin/sh"
        made[kind] = [{"path": shell, "args": ["sh", "-c", script]}]
    return made


RICH = {
    "process.terminal": True,
    "process.args": ["/bin/program"],
    "process.user": {"uid": 5, "gid": 5},
    "process.capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
    "process.oomScoreAdj": 100,
    "process.rlimits": [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_AS", "soft": 1 << 30, "hard": 1 << 40},
    ],
    "process.scheduler": {"policy": "SCHED_BATCH"},
    "process.ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5},
    "process.cwd": "/made",
    "domainname": "example.org",
    "root.readonly": True,
    "mounts": [
        *MOUNTS,
        {"destination": "/sys/fs/cgroup", "type": "cgroup2"},
        {"destination": "/host", "source": "/etc", "options": ["rbind", "rslave"]},
        {"destination": "/host", "options": ["remount", "bind", "ro"]},
        {"destination": "/copy", "type": "tmpfs", "options": ["tmpcopyup"]},
    ],
    "hooks": hooks("/dev/null"),
    "linux.namespaces": [
        *({"type": kind} for kind in ("pid", "network", "mount", "uts", "cgroup", "time")),
        {"type": "ipc", "path": "/proc/self/ns/ipc"},
    ],
    "linux.timeOffsets": {"boottime": {"secs": 1}},
    "linux.resources": {"unified": {"cgroup.max.depth": "5"}},
    "linux.sysctl": {"net.ipv4.ip_forward": "1"},
    "linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
    "linux.personality": {"domain": "LINUX"},
    "linux.maskedPaths": ["/proc/keys"],
    "linux.readonlyPaths": ["/proc/sys"],
    "linux.devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229}],
}


VFORK = {
    **RICH,
    "process.noNewPrivileges": True,
    "process.oomScoreAdj": 0,
    "mounts": RICH["mounts"][:-1],
    "hooks": {},
    "linux.namespaces": RICH["linux.namespaces"][:-2] + RICH["linux.namespaces"][-1:],
    "linux.timeOffsets": {},
}


MAPPED = {
    **RICH,
    **MAPPINGS,
    "hooks": hooks("/dev/null"),
    "linux.namespaces": [*RICH["linux.namespaces"], {"type": "user"}],
}


def request(id: str = "x", bundle: str = "/x", *, vfork: bool = False) -> Request:
    made = Request(id=id, bundle=bundle, separate_start=False, console_socket=f"{bundle}/sock")
    waited_for = {"pid_file": f"{bundle}/pid", "pidfd_socket": f"{bundle}/sock"}
    return made if vfork else made.replace(**waited_for)


def planned(changes: dict[str, Any], *, vfork: bool = False) -> tuple[steps.Step, ...]:
    """The steps of a bundle; they do not depend on its path."""
    import json

    spec = parse(json.dumps(changed(CONFIG, changes)))
    facts = Facts(last_capability=40, permitted=0, bounding=0)
    return planning.build(spec, request(vfork=vfork), facts).steps


def names(plan: tuple[steps.Step, ...]) -> list[str]:
    return [f"{number:02}-{step.side}-{step.name}" for number, step in enumerate(plan)]


PLANNED, PLANNED_VFORK = planned(RICH), planned(VFORK, vfork=True)
PLANNED_MAPPED = planned(MAPPED)
NAMES, NAMES_VFORK, NAMES_MAPPED = names(PLANNED), names(PLANNED_VFORK), names(PLANNED_MAPPED)
OTHERWISE = {
    steps.MountCgroup: "without a cgroup namespace",
    steps.ChangeDirectoryRoot: "without a mount namespace",
    steps.OpenRoot: "without a mount namespace",
    steps.RequireMissing: "without a mount namespace",
    steps.JoinPids: "in a pid namespace that others are in",
    steps.EnterPids: "in a pid namespace that others are in",
    steps.TakeOver: "in a pid namespace that others are in",
    steps.SetSchedulerOutside: "in a pid namespace that others are in",
    steps.JoinProcess: "of exec",
    steps.SetAffinity: "of exec",
    steps.AwaitStart: "of create",
    idmap.ReadMappings: "in a user namespace that exists",
    idmap.TakeDevices: "of users without root privileges",
}
NEED_MORE = {  # modules of steps that have tests of their own, and what they need
    "criu": "the images of a checkpoint",
    "labels": "a security module",
    "memory": "more than one node",
    "netdevices": "a network namespace to take devices from",
    "notify": "an agent",
    "rdt": "a mounted resctrl",
    "sdnotify": "the socket of a service manager",
    "unit": "systemd",
    "vm": "another isolation",
}


def kinds(of: type[steps.Step]) -> Iterator[type[steps.Step]]:
    for kind in of.__subclasses__():
        if kind.name:
            yield kind
        yield from kinds(kind)


def test_the_rich_bundle_has_every_kind_of_step():
    import_all()
    known = {
        kind
        for kind in kinds(steps.Step)
        if kind.__module__.startswith("pycontain.")
        and kind.__module__.rpartition(".")[2] not in NEED_MORE
    }
    missing = known - {type(step) for step in PLANNED}
    there = {kind for kind in missing if kind.__module__ == idmap.__name__}
    assert missing - there == set(OTHERWISE) - there
    assert there - {type(step) for step in PLANNED_MAPPED} == there & set(OTHERWISE)


def test_the_vfork_bundle_has_every_kind_of_step_that_vfork_allows():
    assert [not step.fork_because for step in PLANNED_VFORK if isinstance(step, steps.Spawn)] == [
        True
    ]
    missing = {type(step) for step in PLANNED} - {type(step) for step in PLANNED_VFORK}
    hooks = {steps.RunHooks, steps.RunContainerHooks}
    assert missing == {*hooks, steps.WritePidFile, steps.SendPidfd}


class BrokenHere(steps.ParentStep):
    """A step that the parent does not know."""

    __module__ = "tests.parent"  # or else its performer would be imported
    name = "broken"


class BrokenThere(steps.Step):
    """A step that the child does not know."""

    __module__ = "tests.child"
    name = "broken"


@pytest.fixture
def rich(bundle, tmp_path: Path) -> Iterator[Bundle]:
    """The rich bundle, and a socket that receives its terminal and its pidfd."""
    made = bundle("", RICH)
    made.edit({"hooks": hooks(str(made.path / "log"))})
    with with_files(made):
        yield made


@pytest.fixture
def vfork(bundle, tmp_path: Path) -> Iterator[Bundle]:
    """The bundle whose child shares memory, with the same files."""
    made = bundle("", VFORK)
    with with_files(made):
        yield made


@contextmanager
def with_files(made: Bundle) -> Iterator[None]:
    program = made.rootfs / "bin/program"
    program.write_text("#!/bin/sh\nsleep 100\n")
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(made.path / "sock"))
        listener.listen()
        yield


@pytest.fixture
def user(bundle, tmp_path: Path) -> Iterator[Bundle]:
    """The bundle with a user namespace."""
    made = bundle("", MAPPED)
    with with_files(made):
        give(made.rootfs)
        yield made


@pytest.fixture
def launch(rich: Bundle, tmp_path: Path, shared_mounts: None):
    """A container that is ready to be brought up in this process."""
    return prepared(rich, tmp_path, PLANNED)


@pytest.fixture
def vfork_launch(vfork: Bundle, tmp_path: Path, shared_mounts: None):
    return prepared(vfork, tmp_path, PLANNED_VFORK)


@pytest.fixture
def user_launch(user: Bundle, tmp_path: Path, shared_mounts: None):
    return prepared(user, tmp_path, PLANNED_MAPPED)


def prepared(made: Bundle, tmp_path: Path, plan: tuple[steps.Step, ...]) -> ContainerLaunch:
    id = f"{TOKEN}-launch"
    wanted = request(id, str(made.path), vfork=plan is PLANNED_VFORK)
    launch = prepare(Options(root=str(tmp_path / "state")), Loaded(str(made.path)), wanted)
    assert [step.name for step in all_steps(launch)] == [step.name for step in plan]
    return launch


def all_steps(launch: ContainerLaunch) -> list[steps.Step]:
    return [step for turn in launch.turns for step in turn.steps]


def break_step(launch: ContainerLaunch, number: int) -> None:
    """Replace a step with one that its side does not know."""
    plan = all_steps(launch)
    broken = BrokenHere() if plan[number].side == "parent" else BrokenThere()
    before = 0
    turns = []
    for turn in launch.turns:
        row = list(turn.steps)
        if before <= number < before + len(row):
            row[number - before] = broken
        before += len(row)
        turns.append(turn.replace(steps=tuple(row)))
    launch.turns = tuple(turns)


def bring_up(launch, rich: Bundle, tmp_path: Path) -> PycontainError:
    """The error of a launch that must fail and leave the host unchanged."""
    before, blocked = look(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(PycontainError) as caught:
        launching.bring_up(launch)
    after = look()
    for kind, was, now in zip(before._fields, before, after, strict=True):
        assert now == was, f"{kind} changed"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
    left = os.listdir(tmp_path / "state") if (tmp_path / "state").exists() else []
    assert [name for name in left if not name.startswith(".")] == []
    assert not (rich.path / "pid").exists()
    return caught.value


def ran(rich: Bundle) -> list[str]:
    """The hooks that ran."""
    log = rich.path / "log"
    return log.read_text().split() if log.exists() else []


FIRST_HOOK = next(n for n, step in enumerate(PLANNED) if isinstance(step, steps.RunHooks))


@pytest.mark.property("life-cycle 12")
@pytest.mark.parametrize("number", range(len(PLANNED) - 1), ids=NAMES[:-1])
def test_a_step_that_fails_is_named_and_undone(launch, rich, tmp_path, number):
    break_step(launch, number)
    error = bring_up(launch, rich, tmp_path)
    assert isinstance(error, StepError)
    assert error.fault.step == "broken"
    side = "parent" if PLANNED[number].side == "parent" else "child"
    assert f"a step that the {side} does not know" in str(error)
    assert ("poststop" in ran(rich)) == (number > FIRST_HOOK)


@pytest.mark.parametrize("number", range(len(PLANNED_VFORK) - 1), ids=NAMES_VFORK[:-1])
def test_a_step_that_fails_in_a_child_of_vfork_is_named_and_undone(
    vfork_launch, vfork, tmp_path, number
):
    break_step(vfork_launch, number)
    imports = sys.meta_path, sys.path, gc.isenabled()
    error = bring_up(vfork_launch, vfork, tmp_path)
    assert isinstance(error, StepError)
    assert error.fault.step == "broken"
    assert (sys.meta_path, sys.path, gc.isenabled()) == imports
    import colorsys  # noqa: F401  (imports are allowed here again)


@pytest.mark.needs_userns
@pytest.mark.parametrize("number", range(len(PLANNED_MAPPED) - 1), ids=NAMES_MAPPED[:-1])
def test_a_step_that_fails_in_a_user_namespace_is_named_and_undone(
    user_launch, user, tmp_path, number
):
    break_step(user_launch, number)
    error = bring_up(user_launch, user, tmp_path)
    assert isinstance(error, StepError)
    assert error.fault.step == "broken"


@pytest.mark.needs_userns
def test_the_bundle_with_a_user_namespace_runs(user_launch):
    before = look()
    launching.bring_up(user_launch)
    assert look().processes != before.processes
    user_launch.undo()
    user_launch.cgroup.close()
    assert look() == before


@pytest.mark.needs_userns
def test_an_intermediate_process_that_is_killed_leaves_nothing(
    user_launch, user, tmp_path, monkeypatch
):
    monkeypatch.setattr(userns, "take_root", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert "died" in str(bring_up(user_launch, user, tmp_path))


def test_an_execve_that_fails_in_a_child_of_vfork_is_reported(vfork_launch, vfork, tmp_path):
    (vfork.rootfs / "bin/program").write_text("garbage")
    error = bring_up(vfork_launch, vfork, tmp_path)
    assert error.fault.step == "execve"
    assert "exec format error" in str(error)


def test_an_exception_from_C_in_a_child_of_vfork_names_its_step(
    vfork_launch, vfork, tmp_path, monkeypatch
):
    monkeypatch.setattr(program, "command", lambda *_: (b"/x", (b"a NUL \0 inside",), ()))
    error = bring_up(vfork_launch, vfork, tmp_path)
    assert isinstance(error, StepError)
    assert str(error) == "execve: ValueError: embedded null byte"


def test_the_vfork_bundle_runs(vfork_launch):
    before = look()
    launching.bring_up(vfork_launch)
    assert look().processes != before.processes
    vfork_launch.undo()
    vfork_launch.cgroup.close()
    assert look() == before


def test_an_execve_that_fails_is_reported(launch, rich, tmp_path):
    (rich.rootfs / "bin/program").write_text("garbage")
    error = bring_up(launch, rich, tmp_path)
    assert error.fault.step == "execve"
    assert "exec format error" in str(error)
    assert ran(rich)[-1] == "poststop"


# without the last one: a crash there closes the pipe just as a successful execve does
CHILD = [number for number, step in enumerate(PLANNED) if step.side == "child"][:-1]


@pytest.mark.parametrize("number", CHILD, ids=[NAMES[number] for number in CHILD])
def test_a_child_that_crashes_in_a_step_is_reported_with_the_step(
    launch, rich, tmp_path, number, monkeypatch
):
    victim, perform = all_steps(launch)[number], child_step.perform

    def crash_at_the_victim(step, context):
        if step is victim:
            ffi.cast("int *", 8)[0] = 1  # a fault: process 1 ignores its own signals
        perform(step, context)

    monkeypatch.setattr(child_step, "perform", crash_at_the_victim)
    error = bring_up(launch, rich, tmp_path)
    assert str(error).startswith(f"{victim.name}: the container's first process was killed by ")
    assert "by signal 11" in str(error)


def test_the_rich_bundle_runs(launch, rich, tmp_path):
    """Otherwise the tests above would prove little."""
    before = look()
    launching.bring_up(launch)
    assert look().processes != before.processes
    launch.undo()
    launch.cgroup.close()
    assert look() == before
    assert ran(rich)[:3] == ["prestart", "createRuntime", "createContainer"]
    assert ran(rich)[-1] == "poststop"


def test_the_first_error_is_reported_even_when_undoing_fails(launch, rich, tmp_path, capfd):
    def fail() -> None:
        raise StepError("is stuck", at="something")

    break_step(launch, 5)
    launch.on_undo(fail)
    assert "does not know" in str(bring_up(launch, rich, tmp_path))
    assert "warning: cannot be undone: something is stuck" in capfd.readouterr().err
