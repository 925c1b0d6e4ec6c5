"""A bundle: a directory with a config.json and a root file system. bundle.md."""

from __future__ import annotations

import errno

from ..errors import KernelError, SpecError
from ..kernel.files import read_text
from ..kernel.wait import FOREVER
from ..lean import os
from ..plan.plan import build
from ..spec.check import check
from ..spec.parse import parse
from .host import read_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.wait import Until
    from ..plan.plan import Plan
    from ..plan.request import Request


class Bundle:
    """
    A bundle, read once.

    path    absolute
    text    the content of config.json
    spec    the checked configuration
    """

    __slots__ = ("_plans", "path", "spec", "text")

    def __init__(self, path: str, config: str = "", text: str = "", until: Until = FOREVER) -> None:
        """
        Read and check a bundle.

        config  the path of a file to read instead of its config.json
        text    the configuration, if it was read already

        Raises SpecError for a configuration that is missing, broken or contradictory.
        """
        self.path = os.path.abspath(path)
        self.text = text or self.read(self.path, config, until)
        self.spec = parse(self.text)
        check(self.spec)
        self._plans: dict[Request, Plan] = {}

    def plan(self, request: Request) -> Plan:
        """
        The plan for a request, built once: it does not depend on the container's id.

        Raises SpecError for what cannot be planned.
        """
        key = request.replace(id="")
        if key not in self._plans:
            self._plans[key] = build(self.spec, request, read_facts())
        return self._plans[key]

    @staticmethod
    def read(path: str, config: str = "", until: Until = FOREVER) -> str:
        """The text of a bundle's configuration. Raises SpecError, and what `until` raises."""
        file = os.path.join(path, config or "config.json")
        try:
            return read_text(file, until)
        except KernelError as error:
            remedy = ""
            if config:
                file = f"--config = {file}"
            elif error.errno in (errno.ENOENT, errno.ENOTDIR):
                remedy = "give the bundle's directory; `pycontain spec` writes a config.json"
            raise SpecError(error.fault.why, at=file, remedy=remedy, errno=error.errno) from None


def check_rootfs(rootfs: str) -> None:
    """Raises SpecError unless the root file system is a directory."""
    if not os.path.isdir(rootfs):
        why = "is not a directory" if os.path.exists(rootfs) else "does not exist"
        raise SpecError(why, at="root.path", value=rootfs, remedy="put the root file system there")
