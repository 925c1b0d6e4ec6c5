"""restore: bring back a container that `checkpoint` has saved, with CRIU."""

from __future__ import annotations

import _signal

from ..kernel import calls
from ..kernel import const as c
from ..kernel.wait import Until
from ..launch.bring_up import bring_up
from ..launch.launch import Caller
from ..lean import os
from ..plan import criu as plan
from ..plan.steps.criu import RestoreProcesses, SpawnCriu
from . import criu, poststop
from .bundle import Bundle
from .foreground import stay
from .prepare import prepare
from .run import run_poststart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..launch.launch import ContainerLaunch
    from ..options import Options
    from ..plan.criu import CriuRequest
    from ..plan.request import Request
    from ..spec.records import Spec


def restore(options: Options, request: Request, choices: CriuRequest) -> int:
    """
    Restore a container from images, with the bundle it was made from.

    Returns its program's exit status, or 0 at once when detached. Raises PycontainError after
    undoing everything; Interrupted after SIGINT or SIGTERM.
    """
    program = criu.find()
    bundle = Bundle(request.bundle, request.config)
    plan.check(bundle.spec)
    for warning in plan.warnings(bundle.spec):
        options.warn(warning)
    images, work = criu.directories(choices)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, c.ALL_SIGNALS)
    with Until.interrupted() as until:
        request = request.replace(separate_start=False)
        launch = prepare(options, bundle, request, Caller(until=until))
        launch.turns = plan.restoration(
            launch.turns,
            *_steps(launch, bundle.spec, [program, *choices.arguments()], images, work),
        )
        if not (request.detach or request.no_subreaper):
            calls.prctl(c.PR_SET_CHILD_SUBREAPER, 1, name="PR_SET_CHILD_SUBREAPER")
        bring_up(launch)
        run_poststart(launch, bundle.spec)
        launch.release()
    if request.detach:
        return 0
    status = stay(launch.child, -1)
    if not request.keep and launch.finish():
        poststop.run(bundle.spec, launch.state, options.warn)
    return status


def _steps(
    launch: ContainerLaunch, spec: Spec, command: list[str], images: str, work: str
) -> tuple[SpawnCriu, RestoreProcesses]:
    log, rootfs = "restore.log", launch.state.rootfs
    command[1:1] = [
        "restore", "--images-dir", images, "--work-dir", work, "--log-file", log, "-v4",
        "--manage-cgroups=ignore", plan.MOUNTS, "--restore-detached", "--root", rootfs,
    ]  # fmt: skip
    for path, source in _mounts(spec, launch.state.bundle, rootfs):
        command += ["--external", f"mnt[{path}]:{source}"]
    why = "checkpoint has saved them"
    spawn = SpawnCriu(
        command=tuple(command),
        rootfs=rootfs,
        streams=tuple(criu.read_streams(images)),
        network=plan.joined_network(spec),
        cgroup_namespace=plan.has_cgroup_namespace(spec),
        why=why,
    )
    return spawn, RestoreProcesses(log=os.path.join(work, log), why=why)


def _mounts(spec: Spec, bundle: str, rootfs: str) -> Iterator[tuple[str, str]]:
    """The name of each mount from the host, and what is mounted there now."""
    yield from plan.bind_mounts(spec, bundle, rootfs).items()
    for path in plan.masked_paths(spec):
        yield path, "/dev/null"
