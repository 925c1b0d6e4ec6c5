"""What the tests of the virtual machines share."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pycontain.vm import guests as tiny
from pycontain.vm import jail

GUESTS = Path(tiny.__file__).parent


def pytest_collection_modifyitems(items):
    missing = [] if os.access("/dev/kvm", os.R_OK | os.W_OK) else ["/dev/kvm"]
    for item in items:
        if "needs_kvm" in item.fixturenames and missing:
            item.add_marker(pytest.mark.skip(reason="needs /dev/kvm"))


@pytest.fixture
def needs_kvm():
    """Skips the test, by name, where there is no /dev/kvm."""


@pytest.fixture(params=["kvm", "emulate"])
def engine(request):
    """Each engine this host has."""
    if request.param == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/kvm")
    if request.param == "emulate":
        pytest.importorskip("unicorn")
    return request.param


@pytest.fixture
def unjailed(monkeypatch):
    """The monitor's jail stays open: a test acts inside the monitor, or shows what it is for."""
    monkeypatch.setattr(jail, "close", lambda *_, **__: None)


@pytest.fixture
def assemble(tmp_path):
    """Assembles text or a file into a flat binary for an address."""
    if not shutil.which("as") or not shutil.which("ld"):
        pytest.skip("needs binutils")

    def build(source: str | Path, address: int = 0x7C00) -> bytes:
        if isinstance(source, str):
            text, source = source, tmp_path / "guest.S"
            source.write_text(text)
        made, image = tmp_path / "guest.o", tmp_path / "guest.bin"
        subprocess.run(["as", "--64", "-I", GUESTS, "-o", made, source], check=True)
        link = ["ld", "-m", "elf_x86_64", "-Ttext", hex(address), "-e", "0", "--oformat", "binary"]
        subprocess.run([*link, "-o", image, made], check=True)
        return image.read_bytes()

    return build
