"""delete: everything that create made is removed. runtime.md, Delete."""

from __future__ import annotations

import _signal
import time

from .. import os
from ..errors import StateError, Timeout
from ..wire.state import StateDir
from .container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.state import State
    from .options import Options

_PATIENCE = 10.0  # seconds for a killed process to end, and for others to take note of it
_PAUSE = 0.01  # seconds until a lock that somebody has is tried again


def delete(options: Options, id: str, *, force: bool = False, state: State | None = None) -> None:
    """
    Remove a stopped container; with force kill it first, or what a broken create left.

    A cgroup that was there before the container stays, without the processes left in it.
    state is read unless the caller, who made the container, knows it.
    Raises StateError for a container that does not exist (not with force) or is not stopped, and
    Timeout when, with force, another command does not let go of it.
    """
    try:
        directory = _wrested(options, id) if force else None
        container = Container(options, id, lock=True, state=state, directory=directory)
    except StateError:
        if not force:
            raise
        return _remove_remains(options, id)
    with container.directory:
        if not force:
            container.require("stopped")
        destroy(options, container)


def destroy(options: Options, container: Container) -> None:
    """Kill what runs, remove cgroup and state, run the poststop hooks."""
    if container.alive:
        _end(container)
    cgroup = container.cgroup
    if cgroup is not None:
        cgroup.clear()  # without a pid namespace its other processes live on
    hooks = _poststop_hooks(options, container)
    container.directory.remove()
    hooks()


def _wrested(options: Options, id: str) -> StateDir:
    """
    The directory, locked, whoever has the lock.

    A command that keeps it mostly waits for the first process, as `start` does while a hook of the
    image sleeps. Without that process it fails, cleans up and lets go.
    """
    directory = StateDir.open(options.root, id)
    end = time.monotonic() + _PATIENCE
    while not directory.lock(wait=False):
        _kill_first_process(options, id)  # each time: the other may only now have made it
        if time.monotonic() > end:
            raise Timeout(
                f"is kept by another command, which has not let go after {_PATIENCE:g} s",
                at="container",
                value=id,
                remedy="end that command, such as a create whose hook hangs, and delete again",
            )
        time.sleep(_PAUSE)
    return directory


def _kill_first_process(options: Options, id: str) -> None:
    try:
        Container(options, id).send(_signal.SIGKILL)
    except StateError:
        pass  # there is none yet, or none any more


def _poststop_hooks(options: Options, container: Container) -> Callable[[], None]:
    """What will run the hooks; most containers have none, and need no configuration parsed."""
    if not container.state.poststop:
        return lambda: None
    from ..spec.parse import parse
    from . import poststop

    spec = parse(container.directory.load_config())
    return lambda: poststop.run(spec, container.state, options.warn)


def _end(container: Container) -> None:
    """Kill the first process and wait for its end: a zombie's parent may take its time."""
    try:
        pidfd = container.pidfd()
        try:
            container.send(_signal.SIGKILL)
            _wait_for_end(pidfd, container.state.id)
        finally:
            os.close(pidfd)
    except StateError:
        pass  # it has ended by itself meanwhile


def _wait_for_end(pidfd: int, id: str) -> None:
    import select

    watch = select.poll()
    watch.register(pidfd, select.POLLIN)
    if not watch.poll(_PATIENCE * 1000):
        raise Timeout(
            f"was killed and has not ended after {_PATIENCE:g} s", at="container", value=id
        )


def _remove_remains(options: Options, id: str) -> None:
    """A directory without a readable state: nothing else can be known to belong to it."""
    directory = StateDir(options.root, id)
    try:
        with directory:  # until then somebody else may have been at work
            whole = _is_whole(directory)
            if not whole:
                directory.remove()
    except StateError as error:
        if error.fault.at == directory.path:
            raise  # it is somebody else's
        return  # it is gone
    if whole:
        delete(options, id, force=True)


def _is_whole(directory: StateDir) -> bool:
    try:
        directory.load()
    except StateError:
        return False
    return True
