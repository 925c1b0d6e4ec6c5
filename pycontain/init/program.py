"""The last steps: the program is found, and the child becomes it."""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError, ProgramError
from ..lean import os
from ..plan import steps
from ..plan.walk import child_step
from . import diagnose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel._vfork import Program
    from ..kernel.root import Root
    from .context import Context

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD_LIMIT = 1 << 20


@child_step(steps.FindProgram)
def find_program(step: steps.FindProgram, context: Context) -> None:
    """
    Look the program up as execvp(3) would, in the container, as its user.

    Its environment is built here, too: a seccomp filter, which may be loaded next, need not allow
    the calls that find HOME.
    """
    context.env = _environment(step.env, context.inside)
    name = step.args[0]
    if "/" in name:
        problem = _problem(name, context.inside)
        if problem:
            raise diagnose.refusal(name, problem)
        context.program = name
    else:
        context.program = _search(
            name, _variable(step.env, "PATH") or _DEFAULT_PATH, context.inside
        )


def _search(name: str, path: str, root: Root) -> str:
    denied = 0
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        problem = _problem(candidate, root) if name else errno.ENOENT
        if not problem:
            return candidate
        denied = denied or (problem if problem != errno.ENOENT else 0)
    if denied:
        raise diagnose.refusal(name, denied)
    raise ProgramError(f'exec: "{name}": executable file not found in $PATH', remedy=path)


def _problem(path: str, root: Root) -> int:
    """
    The errno with which executing this file would fail, as far as can be known; 0 for none.

    A program that is /proc/self/exe, or reached through such a magic link, would be this very
    interpreter (CVE-2019-5736): opening it fails with ELOOP.
    """
    try:
        absolute = path if path.startswith("/") else os.path.join(os.getcwd(), path)
        file = _open(absolute, os.O_PATH, root)
    except KernelError as error:
        return errno.ENOENT if error.errno == errno.ENOTDIR else error.errno
    mode = os.fstat(file).st_mode
    os.close(file)
    if stat.S_ISDIR(mode):
        return errno.EISDIR
    return 0 if stat.S_ISREG(mode) and _may_execute(path) else errno.EACCES


def _may_execute(path: str) -> bool:
    """
    Whether execve(2) would permit it: that checks effective ids and capabilities.

    The real ids are tried first, because a filter that is older than faccessat2(2) may forbid that.
    """
    return os.access(path, os.X_OK) or os.access(path, os.X_OK, effective_ids=True)


def _variable(env: tuple[str, ...], name: str) -> str | None:
    """The value of a variable; the last one if it is set twice."""
    prefix = f"{name}="
    values = [entry[len(prefix) :] for entry in env if entry.startswith(prefix)]
    return values[-1] if values else None


@child_step(steps.Execute)
def execute(step: steps.Execute, context: Context) -> None:
    """Become the program. Does not return; raises ProgramError if execve fails."""
    try:
        pid = str(os.getpid())
        os.execve(context.program, step.args, _with_sockets(step, context.env, pid))
    except OSError as error:
        raise diagnose.refusal(context.program, error.errno or 0, context.inside) from None


def command(step: steps.Execute, context: Context, pid: str = "") -> Program:
    """
    (path, arguments, environment) of the program, as execve(2) takes them.

    pid  that of the program, if it is not this process's
    """
    env = _with_sockets(step, context.env, pid or str(os.getpid()))
    return (
        os.fsencode(context.program),
        tuple(os.fsencode(word) for word in step.args),
        tuple(os.fsencode(f"{name}={value}") for name, value in env.items()),
    )


def _with_sockets(step: steps.Execute, env: dict[str, str], pid: str) -> dict[str, str]:
    """
    The environment plus what sd_listen_fds(3) reads; the pid is the one the program sees.

    Podman writes these variables into the configuration as well, with 1 as the pid.
    """
    if not step.listen_fds:
        return env
    env = env | {"LISTEN_FDS": str(step.listen_fds), "LISTEN_PID": pid}
    return env | {"LISTEN_FDNAMES": step.listen_names} if step.listen_names else env


def _environment(entries: tuple[str, ...], root: Root) -> dict[str, str]:
    env = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if not env.get("HOME"):
        env["HOME"] = _home(root)
    return env


def _open(path: str, flags: int, root: Root) -> int:
    """
    Open a file of the container; the root of this process must be the container's already.

    A filter that is already loaded may be older than openat2(2).
    """
    try:
        return root.open(path, flags)
    except KernelError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, path) from None


def _home(root: Root) -> str:
    """
    The user's home from the container's passwd file, "/" if it has none. passwd(5).

    The file is parsed here: the C library's own look-up would load the container's name services
    into this process.
    """
    uid = str(os.getuid())
    try:
        file = _open("/etc/passwd", os.O_RDONLY | os.O_NONBLOCK, root)
    except KernelError:
        return "/"
    try:
        text = os.read(file, _PASSWD_LIMIT).decode(errors="surrogateescape")
    except OSError:  # a directory, or a FIFO with a writer but no data
        return "/"
    finally:
        os.close(file)
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == uid:
            home = fields[5]
            return "/" if not home or "\0" in home else home  # an environment cannot contain a NUL
    return "/"
