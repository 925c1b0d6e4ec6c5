"""
Mounts of config.json to steps: one table for every mount option.

Source: config.md, Mounts (Linux mount options); mount_setattr(2); mount(8).
"""

from __future__ import annotations

from ..errors import SpecError
from ..kernel import const as c
from ..lean import os
from . import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Mount

# option -> (attributes set, attributes cleared)
ATTRIBUTES = {
    "ro": (c.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, c.MOUNT_ATTR_RDONLY),
    "nosuid": (c.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, c.MOUNT_ATTR_NOSUID),
    "nodev": (c.MOUNT_ATTR_NODEV, 0),
    "dev": (0, c.MOUNT_ATTR_NODEV),
    "noexec": (c.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, c.MOUNT_ATTR_NOEXEC),
    "nodiratime": (c.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, c.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (c.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, c.MOUNT_ATTR_NOSYMFOLLOW),
    # mutually exclusive; clearing one leaves the kernel's default, relatime
    "noatime": (c.MOUNT_ATTR_NOATIME, c.MOUNT_ATTR__ATIME),
    "atime": (c.MOUNT_ATTR_RELATIME, c.MOUNT_ATTR__ATIME),
    "relatime": (c.MOUNT_ATTR_RELATIME, c.MOUNT_ATTR__ATIME),
    "norelatime": (c.MOUNT_ATTR_RELATIME, c.MOUNT_ATTR__ATIME),
    "strictatime": (c.MOUNT_ATTR_STRICTATIME, c.MOUNT_ATTR__ATIME),
    "nostrictatime": (c.MOUNT_ATTR_RELATIME, c.MOUNT_ATTR__ATIME),
}
RECURSIVE_ATTRIBUTES = {f"r{word}": bits for word, bits in ATTRIBUTES.items()}

PROPAGATION = {
    "shared": (c.MS_SHARED, False),
    "rshared": (c.MS_SHARED, True),
    "slave": (c.MS_SLAVE, False),
    "rslave": (c.MS_SLAVE, True),
    "private": (c.MS_PRIVATE, False),
    "rprivate": (c.MS_PRIVATE, True),
    "unbindable": (c.MS_UNBINDABLE, False),
    "runbindable": (c.MS_UNBINDABLE, True),
}

# Options of the file system itself, which fsconfig(2) takes by name.
SUPERBLOCK = ("sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand")

# Options without an effect: the kernel's mount API has no such flags (silent is about its log,
# iversion is now up to each file system).
IGNORED = ("defaults", "silent", "loud", "iversion", "noiversion")

# What a bind mount takes from its source unless a flag is listed, besides the access times.
_INHERITED = (
    c.MOUNT_ATTR_RDONLY
    | c.MOUNT_ATTR_NOSUID
    | c.MOUNT_ATTR_NODEV
    | c.MOUNT_ATTR_NOEXEC
    | c.MOUNT_ATTR_NOSYMFOLLOW
)
_TIMES_ON = frozenset(("noatime", "relatime", "strictatime", "nodiratime"))

# File system options that every mount has by default.
_OFF = ("async", "nolazytime", "nomand")

# How a symlink at the source or the destination of a bind mount is treated: crun(1).
LINKS = ("copy-symlink", "src-nofollow", "dest-nofollow")

KINDS = ("bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap", *LINKS)

# The flags of mount(8) that affect one mount, not those below it.
_FLAGS = frozenset((*ATTRIBUTES, *SUPERBLOCK, *IGNORED)) - {"defaults"}

OPTIONS = (*ATTRIBUTES, *RECURSIVE_ATTRIBUTES, *PROPAGATION, *SUPERBLOCK, *IGNORED, *KINDS)

# In memory, so "ro" is set on the mount, not the file system: the content is created later.
_FILLED_LATER = ("tmpfs", "ramfs")


def writable_cgroup(mounts: tuple[Mount, ...]) -> bool:
    """Whether cgroup2 is mounted at /sys/fs/cgroup, and writable."""
    return any(
        mount.type in ("cgroup", "cgroup2")
        and os.path.normpath(mount.destination) == "/sys/fs/cgroup"
        and not {"ro", "rro"} & set(mount.options)
        for mount in mounts
    )


class _Words:
    """The options of one mount, sorted by what they affect."""

    def __init__(self, options: tuple[str, ...]) -> None:
        self.on = self.off = self.recursive_on = self.recursive_off = 0
        self.propagation: tuple[tuple[int, bool], ...] = ()
        self.kinds: set[str] = set()
        self.data: tuple[str, ...] = ()
        self.listed = frozenset(word for word in options if word in _FLAGS)
        for word in options:
            self._take(word)

    def _take(self, word: str) -> None:
        if word in ATTRIBUTES:
            self.on, self.off = _switched(self.on, self.off, *ATTRIBUTES[word])
        elif word in RECURSIVE_ATTRIBUTES:
            self.recursive_on, self.recursive_off = _switched(
                self.recursive_on, self.recursive_off, *RECURSIVE_ATTRIBUTES[word]
            )
        elif word in PROPAGATION:
            self.propagation += (PROPAGATION[word],)
        elif word in KINDS:
            self.kinds.add(word)
        elif word not in IGNORED:
            self.data += _parts(word)

    def ignored(
        self, *, data: bool = False, copies: bool = False, links: bool = False
    ) -> tuple[str, ...]:
        """
        The options that mean nothing to a mount.

        data    it takes options of its file system
        copies  it can be filled with what it covers (tmpcopyup)
        links   its source or destination can be a symlink
        """
        unused = () if data else tuple(word for word in self.data if word not in _OFF)
        unused += () if links else tuple(word for word in LINKS if word in self.kinds)
        return unused if copies else unused + tuple(self.kinds & {"tmpcopyup"})

    def unlisted(self) -> int:
        """
        The attributes of its source that a bind mount does not keep.

        As with mount(8) and runc, a list of flags is the whole list, even if it is only "rw";
        without one, the source's are kept. Access times are a list of their own: "ro" keeps them.
        """
        if not self.listed:
            return 0
        dropped = _INHERITED
        if self.listed & _TIMES_ON:
            dropped |= c.MOUNT_ATTR_NODIRATIME | c.MOUNT_ATTR__ATIME
        decided = self.on | self.off
        if decided & c.MOUNT_ATTR__ATIME:
            decided |= c.MOUNT_ATTR__ATIME
        return dropped & ~decided

    def attributes(self) -> dict[str, int]:
        return {
            "on": self.on,
            "off": self.off,
            "recursive_on": self.recursive_on,
            "recursive_off": self.recursive_off,
        }


def _parts(word: str) -> tuple[str, ...]:
    """
    Split the options of a file system as mount(2) would, which gets them joined with commas.

    Commas that are escaped or quoted, as in an overlay's paths, are left to the file system.
    """
    if "\\" in word or '"' in word:
        return (word,)
    return tuple(part for part in word.split(",") if part)


def _switched(on: int, off: int, more_on: int, more_off: int) -> tuple[int, int]:
    """Later options win: an attribute that one clears is no longer set."""
    return on & ~more_off | more_on, off | more_off | more_on & c.MOUNT_ATTR__ATIME


def mount_steps(
    mounts: tuple[Mount, ...], bundle: str, own_cgroup: bool, rootfs: str
) -> tuple[list[steps.Step], tuple[str, ...]]:
    """
    One step for each mount, in order, and the targets that become read-only later.

    own_cgroup  the container has a cgroup namespace of its own, in which cgroup2 can be mounted
    rootfs      its path on the host

    Raises SpecError for a mount that contradicts itself.
    """
    targets = [_inside(mount.destination, rootfs) for mount in mounts]
    planned = [
        _step(mount, target, bundle, own_cgroup, hidden=_is_hidden(index, targets))
        for index, (mount, target) in enumerate(zip(mounts, targets, strict=True))
    ]
    later = tuple(
        step.target
        for step in planned
        if isinstance(step, (steps.MountFilesystem, steps.MountBind)) and step.readonly_later
    )
    return planned, later


def _is_hidden(index: int, targets: list[str]) -> bool:
    """Whether a later mount covers this one: it has the same target, or is the new root."""
    later = targets[index + 1 :]
    return targets[index] in later or "/" in later


def warnings(planned: list[steps.Step]) -> list[str]:
    """The options without an effect, by their place in the configuration."""
    return [
        f"{step.why}.options: {','.join(step.ignored)} is ignored: it means nothing to this step"
        f" ({step.what()})"
        for step in planned
        if isinstance(step, steps.MountStep) and step.ignored
    ]


def root_propagation(planned: list[steps.Step]) -> int:
    """MS_* of the bind mount that becomes the root, 0 if there is none or it has no such option."""
    binds = (step for step in planned if isinstance(step, steps.MountBind) and step.target == "/")
    kind = 0
    for step in binds:
        kind = step.propagation[-1][0] if step.propagation else 0
    return kind


def plain(path: str) -> str:
    """A path inside the container, absolute and without ".", ".." and "//", as text."""
    return os.path.normpath("/" + path.lstrip("/"))


def _inside(destination: str, rootfs: str) -> str:
    """
    A mount's target inside the container.

    One that begins with the rootfs's own path on the host is taken as relative to the rootfs, as in
    runc: Kubernetes has written such paths.
    """
    path = plain(destination)
    if rootfs != "/" and f"{path}/".startswith(f"{rootfs}/"):
        return plain(path[len(rootfs) :])
    return path


def _step(mount: Mount, target: str, bundle: str, own_cgroup: bool, *, hidden: bool) -> steps.Step:
    words = _Words(mount.options)
    binds = bool(words.kinds & {"bind", "rbind"})
    remounts = "remount" in words.kinds
    if target == "/" and (remounts or not binds):
        raise SpecError(
            "is the root itself, which root.path and root.readonly configure",
            at=f"{mount.at}.destination",
            value=mount.destination,
            remedy="mount below it, or bind a directory there, which becomes the root",
        )
    if remounts:
        return _remount(mount, words, target, bind=binds)
    if binds:
        return _bind(mount, words, target, bundle, hidden=hidden)
    if target == "/proc" and mount.type != "proc":
        raise SpecError(
            "is not proc, but is mounted on /proc, whose content programs trust (CVE-2019-16884)",
            at=f"{mount.at}.type",
            value=mount.type or "none",
            remedy='set it to "proc", or bind a proc there with the option "bind"',
        )
    if mount.type in ("cgroup", "cgroup2") and not own_cgroup:
        return steps.MountCgroup(
            why=mount.at,
            target=target,
            propagation=words.propagation,
            ignored=words.ignored(),
            **words.attributes(),
        )
    return _filesystem(mount, words, target, hidden=hidden)


def _filesystem(mount: Mount, words: _Words, target: str, *, hidden: bool) -> steps.MountFilesystem:
    """The step; hidden: a later mount has the same target, so this one stays empty."""
    kind = mount.type or ""
    if kind in ("", "none", "bind"):
        raise SpecError(
            "has no file system type",
            at=mount.at,
            value=f"{mount.source or 'nothing'} on {target}",
            remedy='set "type", or the option "bind"',
        )
    kind = "cgroup2" if kind == "cgroup" else kind
    copies = "tmpcopyup" in words.kinds and kind == "tmpfs"
    readonly = bool(words.on & c.MOUNT_ATTR_RDONLY)
    late = bool((words.on | words.recursive_on) & c.MOUNT_ATTR_RDONLY)
    late = late and kind in _FILLED_LATER and not hidden
    superblock = ("ro",) if readonly and kind not in _FILLED_LATER else ()
    attributes = words.attributes()
    if late:
        attributes["on"] &= ~c.MOUNT_ATTR_RDONLY
        attributes["recursive_on"] &= ~c.MOUNT_ATTR_RDONLY
    return steps.MountFilesystem(
        why=mount.at,
        target=target,
        kind=kind,
        source=mount.source or kind,
        options=superblock + words.data,
        copy_up=copies,
        readonly_later=late,
        propagation=words.propagation,
        ignored=words.ignored(copies=copies, data=True),
        **attributes,
    )


def _bind(
    mount: Mount, words: _Words, target: str, bundle: str, *, hidden: bool
) -> steps.MountBind:
    """The step; on "/" it becomes read-only once everything in the root exists."""
    source = mount.source or ""
    attributes = words.attributes()
    late = target == "/" and bool(words.on & c.MOUNT_ATTR_RDONLY) and not hidden
    if late:
        attributes["on"] &= ~c.MOUNT_ATTR_RDONLY
    maps = next((word for word in ("ridmap", "idmap") if word in words.kinds), "")
    ids = None
    if mount.uidMappings:
        from .ids import ids_of

        maps, ids = maps or "idmap", ids_of(mount.uidMappings, mount.gidMappings)
    return steps.MountBind(
        why=mount.at,
        target=target,
        source=os.path.normpath(os.path.join(bundle, source)),
        recursive="rbind" in words.kinds,
        maps=maps,
        ids=ids,
        readonly_later=late,
        unlisted=words.unlisted(),
        copies_link="copy-symlink" in words.kinds,
        binds_link="src-nofollow" in words.kinds,
        covers_link="dest-nofollow" in words.kinds,
        propagation=words.propagation,
        ignored=words.ignored(links=True),
        **attributes,
    )


def _remount(mount: Mount, words: _Words, target: str, *, bind: bool) -> steps.Remount:
    return steps.Remount(
        why=mount.at,
        target=target,
        options=() if bind else words.data,
        propagation=words.propagation,
        ignored=words.ignored(data=not bind),
        **words.attributes(),
    )
