"""
The lab's exceptions.

LabError
├── BootHang       neither a ready line nor a failure within the boot's limit
└── PortTaken      another process took the loopback port first; a retry helps
"""


class LabError(Exception):
    """The machine did not boot or was lost. The message is complete and includes any remedy."""


class BootHang(LabError):
    """No ready line and no failure within the boot's limit."""


class PortTaken(LabError):
    """The loopback port chosen for ssh was taken between choosing and use."""
