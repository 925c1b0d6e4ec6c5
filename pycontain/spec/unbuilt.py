"""
The features of the specification that pycontain does not have yet, in one place.

`check.py` refuses them by name, rather than start a container with less than was requested;
`features.py` leaves them out.
"""

from __future__ import annotations

from .problem import not_built, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Problems
    from .records import Linux, Process

_PROPERTIES = {
    "Process": {"apparmorProfile": "AppArmor", "selinuxLabel": "SELinux"},
    "Linux": {
        "intelRdt": "Intel RDT",
        "mountLabel": "SELinux",
    },
}

# The value for no confinement, which Podman writes on hosts without AppArmor.
_UNCONFINED = {"apparmorProfile": "unconfined"}


def properties(record: Process | Linux) -> Problems:
    """The properties of this record that are set but not built."""
    for key, feature in _PROPERTIES[type(record).__name__].items():
        value = getattr(record, key)
        if value not in (None, (), {}, _UNCONFINED.get(key)):
            yield not_built(under(record, key), feature, value if type(value) is str else None)
