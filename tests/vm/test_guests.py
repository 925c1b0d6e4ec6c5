"""The tiny guests: their blobs, and what they do on each engine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pycontain.errors import PycontainError
from pycontain.vm import guests, ring3
from pycontain.vm.guests import GUESTS
from pycontain.vm.machine import Hardware, run_flat
from pycontain.vm.sink import Capture

FOLDER = Path(guests.__file__).parent
JOB = b"".join(bytes((0x30 + line,)) * 63 + b"\n" for line in range(64))
EXPECTED = {
    "tiny": ("halt", 0, b"!\n"),
    "real": ("halt", 0, b"hello from real mode\n"),
    "protected": ("exit", 0, b"hello from protected mode\n"),
    "long": ("exit", 0, b"hello from long mode\n"),
    "ring3": (
        "exit",
        3,
        b"ring 0: starting a program\nring 3: hello by SYSCALL\nring 3: back again, goodbye\n",
    ),
    "fault": (
        "exit",
        14,
        b"reading where nothing is mapped\npage fault caught by the guest: CR2 is right\n",
    ),
    "timer": ("exit", 0, b"tick\n" * 3),
    "smp": ("exit", 0, b"hello from two processors\n"),
    "uart": ("exit", 0, JOB),
    "hypercall": ("exit", 0, JOB),
    "virtio": ("exit", 0, JOB),
}


def run(name: str, engine: str):
    guest, output = GUESTS[name], Capture()
    hardware = Hardware(cpus=guest.cpus, irqchip=guest.irqchip)
    return run_flat(guest.image(), output, hardware, timeout=30, engine=engine), bytes(output.data)


def test_every_guest_of_the_folder_is_in_the_table_and_expected():
    sources = {path.stem for path in FOLDER.glob("*.S")}
    assert sources == set(GUESTS) == set(EXPECTED) == {p.stem for p in FOLDER.glob("*.bin")}


@pytest.mark.parametrize("name", GUESTS)
def test_the_blob_is_what_the_source_assembles_to(name, assemble):
    assert assemble(FOLDER / f"{name}.S") == GUESTS[name].image()


def test_the_entry_page_is_what_its_source_assembles_to(assemble):
    folder = Path(ring3.__file__).parent
    code = (folder / "entry.bin").read_bytes()
    assert assemble(folder / "entry.S", 0x4000) == code
    assert code[ring3.COPY - ring3.ENTRY :][:2] == b"\xf3\xa4"  # rep movsb
    assert code[ring3.PROBE - ring3.ENTRY :] == b"\x0f\x05"  # syscall


def test_the_vdso_is_what_its_source_is_linked_to(tmp_path):
    if not shutil.which("ld"):
        pytest.skip("needs binutils")
    folder, made = Path(ring3.__file__).parent, tmp_path / "vdso"
    subprocess.run(["as", "--64", "-o", f"{made}.o", folder / "vdso.S"], check=True)
    flags = ["-shared", "-soname", "linux-vdso.so.1", "--hash-style=both", "--build-id=none", "-s",
             "-z", "max-page-size=4096", "-z", "norelro", "-T", folder / "vdso.lds"]  # fmt: skip
    subprocess.run(["ld", "-m", "elf_x86_64", *flags, "-o", made, f"{made}.o"], check=True)
    assert made.read_bytes() == ring3.blob("vdso")
    assert len(made.read_bytes()) < 4096


@pytest.mark.parametrize("name", GUESTS)
def test_the_guest_prints_and_ends_as_expected(name, engine):
    if engine == "emulate" and not GUESTS[name].emulated:
        with pytest.raises(PycontainError, match="emulator"):
            run(name, engine)
        return
    result, output = run(name, engine)
    assert (result.ending.why, result.ending.status, output) == EXPECTED[name]


def test_the_three_ways_of_one_job_differ_in_exits(engine):
    exits = {name: run(name, engine)[0].stats.total() for name in ("uart", "hypercall", "virtio")}
    assert exits == {"uart": 2 * 4096 + 1, "hypercall": 2, "virtio": 17}
