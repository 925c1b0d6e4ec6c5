"""
Labels for AppArmor and SELinux, of the program and of mounts, as steps.

config.md, Process: apparmorProfile, selinuxLabel; config-linux.md, Mount Label.
"""

from __future__ import annotations

from ..errors import SpecError
from . import steps
from .steps.labels import LabelMount, LabelProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Process
    from .facts import Facts

UNCONFINED = "unconfined"  # what Podman writes on hosts without AppArmor, too
CONTEXT_TYPE = "run.oci.mount_context_type"  # crun's
_CONTEXTS = ("context", "fscontext", "defcontext", "rootcontext")  # mount(8)
# The kernel labels these by their content; a queue's directory takes an attribute instead.
_WITHOUT_CONTEXT = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue")


def process_steps(process: Process, facts: Facts) -> list[steps.Step]:
    """The step that labels the program. Raises SpecError on a host without the module."""
    profile = process.apparmorProfile or ""
    if profile == UNCONFINED and not facts.apparmor:
        profile = ""
    label = process.selinuxLabel or ""
    if profile and not facts.apparmor:
        raise _missing("AppArmor", f"{process.at}.apparmorProfile", profile)
    if label and not facts.selinux:
        raise _missing("SELinux", f"{process.at}.selinuxLabel", label)
    if not (profile or label):
        return []
    why = f"{process.at}.apparmorProfile, {process.at}.selinuxLabel"
    return [LabelProcess(apparmor=profile, selinux=label, why=why)]


def mount_steps(
    mounts: list[steps.Step], label: str, annotations: dict[str, str], facts: Facts
) -> list[steps.Step]:
    """The mounts with this label, unless one has its own. Raises SpecError without SELinux."""
    if not facts.selinux:
        raise _missing("SELinux", "linux.mountLabel", label)
    kind = annotations.get(CONTEXT_TYPE) or "context"
    if kind not in _CONTEXTS:
        at, remedy = f"annotations[{CONTEXT_TYPE}]", f"use one of {', '.join(_CONTEXTS)}"
        raise SpecError("is not an option of mount(8)", at=at, value=kind, remedy=remedy)
    planned: list[steps.Step] = []
    for step in mounts:
        if not isinstance(step, steps.MountFilesystem):
            planned.append(step)
        elif step.kind == "mqueue":
            planned += [step, LabelMount(target=step.target, label=label, why="linux.mountLabel")]
        elif step.kind in _WITHOUT_CONTEXT or _has_context(step):
            planned.append(step)
        else:
            planned.append(step.replace(options=(*step.options, f"{kind}={label}")))
    return planned


def _has_context(step: steps.MountFilesystem) -> bool:
    return any(option.partition("=")[0] in _CONTEXTS for option in step.options)


def _missing(module: str, at: str, value: str) -> SpecError:
    remedy = f"enable {module}, or leave the label out"
    return SpecError(
        f"needs {module}, which this host does not use", at=at, value=value, remedy=remedy
    )
