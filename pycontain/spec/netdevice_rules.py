"""Are the network devices of a configuration valid? config-linux.md, Network devices."""

from __future__ import annotations

from .problem import keyed, problem, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Problems
    from .records import Linux

_LONGEST = 15  # bytes: IFNAMSIZ without the NUL, <linux/if.h>


def problems(linux: Linux) -> Problems:
    """Everything that is wrong with their names."""
    at = under(linux, "netDevices")
    first: dict[str, str] = {}
    for name, device in linux.netDevices.items():
        path = keyed(at, name)
        if not _is_valid(name):
            yield problem(path, "is not the name of a network device", "use one of `ip link`", name)
        new = device.name or name
        if not _is_valid(new.replace("%d", "0", 1)):
            remedy = f"use at most {_LONGEST} bytes, without spaces, / and :, and one %d or none"
            yield problem(f"{path}.name", "is not a name for a network device", remedy, new)
        if new in first and "%" not in new:
            why = f"is the new name of {first[new]}, too"
            yield problem(f"{path}.name", why, "choose another name", new)
        first.setdefault(new, name)


def _is_valid(name: str) -> bool:
    """As dev_valid_name() of Linux; a % would be a template."""
    encoded = name.encode(errors="surrogateescape")
    return (
        0 < len(encoded) <= _LONGEST
        and name not in (".", "..")
        and not any(letter in "/:%" or letter.isspace() or letter == "\0" for letter in name)
    )
