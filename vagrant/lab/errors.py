"""
What the lab raises.

LabError
├── BootHang       the machine said nothing that ends the wait, within the limit
└── PortTaken      somebody else got the loopback port first; another try helps
"""


class LabError(Exception):
    """The machine could not be had or was lost. The text is complete and says what can be done."""


class BootHang(LabError):
    """No ready line and no failure within the boot's limit."""


class PortTaken(LabError):
    """The loopback port chosen for ssh was taken between choosing and use."""
