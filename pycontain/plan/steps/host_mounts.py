"""The steps of a container without a mount namespace, which sees the mounts of the host."""

from __future__ import annotations

from .base import Step


class OpenRoot(Step):
    """Without a mount namespace the rootfs is used where it is."""

    name = "open root"
    path: str

    def what(self) -> str:
        return f"open {self.path}, the new root"


class RequireMissing(Step):
    """Without a mount namespace, paths cannot be protected: that would change the host."""

    name = "missing paths"
    paths: tuple[tuple[str, str], ...]  # (path, JSON path)

    def what(self) -> str:
        return "check that these do not exist: " + ", ".join(path for path, _ in self.paths)


class ChangeDirectoryRoot(Step):
    """Without a mount namespace, the root is changed for this process alone."""

    name = "chroot"
    path: str

    def what(self) -> str:
        return f"chroot to {self.path}"
