"""delete: remove everything that create created. runtime.md, Delete."""

from __future__ import annotations

import _signal
import errno
import time

from ..cgroup.tree import Cgroup
from ..errors import KernelError, PycontainError, StateError, Timeout, fault_of
from ..kernel.wait import FOREVER
from ..lean import os
from ..state.directory import StateDir
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import StepError
    from ..kernel.wait import Until
    from ..options import Options
    from ..state.record import State

_PATIENCE = 10.0  # seconds for a killed process to end, and for other commands to notice
_PAUSE = 0.01  # seconds between attempts to lock


def delete(
    options: Options,
    id: str,
    *,
    force: bool = False,
    regex: bool = False,
    state: State | None = None,
    until: Until = FOREVER,
) -> None:
    """
    Remove a created or stopped container; with force, one in any state or what a create left.

    The specification allows only a stopped one (runtime.md, Delete). Like runc, this kills and
    removes a created one, too: engines delete it when they give up before `start`.
    A cgroup that existed before the container is kept, but the processes left in it are killed.

    regex  the id is a regular expression: remove each container that it matches
    state  passed by a caller that has created the container; otherwise it is read
    until  bounds the wait for other commands and for poststop hooks

    Raises StateError for a container that does not exist (unless force) or is running or paused,
    and Timeout if, with force, another command keeps it locked.
    """
    if regex:
        from .matching import for_each

        return for_each(options, id, lambda one: delete(options, one, force=force))
    try:
        directory = _lock_by_force(options, id, until) if force else None
        container = Handle(options, id, lock=True, state=state, directory=directory)
    except StateError:
        if not force:
            raise
        return _remove_remains(options, id)
    with container.directory:
        if not force:
            container.require("created", "stopped")
        destroy(options, container, until)


def destroy(options: Options, container: Handle, until: Until = FOREVER) -> None:
    """Kill what runs, remove cgroup and state, run the poststop hooks."""
    if container.alive:
        options.detail(f"delete: kill process {container.state.pid}")
        _end(container)
    cgroup = container.cgroup
    if cgroup is not None:
        options.detail(f"delete: remove the cgroup {cgroup.directory}")
        cgroup.clear()  # without a pid namespace its other processes still run
    elif not container.state.pid:
        _kill_unrecorded(container)
    options.detail(f"delete: remove the state {container.directory.path}")
    hooks = _poststop_hooks(options, container, until)
    container.directory.remove()
    hooks()


def _lock_by_force(options: Options, id: str, until: Until) -> StateDir:
    """
    The directory, locked, even if another command holds the lock.

    Such a command usually waits for the first process, as `start` does while a hook of the image
    sleeps. If that process is killed, the command fails, cleans up and releases the lock. If the
    command itself was killed, the process has the lock until it has run its first instructions.
    """
    directory = StateDir.open(options.root, id)
    patience = _PATIENCE if until.left is None else min(_PATIENCE, until.left)
    end = time.monotonic() + patience
    while not directory.lock(wait=False):
        _kill_processes(options, id)  # each time: it may have been created only now
        if time.monotonic() > end:
            directory.close()
            raise Timeout(
                f"is still locked by another command after {patience:g} s",
                at="container",
                value=id,
                remedy="end that command, such as a create whose hook hangs, and delete again",
            )
        time.sleep(_PAUSE)
    return directory


def _kill_processes(options: Options, id: str) -> None:
    """Kill the first process or, while its pid is not recorded, all processes of the cgroup."""
    try:
        container = Handle(options, id)
        if container.state.pid:
            container.send(_signal.SIGKILL)
        elif container.cgroup is not None:
            container.cgroup.kill()
        else:
            _kill_unrecorded(container)
    except StateError:
        pass  # it does not exist yet, or has exited
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):  # the cgroup was removed meanwhile
            raise


def _kill_unrecorded(container: Handle) -> None:
    from . import unrecorded

    unrecorded.kill(container.directory)


def remove_unfinished(options: Options, id: str, created: str, how: str) -> StepError:
    """
    Remove the container that a killed child of vfork left, unless a new one has this id.

    how describes how that child ended. Returns the error to report. The poststop hooks do not run,
    since no other hooks did.
    """
    from ..launch.recover import death

    try:
        container = Handle(options, id, lock=True)
        with container.directory:
            if container.state.created == created:
                container.state = container.state.replace(poststop=False)
                destroy(options, container)
    except StateError:
        pass  # another command has removed it
    except (PycontainError, OSError) as error:
        options.warn(f"{id} cannot be removed: {fault_of(error).line()}")
    return death(f"{how} while it was being set up")


def _poststop_hooks(options: Options, container: Handle, until: Until) -> Callable[[], None]:
    """A function that runs the hooks; without any, the configuration need not be parsed."""
    if not container.state.poststop:
        return lambda: None
    from ..spec.parse import parse
    from . import poststop

    spec = parse(container.directory.load_config())
    return lambda: poststop.run(spec, container.state, options.warn, until)


def _end(container: Handle) -> None:
    """Kill the first process and wait for its end."""
    try:
        pidfd = container.pidfd()
        try:
            container.send(_signal.SIGKILL)
            _wait_for_end(pidfd, container.state.id)
        finally:
            os.close(pidfd)
    except StateError:
        pass  # it has exited meanwhile


def _wait_for_end(pidfd: int, id: str) -> None:
    import select

    watch = select.poll()
    watch.register(pidfd, select.POLLIN)
    if not watch.poll(_PATIENCE * 1000):
        raise Timeout(
            f"was killed, but has not ended after {_PATIENCE:g} s", at="container", value=id
        )


def _remove_remains(options: Options, id: str) -> None:
    """Remove a directory without a readable state, and the empty cgroup that its draft names."""
    directory = StateDir(options.root, id)
    try:
        with directory:  # another command may have been at work until now
            whole = _is_whole(directory)
            if not whole:
                _remove_drafted_cgroup(directory)
                directory.remove()
    except StateError as error:
        if error.fault.at == directory.path:
            raise  # it belongs to another user
        return  # it was deleted
    if whole:
        delete(options, id, force=True)


def _remove_drafted_cgroup(directory: StateDir) -> None:
    draft = directory.load_draft()
    if draft is not None:
        Cgroup(draft.mount, draft.cgroup, draft.made).remove_empty()


def _is_whole(directory: StateDir) -> bool:
    try:
        directory.load()
    except StateError:
        return False
    return True
