"""
The places that a sandbox may connect to: "HOST:PORT", and what their names may lead to.

Whoever answers for a name can let it lead anywhere (DNS rebinding), such as to this host, to its
neighbours or to a cloud's metadata service. So a name leads to public addresses alone. Another one
is reached if the list has it as an address with the port: by that, and by the names of the list
that lead to it. "localhost" is this host's loopback device and nothing else.
"""

from __future__ import annotations

import ipaddress

from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOCALHOST = "localhost"
# Whose last four bytes are an IPv4 address that a gateway connects to: RFC 6052, 2.1.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Places(tuple[tuple[str, int], ...]):
    """(host, port) of each entry; "*.HOST" stands for all names below."""

    def allow(self, host: str, port: int) -> bool:
        """Whether a place may be asked for by this name or address."""
        return any(
            port == its_port and (host == allowed or _is_below(host, allowed))
            for allowed, its_port in self
        )

    def lead(self, host: str, address: str, port: int) -> bool:
        """Whether a host that may be asked for may have this address."""
        if host == _LOCALHOST:
            return _embedded(address).is_loopback
        return is_public(address) or (canonical(address), port) in self


def places(wanted: Sequence[str] | None) -> Places | None:
    """
    The places in a list of "HOST:PORT"; None for None.

    Raises UsageError for an entry that is not HOST:PORT.
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        remedy = 'write ["example.org:443"] or "host"'
        why = "is not a list of HOST:PORT"
        raise UsageError(why, at="network", value=repr(wanted), remedy=remedy)
    return Places(_place(entry) for entry in wanted)


def _place(entry: str) -> tuple[str, int]:
    """A place of the list. Raises UsageError."""
    try:
        return split(entry)
    except (ValueError, AttributeError):
        remedy = 'write "example.org:443"'
        raise UsageError(
            "is not HOST:PORT", at="network", value=repr(entry), remedy=remedy
        ) from None


def split(text: str) -> tuple[str, int]:
    """HOST:PORT, the host as `canonical` returns it. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(text)
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    if not set(host).isdisjoint("[]:/@%") or not host.isprintable() or " " in host:
        raise ValueError(text)
    return canonical(host), int(port)


def canonical(host: str) -> str:
    """One spelling of an address or a name, which has lower case and no dot at the end."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().removesuffix(".")


def _is_below(host: str, allowed: str) -> bool:
    return allowed.startswith("*.") and host.endswith(allowed[1:]) and host != allowed[1:]


def is_public(address: str) -> bool:
    """Whether an address is anybody's on the internet, and leads to no other kind of address."""
    found = _embedded(address)
    return found.is_global and not (found.is_reserved or found.is_multicast)


def _embedded(address: str) -> Address:
    """The IPv4 address that an IPv6 one leads to (mapped, NAT64, 6to4), or the address itself."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return found
    if found in _NAT64:
        return ipaddress.IPv4Address(found.packed[-4:])
    return found.ipv4_mapped or found.sixtofour or found
