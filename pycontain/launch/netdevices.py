"""
Moving network devices into the container's network namespace. config-linux.md, Network devices.

The kernel brings a device down when it changes its namespace, and removes its addresses: permanent
ones with global scope are restored, and the device is brought up. If the container cannot be
created, the devices are moved back as they were; later nobody moves them back.

Source: rtnetlink(7), network_namespaces(7).
"""

from __future__ import annotations

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ..errors import StepError, reason
from ..kernel import calls
from ..kernel import const as c
from ..lean import os
from ..plan.steps import netdevices
from ..plan.walk import parent_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .launch import Launch

_IFF_UP = 0x1  # <linux/if.h>
_IFA_F_PERMANENT = 0x80  # <linux/if_addr.h>
_RT_SCOPE_UNIVERSE = 0  # <linux/rtnetlink.h>
_KEPT = ("IFA_ADDRESS", "IFA_LOCAL", "IFA_BROADCAST", "IFA_RT_PRIORITY", "IFA_FLAGS", "IFA_PROTO")
_OWN = "/proc/self/ns/net"


@parent_step(netdevices.MoveDevices)
def move_devices(step: netdevices.MoveDevices, launch: Launch) -> None:
    """Move each device, after checking all of them."""
    launch.network = _namespace(step, launch)
    own = _open(_OWN)
    try:
        with _Network(own) as host, _Network(launch.network) as inside:
            devices = [_Device(name, new, host) for name, new in step.names.items()]
            for device in devices:
                device.check(inside)
            for device in devices:
                launch.on_undo(_moving_back(device, launch))
                device.move(host, inside)
    finally:
        os.close(own)


class _Network:
    """A network namespace, by its descriptor, with a netlink socket in it while it is entered."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> _Network:
        own = _open(_OWN)
        try:
            calls.setns(self.fd, c.CLONE_NEWNET)
            try:
                self.socket = IPRoute()
            finally:
                calls.setns(own, c.CLONE_NEWNET)
        finally:
            os.close(own)
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def links(self) -> dict[str, Any]:
        """The devices by their names."""
        return {link.get_attr("IFLA_IFNAME"): link for link in self.socket.get_links()}

    def numbers(self) -> set[int]:
        """The indexes of the devices."""
        return {link["index"] for link in self.socket.get_links()}


class _Device:
    """
    A network device as it was on the host.

    new     its name in the container
    number  its index on the host
    inside  its index in the container
    """

    def __init__(self, name: str, new: str, host: _Network) -> None:
        """Raises StepError for a device that does not exist."""
        self.name, self.new = name, new
        link = host.links().get(name)
        if link is None:
            raise StepError("does not exist", at=self.at, remedy="`ip link` lists the devices")
        self.number = self.inside = link["index"]
        self.is_up = bool(link["flags"] & _IFF_UP)
        self.addresses = [
            {"family": address["family"], "prefixlen": address["prefixlen"], **_kept(address)}
            for address in host.socket.get_addr(index=self.number)
            if address.get_attr("IFA_FLAGS", address["flags"]) & _IFA_F_PERMANENT
            and address["scope"] == _RT_SCOPE_UNIVERSE
        ]

    @property
    def at(self) -> str:
        """Its JSON path."""
        return f"linux.netDevices[{self.name}]"

    def check(self, inside: _Network) -> None:
        """Raises StepError if another device has its new name; %d never does."""
        if "%" not in self.new and self.new in inside.links():
            raise StepError(
                "is the name of a device that the container's network namespace has already",
                at=f"{self.at}.name",
                value=self.new,
                remedy="choose another one, or a template such as net%d",
            )
        taken = inside.numbers()
        if self.number in taken:
            self.inside = max(taken) + 1

    def move(self, host: _Network, inside: _Network) -> None:
        """Move it from the host, restore its addresses, and bring it up."""
        try:
            _change(host, self.number, inside, self.inside, self.new)
            self._restore(inside, self.inside)
            inside.socket.link("set", index=self.inside, state="up")
        except NetlinkError as error:
            raise self._refused("moved", error) from None

    def move_back(self, host: _Network, inside: _Network) -> None:
        """Move it back, if it was moved."""
        if self.name in host.links() or self.inside not in inside.numbers():
            return
        try:
            inside.socket.link("set", index=self.inside, state="down")
            _change(inside, self.inside, host, self.number, self.name)
            self._restore(host, self.number)
            if self.is_up:
                host.socket.link("set", index=self.number, state="up")
        except NetlinkError as error:
            raise self._refused("moved back", error) from None

    def _restore(self, network: _Network, number: int) -> None:
        for address in self.addresses:
            network.socket.addr("replace", index=number, **address)

    def _refused(self, what: str, error: NetlinkError) -> StepError:
        why = f"cannot be {what}: {reason(error.code)}"
        return StepError(why, at=self.at, value=self.new, errno=error.code)


def _change(source: _Network, number: int, target: _Network, new_number: int, name: str) -> None:
    """Move a device to another namespace, where it has this index and name."""
    source.socket.link(
        "set", index=number, net_ns_fd=target.fd, new_ifindex=new_number, ifname=name
    )


def _moving_back(device: _Device, launch: Launch) -> Callable[[], None]:
    def move_back() -> None:
        own = _open(_OWN)
        try:
            with _Network(own) as host, _Network(launch.network) as inside:
                device.move_back(host, inside)
        finally:
            os.close(own)

    return move_back


def _kept(address: Any) -> dict[str, Any]:
    """The attributes with which an address is restored; not its label, which has the old name."""
    attributes = ((key, address.get_attr(key)) for key in _KEPT)
    return {key[4:].lower(): value for key, value in attributes if value is not None}


def _namespace(step: netdevices.MoveDevices, launch: Launch) -> int:
    """A descriptor of the container's network namespace."""
    if step.joined:
        return os.dup(launch.namespaces[c.CLONE_NEWNET])
    if launch.caller.network >= 0 and launch.ids is None:  # the child will enter it
        return os.dup(launch.caller.network)
    return _open(f"/proc/{launch.child.pid}/ns/net")


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
