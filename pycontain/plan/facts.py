"""What a plan needs to know about the host: read once by the runtime, invented by tests."""

from __future__ import annotations

from ..lean.record import Record


class Facts(Record):
    """
    The properties of the host that affect a plan.

    nested            the runtime is itself in a user namespace, as root of it
    sets_groups       it may set supplementary groups: user_namespaces(7), /proc/PID/setgroups
    mapped            the container is in a user namespace of its own or of another container
    last_capability   the highest capability number of this kernel
    permitted         the runtime's own permitted capabilities, a bit mask
    bounding          the runtime's own bounding set, a bit mask
    apparmor          whether AppArmor confines programs
    selinux           whether SELinux does
    """

    last_capability: int
    permitted: int
    bounding: int
    apparmor: bool = False
    selinux: bool = False
    nested: bool = False
    sets_groups: bool = True
    mapped: bool = False

    def in_user_namespace(self) -> Facts:
        """For a container in one, whose root has every capability there: user_namespaces(7)."""
        every = (1 << self.last_capability + 1) - 1
        return self.replace(permitted=every, bounding=every, mapped=True)
