"""`pycontain run` of an image or a root file system: make a bundle, and go the ordinary way."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager

from ..errors import UsageError
from ..kernel.descriptors import close_locked
from ..lean import jsontext
from ..runtime.run import run as run_bundle
from ..spec.default import configuration
from . import container_dir, overlay, unprivileged, volumes
from .container_dir import ContainerDir
from .flags import arguments, memory, settings
from .reference import Access
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..options import Options
    from ..plan.request import Request
    from ..plan.walk import Times
    from .flags import Choices
    from .store import Image

    OnTiming = Callable[[Times], None] | None

_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LEAST_DISK = 1 << 20  # bytes: ext4 and overlayfs need some themselves
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{}\n"


def rootfs_configuration(choices: Choices, hostname: str) -> dict[str, object]:
    """The configuration for a root file system. Raises UsageError."""
    path = os.path.abspath(choices.rootfs)
    if not os.path.isdir(path):
        why = "is not a directory" if os.path.exists(path) else "does not exist"
        raise UsageError(why, at="--rootfs", value=choices.rootfs)
    root = os.open(path, _OPEN_DIRECTORY)
    try:
        chosen = settings(choices, root, hostname)
    finally:
        os.close(root)
    return unprivileged.adapted(configuration(path, arguments(choices), chosen))


def run(
    options: Options, name: str, request: Request, choices: Choices, on_timing: OnTiming = None
) -> int | str:
    """
    Run an image of this name, or the root file system of the choices if it is "".

    Returns the program's exit status, or the container's id if it is detached. Raises UsageError,
    HostError if the image cannot be brought, and as `runtime.run.run`.
    """
    _check(request, choices)
    access = Access(tls_verify=choices.tls_verify, authfile=choices.authfile)
    access.check(name)
    request = request.replace(id=choices.name or os.urandom(6).hex())
    if name:
        return _run_image(options, Store().get(name, access), request, choices, on_timing)
    directory = ContainerDir(request.id, os.path.abspath(options.root), "")
    with _removed(directory, request):
        config = rootfs_configuration(choices, request.id)
        return _run(options, directory, config, request, choices, on_timing)


def _run_image(
    options: Options, image: Image, request: Request, choices: Choices, on_timing: OnTiming
) -> int | str:
    limit = _disk(choices.disk)
    with ExitStack() as at_end:
        at_end.callback(close_locked, Store().use(image))
        directory = ContainerDir(request.id, os.path.abspath(options.root), image.digest)
        at_end.enter_context(_removed(directory, request))
        unprivileged.enter(directory.path, unprivileged.adapted(configuration("/", ["-"])))
        overlay.own_mounts()  # before: the kernel takes no layer from another mount namespace
        lower = os.open(image.rootfs, _OPEN_DIRECTORY)
        at_end.callback(os.close, lower)
        args = arguments(choices, image.config)
        place = directory.make_directory("layers")
        at_end.callback(overlay.unstack, place)
        root = overlay.stack(lower, place, limit, options.warn)
        mounts = (
            *_files(directory, choices.hostname or request.id, choices.network),
            *volumes.mounts(lower, image.config.volumes, place),
        )
        chosen = settings(choices, lower, request.id, image.config, mounts)
        config = unprivileged.adapted(configuration(root, args, chosen))
        return _run(options, directory, config, request, choices, on_timing)


def _run(
    options: Options,
    directory: ContainerDir,
    config: dict[str, object],
    request: Request,
    choices: Choices,
    on_timing: OnTiming,
) -> int | str:
    if _stays(request):
        config["hooks"] = {"poststop": [container_dir.removal(directory.path)]}
    directory.write("config.json", jsontext.pretty(config) + "\n")
    with _streams(directory, request, choices):
        status = run_bundle(options, request.replace(bundle=directory.path), on_timing)
    return request.id if request.detach else status


def _check(request: Request, choices: Choices) -> None:
    """Raises UsageError for choices that contradict each other."""
    if choices.tty and request.detach:
        raise UsageError("cannot be combined with --detach", at="--tty")
    if choices.tty and not os.isatty(0):
        remedy = "leave --tty out"
        raise UsageError("needs a terminal as standard input", at="--tty", remedy=remedy)
    if choices.rm and _stays(request):
        other = "--detach" if request.detach else "--keep"
        remedy = "leave --rm out, and use `pycontain delete` at the end"
        raise UsageError(f"cannot be combined with {other}", at="--rm", remedy=remedy)
    if choices.disk and choices.rootfs:
        why = "is only for images: what is written goes to the root file system itself"
        raise UsageError(why, at="--disk", remedy="leave it out, or use --read-only")


def _disk(text: str) -> int:
    """The size of a file system, 0 for "". Raises UsageError."""
    found = memory(text, "--disk")
    if 0 < found < _LEAST_DISK:
        raise UsageError("is less than 1 MiB", at="--disk", value=text, remedy="write 64m or more")
    return found


def _stays(request: Request) -> bool:
    """Whether the container exists after this command."""
    return request.detach or request.keep


@contextmanager
def _removed(directory: ContainerDir, request: Request) -> Iterator[None]:
    """Remove the directory afterwards, unless the container stays."""
    try:
        yield
    except BaseException:
        directory.remove()
        raise
    if not _stays(request):
        directory.remove()


@contextmanager
def _streams(directory: ContainerDir, request: Request, choices: Choices) -> Iterator[None]:
    """
    The program's standard streams, in the place of this process's own for a while.

    Without --interactive or --tty its input is empty. A detached one prints to a file: whoever
    waits for the end of this command's output would wait for the program's.
    """
    before = [os.dup(fd) for fd in range(3)]
    try:
        if not (choices.interactive or choices.tty):
            _put(os.open(os.devnull, os.O_RDONLY), 0)
        if request.detach:
            path = os.path.join(directory.path, "output")
            output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(output, 1)
            _put(output, 2)
        yield
    finally:
        for target, fd in enumerate(before):
            _put(fd, target)


def _put(fd: int, target: int) -> None:
    os.dup2(fd, target)
    os.close(fd)


def _files(directory: ContainerDir, hostname: str, network: str) -> tuple[dict[str, object], ...]:
    """The files below /etc that say where the container is, as images expect of an engine."""
    texts = {"hosts": _HOSTS.format(hostname), "hostname": f"{hostname}\n"}
    paths = {name: directory.write(f"files/{name}", text) for name, text in texts.items()}
    if network == "host":
        hosts = {name: f"/etc/{name}" for name in ("hosts", "resolv.conf")}
        paths.update((name, path) for name, path in hosts.items() if os.path.exists(path))
    return tuple(
        {
            "destination": f"/etc/{name}",
            "source": path,
            "type": "bind",
            "options": ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"],
        }
        for name, path in paths.items()
    )
