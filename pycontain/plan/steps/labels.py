"""The steps for AppArmor and SELinux."""

from __future__ import annotations

from .base import Step


class LabelProcess(Step):
    """The security modules confine the program from its execve on."""

    name = "label"
    apparmor: str = ""
    selinux: str = ""

    def what(self) -> str:
        labels = (("AppArmor profile", self.apparmor), ("SELinux label", self.selinux))
        return "execve with " + ", ".join(f"{kind} {label}" for kind, label in labels if label)


class LabelMount(Step):
    """A file system without the option `context` gets its label as an attribute."""

    name = "mount label"
    target: str
    label: str

    def what(self) -> str:
        return f"label {self.target} {self.label}"
