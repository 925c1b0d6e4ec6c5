"""checkpoint: save a running container in files, with CRIU."""

from __future__ import annotations

from ..errors import StateError
from ..kernel import calls
from ..kernel.mounts import mounted
from ..kernel.root import Root
from ..launch.criu import failure
from ..lean import os
from ..plan import criu as plan
from ..plan.criu import CriuRequest
from ..spec.annotations import ISOLATION
from ..spec.parse import parse
from . import criu
from .delete import destroy
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..options import Options
    from ..spec.records import Spec


class CheckpointRequest(CriuRequest):
    """
    What only checkpoint takes.

    parent_path    the images of an earlier pre-dump, relative to the new ones
    page_server    HOST:PORT of a page server that memory is sent to
    status_fd      the descriptor through which criu tells that lazy pages can be fetched
    pre_dump       only memory is saved, and the container runs on
    leave_running  the container runs on
    """

    parent_path: str = ""
    page_server: str = ""
    status_fd: int | None = None
    pre_dump: bool = False
    leave_running: bool = False

    def arguments(self) -> list[str]:
        """These choices for criu."""
        made = super().arguments()
        if self.parent_path:
            made += ["--prev-images-dir", self.parent_path]
        if self.pre_dump or self.parent_path:
            made.append("--track-mem")
        if self.page_server:
            address, _, port = self.page_server.rpartition(":")
            made += ["--page-server", "--address", address, "--port", port]
        if self.status_fd is not None:
            made += ["--status-fd", str(self.status_fd)]
        if self.leave_running:
            made.append("--leave-running")
        return made


def checkpoint(options: Options, id: str, request: CheckpointRequest) -> None:
    """
    Save the processes of a container in files, and delete the container.

    Raises StateError for one that is neither running nor paused, SpecError for one that could not
    be restored, HostError if criu is missing or fails, after which the container runs on.
    """
    container = Handle(options, id, lock=True)
    with container.directory:
        container.require("running", "paused")
        if container.state.annotations.get(ISOLATION, "namespaces") != "namespaces":
            why = "runs in a virtual machine, which CRIU cannot save"
            raise StateError(why, at="container", value=id)
        program = criu.find()
        spec = parse(container.directory.load_config())
        plan.check(spec)
        _save(program, container, spec, request)
        if not (request.pre_dump or request.leave_running):
            destroy(options, container)


def _save(program: str, container: Handle, spec: Spec, request: CheckpointRequest) -> None:
    """Run criu, and leave beside its images what `restore` needs to know of the streams."""
    images, work = criu.directories(request, create=True)
    action = "pre-dump" if request.pre_dump else "dump"
    streams = list(_streams(container.state.pid))
    external = [*_mounts(container, spec), *_network(container, spec)]
    external += [name for name in dict.fromkeys(streams) if name.startswith("file[")]
    command = [
        program, action, "--tree", str(container.state.pid), "--images-dir", images,
        "--work-dir", work, "--log-file", f"{action}.log", "-v4", "--manage-cgroups=ignore",
        *request.arguments(), *(word for name in external for word in ("--external", name)),
    ]  # fmt: skip
    import subprocess

    kept = () if request.status_fd is None else (request.status_fd,)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, pass_fds=kept, check=False)
    if done.returncode:
        raise failure(action, os.path.join(work, f"{action}.log"), done.returncode)
    criu.write_streams(images, streams)


def _streams(pid: int) -> Iterator[str]:
    """
    What criu calls the standard streams that come from outside, "" for others.

    A pipe has the name that proc(5) shows. A file, or the host's /dev/null, is on a mount that the
    container does not have.
    """
    own = {number for number, _, _, _ in mounted(f"/proc/{pid}/mountinfo")}
    for fd in range(3):
        path = f"/proc/{pid}/fd/{fd}"
        target = os.readlink(path) if os.path.exists(path) else ""
        if not target.startswith("/"):
            yield target if target.startswith("pipe:") else ""
            continue
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            mount = calls.mount_id(file)
            yield "" if mount in own else f"file[{mount:x}:{os.fstat(file).st_ino:x}]"
        finally:
            os.close(file)


def _mounts(container: Handle, spec: Spec) -> Iterator[str]:
    """The mounts that came from the host, each with the name that `restore` gives it again."""
    pid = container.state.pid
    points = {number: point for number, point, _, _ in mounted(f"/proc/{pid}/mountinfo")}
    binds = plan.bind_mounts(spec, container.state.bundle, container.state.rootfs)
    root = Root(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC))
    for path in [*binds, *plan.masked_paths(spec)]:
        file = root.find(path)
        if file is None:
            continue
        point = points.get(calls.mount_id(file), "")
        is_mask = path not in binds
        if not (is_mask and os.path.isdir(f"/proc/self/fd/{file}")):
            yield f"mnt[{point}]:{path}"
        os.close(file)
    os.close(root.fd)


def _network(container: Handle, spec: Spec) -> Iterator[str]:
    if plan.joined_network(spec):
        inode = os.stat(f"/proc/{container.state.pid}/ns/net").st_ino
        yield f"net[{inode}]:{plan.NETWORK}"
