"""The machine's initial RAM disk: busybox, the modules of the root disk, one script."""

import gzip
import lzma
import stat
from collections.abc import Iterator
from pathlib import Path

WANTED = ("virtio_pci", "virtio_blk", "ext4")
"""What the kernel needs to mount the root disk."""

_MAGIC = "070701"  # cpio's "new ASCII" format, cpio(5)


def modules(folder: Path) -> list[Path]:
    """
    The wanted modules and what they depend on, each after its dependencies.

    `folder` is /lib/modules/VERSION of the image's tree; it has no file for built-in modules.
    """
    needs: dict[str, list[str]] = {}
    paths: dict[str, Path] = {}
    for line in (folder / "modules.dep").read_text(encoding="ascii").splitlines():
        file, _, rest = line.partition(":")
        paths[_module(file)] = folder / file
        needs[_module(file)] = [_module(name) for name in rest.split()]
    found: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in found or name not in paths:
            return
        for other in needs[name]:
            add(other)
        found[name] = paths[name]

    for name in (*WANTED, "crc32c_generic"):
        add(name)
    return list(found.values())


def _module(file: str) -> str:
    return Path(file).name.split(".ko")[0].replace("-", "_")


def archive(tree: Path, script: Path) -> bytes:
    """
    The RAM disk's compressed archive.

    `tree` is the image's root tree, whose busybox and modules are used; `script` becomes /init.
    """
    version = next((tree / "lib/modules").iterdir())
    entries: list[tuple[str, int, bytes]] = [
        (name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "dev", "proc", "new", "modules")
    ]
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, (tree / "bin/busybox").read_bytes()))
    entries.append(("init", stat.S_IFREG | 0o755, script.read_bytes()))
    order = []
    for path in modules(version):
        data = path.read_bytes()
        name = _module(path.name) + ".ko"
        order.append(name)
        plain = lzma.decompress(data) if path.suffix == ".xz" else data
        entries.append((f"modules/{name}", stat.S_IFREG | 0o644, plain))
    entries.append(("modules/order", stat.S_IFREG | 0o644, "\n".join([*order, ""]).encode()))
    return gzip.compress(b"".join(_cpio(entries)), compresslevel=6, mtime=0)


def _cpio(entries: list[tuple[str, int, bytes]]) -> Iterator[bytes]:
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = (_MAGIC + "".join(f"{field:08x}" for field in fields)).encode()
        yield _padded(header + encoded)
        yield _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
