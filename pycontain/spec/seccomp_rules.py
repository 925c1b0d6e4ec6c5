"""Is a seccomp profile valid? Source: config-linux.md, Seccomp; seccomp(2)."""

from __future__ import annotations

from . import names
from .problem import between, each, known, problem, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Located, Problems
    from .records import Seccomp, SeccompRule

# The largest errnoRet: an errno, which libseccomp requires to be below the kernel's MAX_ERRNO, or a
# message to the tracer.
_LARGEST_RETURN = {"SCMP_ACT_ERRNO": 4094, "SCMP_ACT_TRACE": 0xFFFF}


def problems(seccomp: Seccomp) -> Problems:
    """Everything that is wrong with the profile."""
    yield from _listener(seccomp)
    yield from _action(seccomp, "defaultAction", "defaultErrnoRet")
    for at, arch in each(seccomp, "architectures"):
        yield from known(at, arch, names.SECCOMP_ARCHS)
    for at, flag in each(seccomp, "flags"):
        yield from known(at, flag, names.SECCOMP_FLAGS)
    for rule in seccomp.syscalls:
        yield from _rule(rule)


def notifies(seccomp: Seccomp) -> bool:
    """Whether an agent decides about some system calls; otherwise listenerPath is ignored."""
    actions = (seccomp.defaultAction, *(rule.action for rule in seccomp.syscalls))
    return "SCMP_ACT_NOTIFY" in actions


def _listener(seccomp: Seccomp) -> Problems:
    if notifies(seccomp) and not seccomp.listenerPath:
        remedy = "set it to the socket of the agent that decides"
        yield problem(under(seccomp, "listenerPath"), "is needed by SCMP_ACT_NOTIFY", remedy)
    if seccomp.listenerMetadata and not seccomp.listenerPath:
        remedy = "remove it, or set listenerPath"
        yield problem(under(seccomp, "listenerMetadata"), "is set without listenerPath", remedy)


def _rule(rule: SeccompRule) -> Problems:
    if not rule.names:
        yield problem(under(rule, "names"), "names no system call", "name one, or drop the rule")
    yield from _action(rule, "action", "errnoRet")
    for arg in rule.args:
        yield from between(arg, "index", 0, 5)  # a system call has six arguments: syscall(2)


def _action(record: Located, key: str, errno_key: str) -> Problems:
    action, errno = getattr(record, key), getattr(record, errno_key)
    if action in _LARGEST_RETURN:
        yield from between(record, errno_key, 0, _LARGEST_RETURN[action])
    elif errno is not None:
        why = f"has no meaning for {action}"
        remedy = f"remove it, or use {' or '.join(_LARGEST_RETURN)}"
        yield problem(under(record, errno_key), why, remedy, errno)
