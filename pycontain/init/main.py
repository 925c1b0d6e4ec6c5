"""
The life of a container, as its first process lives it: one step after the other.

`live` runs in a child with memory of its own, which `runtime.spawn` makes, `live_borrowing` in one
of `runtime.lend`, which borrows its parent's. They decide nothing: the plan says what is done, this
file says which function does it.
"""

from __future__ import annotations

import _signal
import time

from .. import os
from ..errors import PycontainError, StepError, fault_of, from_record
from ..plan import steps
from ..wire import sync
from . import change, guard, process, program, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ..kernel._borrow import Program
    from .box import Box

_FAILED = 255


def live(plan: tuple[steps.Step, ...], box: Box) -> NoReturn:
    """
    Carry out the child's steps of the plan, passing the baton where the side changes.

    Ends by becoming the program, or by reporting the first error and exiting.
    """
    step: steps.Step | None = None
    try:
        if plan[0].side == "child":
            _wait(box)
        times: sync.Times = []
        for step, following in zip(plan, [*plan[1:], None], strict=True):
            if step.side == "child":
                if isinstance(step, steps.Execute):
                    sync.report_exec(box.parent, times)
                sync.begin_step(box.parent)
                began = time.perf_counter_ns()
                carry_out(step, box)
                times.append((step.name, (time.perf_counter_ns() - began) // 1000))
                if following is None or following.side == "parent":
                    sync.report_done(box.parent, times)
                    times = []
            elif following is not None and following.side == "child":
                _wait(box)
    except BaseException as error:  # nothing may escape into the caller's stack
        _report(error, step, box)
    os._exit(_FAILED)


def live_borrowing(
    plan: tuple[steps.Step, ...],
    box: Box,
    times: list[tuple[str, str, int]],
    meanwhile: Callable[[steps.Step], None],
) -> Program:
    """
    Carry out the plan from the child's first step on; returns what is to be executed.

    times is the parent's own list: (side, step, microseconds) of the child's steps are added.
    meanwhile does a step of the parent. Raises PycontainError.
    """
    for step in plan:
        began = time.perf_counter_ns()
        try:
            if step.side == "parent":
                meanwhile(step)
            elif isinstance(step, steps.Execute):
                return program.command(step, box)
            else:
                carry_out(step, box)
                spent = (time.perf_counter_ns() - began) // 1000
                times.append((step.side, step.name, spent))
            continue
        except BaseException as error:
            failed = in_step(error, step.name)
        raise failed  # outside: what the first error holds, such as sockets, ends in the child
    raise StepError("has no program to execute")


def in_step(error: BaseException, name: str) -> PycontainError:
    """The error as it would come from a child with memory of its own."""
    fault = fault_of(error)
    fault.step = fault.step or name
    return from_record(fault.record())


def _wait(box: Box) -> None:
    if not sync.wait_for_go(box.parent):
        os._exit(_FAILED)  # the parent is gone


def _report(error: BaseException, step: steps.Step | None, box: Box) -> None:
    try:
        sync.report_fault(box.parent, error, step.name if step else "")
    except BrokenPipeError:
        pass  # nobody is left to tell
    finally:
        os._exit(_FAILED)


def carry_out(step: steps.Step, box: Box) -> None:
    """Do one step."""
    match step:
        case steps.Guard():
            guard.guard(step, box)
        case steps.JoinKeyring():
            guard.join_keyring(step, box)
        case steps.JoinNamespaces():
            process.join_namespaces(step, box)
        case steps.JoinProcess():
            process.join_process(step, box)
        case steps.Unshare():
            process.unshare(step, box)
        case steps.RaiseLoopback():
            process.raise_loopback(step, box)
        case steps.BindRoot():
            rootfs.bind_root(step, box)
        case steps.MountFilesystem():
            rootfs.mount_filesystem(step, box)
        case steps.MountBind():
            rootfs.mount_bind(step, box)
        case steps.MountCgroup():
            rootfs.mount_cgroup(step, box)
        case steps.Remount():
            rootfs.remount(step, box)
        case steps.MakeDevices():
            rootfs.make_devices(step, box)
        case steps.LinkDevices():
            rootfs.link_devices(step, box)
        case steps.MakePlaces():
            rootfs.make_places(step, box)
        case steps.ProtectPaths():
            rootfs.protect_paths(step, box)
        case steps.MaskPaths():
            rootfs.mask_paths(step, box)
        case steps.ChangeRoot():
            change.change_root(step, box)
        case steps.ChangeDirectoryRoot():
            change.change_directory_root(step, box)
        case steps.FreezeMounts():
            rootfs.freeze_mounts(step, box)
        case _:
            _carry_out_inside(step, box)


def _carry_out_inside(step: steps.Step, box: Box) -> None:
    """The steps that need no rootfs any more."""
    match step:
        case steps.SetHostname():
            process.set_hostname(step, box)
        case steps.WriteSysctls():
            process.write_sysctls(step, box)
        case steps.OpenTerminal():
            process.open_terminal(step, box)
        case steps.StartSession():
            process.start_session(step, box)
        case steps.SetAffinity():
            process.set_affinity(step, box)
        case steps.SetScheduler():
            process.set_scheduler(step, box)
        case steps.SetIoPriority():
            process.set_io_priority(step, box)
        case steps.SetPersonality():
            process.set_personality(step, box)
        case steps.EnterDirectory():
            process.enter_directory(step, box)
        case steps.LoadSeccomp():
            process.load_seccomp(step, box)
        case steps.SetRlimits():
            process.set_rlimits(step, box)
        case steps.RaiseRlimits():
            process.raise_rlimits(step, box)
        case steps.BoundCapabilities():
            process.bound_capabilities(step, box)
        case steps.TakeUser():
            process.take_user(step, box)
        case steps.SetCapabilities():
            process.set_capabilities(step, box)
        case steps.NoNewPrivileges():
            process.no_new_privileges(step, box)
        case steps.FindProgram():
            program.find_program(step, box)
        case steps.RunContainerHooks():
            run_hooks(step, box)
        case steps.AwaitStart():
            await_start(step, box)
        case steps.Execute():
            program.execute(step, box)
        case _:
            raise StepError("is a step that the child does not know", value=step.name)


def run_hooks(step: steps.RunContainerHooks, box: Box) -> None:
    """Run hooks in the container's namespaces, where this process has the pid it sees."""
    from ..wire import hooks  # loaded by the parent

    status = "created" if step.kind == "startContainer" else "creating"
    if step.kind == "startContainer":  # its programs are the container's, as is the environment
        os.environ.clear()
        os.environ.update({os.fsencode(k): os.fsencode(v) for k, v in box.env.items()})
    if step.kind == "createContainer" and box.root is not None:
        os.fchdir(box.root.fd)  # as runc does, so that they can name what is in it
    told = {**box.hook_state, "status": status, "pid": os.getpid()}
    hooks.run_all(step.hooks, step.kind, told)


def await_start(step: steps.AwaitStart, box: Box) -> None:
    """From here on the parent is whoever calls `start`."""
    assert box.start is not None
    box.channel = box.start
    _heed_signals()
    _wait(box)


def _heed_signals() -> None:
    """
    End by what ends programs, until execve, which forgets handlers.

    The first process of a pid namespace gets no signal that it has no handler for.
    """
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM):
        try:
            _signal.signal(number, lambda number, _: os._exit(128 + number))
        except OSError:  # a filter that is loaded already forbids it
            return
