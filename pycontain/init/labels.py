"""The child's steps for AppArmor and SELinux. apparmor(7), selinux(8)."""

from __future__ import annotations

import errno

from ..errors import KernelError, StepError, reason
from ..kernel.root import Root
from ..lean import os
from ..plan.steps import labels
from ..plan.walk import child_step
from .process import private_proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_ATTRIBUTE = "security.selinux"


@child_step(labels.LabelProcess)
def label_process(step: labels.LabelProcess, context: Context) -> None:
    """
    Set the labels that execve(2) will change to, through a private /proc (CVE-2019-16884).

    Children inherit them, also the program's process in a joined pid namespace.
    """
    proc = Root(private_proc())
    try:
        if step.apparmor:
            text = f"exec {step.apparmor}"
            _write(proc, "apparmor/exec", text, "process.apparmorProfile", step.apparmor)
        if step.selinux:
            _write(proc, "exec", step.selinux, "process.selinuxLabel", step.selinux)
    finally:
        os.close(proc.fd)


def _write(proc: Root, name: str, text: str, at: str, value: str) -> None:
    try:
        file = proc.open(f"thread-self/attr/{name}", os.O_WRONLY)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
    except (KernelError, OSError) as error:
        number = error.errno or 0
        why = "is not loaded" if number == errno.ENOENT else f"is refused: {reason(number)}"
        remedy = "load it with apparmor_parser(8)" if "apparmor" in at else ""
        raise StepError(why, at=at, value=value, remedy=remedy, errno=number) from None


@child_step(labels.LabelMount)
def label_mount(step: labels.LabelMount, context: Context) -> None:
    """Set the extended attribute of the root of a mount."""
    root = context.inside.open(step.target, os.O_RDONLY)
    try:
        os.setxattr(root, _ATTRIBUTE, step.label.encode())
    except OSError as error:
        raise KernelError.of("setxattr", error.errno or 0, step.target) from None
    finally:
        os.close(root)
