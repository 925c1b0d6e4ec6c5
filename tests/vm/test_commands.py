"""The entry points behind `pycontain vm`, and the module's own command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import pycontain.vm as vm
from pycontain.errors import UsageError
from pycontain.vm import commands
from pycontain.vm.trace import Stats

BUSYBOX = shutil.which("busybox") or "/bin/busybox"


def command(*arguments, **given):
    return subprocess.run(
        [sys.executable, "-m", "pycontain", "vm", *arguments],
        check=False, capture_output=True, text=True, timeout=60, **given,
    )  # fmt: skip


def test_the_error_for_an_unknown_guest_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"guest = nothing is neither .*; guests: tiny, real"):
        commands.run_guest("nothing", commands.GuestOptions())


def test_a_guest_that_the_emulator_cannot_run_names_the_other_engine():
    with pytest.raises(UsageError, match=r"guest = timer needs interrupts .*use --engine kvm"):
        commands.run_guest("timer", commands.GuestOptions(engine="emulate"))


def test_the_error_for_a_program_given_as_guest_names_the_right_command():
    with pytest.raises(UsageError, match="run it with: pycontain vm run -- /bin/sh"):
        commands.run_guest("/bin/sh", commands.GuestOptions())


def test_a_flat_binary_of_the_user_runs_with_a_disk(engine, assemble, tmp_path, capfd):
    image = assemble("""
        .include "board.inc"
        enter_protected
protected:
        flat_segments
        mov $COM1, %dx
        mov 0xd0001008, %al              # the kind of the second device: 2, a disk
        add $'0', %al
        out %al, (%dx)
        mov 0xd0001100, %al              # its sectors
        add $'0', %al
        out %al, (%dx)
        exit 5
        gdt_table
    """)
    (tmp_path / "flat").write_bytes(image)
    (tmp_path / "disk").write_bytes(bytes(4 * 512))
    options = commands.GuestOptions(engine=engine, timeout=20, disk=str(tmp_path / "disk"))
    report = commands.run_guest(str(tmp_path / "flat"), options)
    assert (report.why, report.status, capfd.readouterr().out) == ("exit", 5, "24")


def test_the_report_of_a_run_is_json():
    stats = Stats()
    stats.add("out", 0.5, 0.25)
    report = commands.Report(engine="kvm", why="halt", status=0, seconds=1.0, stats=stats)
    record = json.loads(json.dumps(report.record()))
    assert record["stats"]["by_reason"] == [{"reason": "out", "count": 1, "seconds": 0.25}]


def test_the_vm_names_of_the_library_are_loaded_on_first_use():
    code = (
        "import sys, pycontain.vm as vm; assert 'mmap' not in sys.modules;"
        "[getattr(vm, name) for name in vm.__all__]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vm.nothing


def test_a_tiny_guest_imports_nothing_heavy(needs_kvm):
    code = (
        "import sys\nfrom pycontain.vm.commands import GuestOptions, run_guest\n"
        "run_guest('tiny', GuestOptions(timeout=20))\n"
        "heavy = 'typing re json enum dataclasses subprocess threading pathlib struct contextlib'\n"
        "print(sorted(set(heavy.split()) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], check=True, capture_output=True, text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("!\n", "[]\n")


def test_the_error_without_kvm_names_the_emulator(tmp_path):
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c",
         f"mount -t tmpfs none /dev && {sys.executable} -m pycontain vm run tiny"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip("needs the right to unshare mounts")
    assert done.returncode == 1
    assert done.stderr == (
        "pycontain: open: /dev/kvm does not exist; load the kvm modules, or use --engine emulate\n"
    )


def test_the_command_line_runs_guests_and_programs(needs_kvm):
    done = command("run", "ring3", "--stats")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (3, "ring 3: back again, goodbye")
    assert "out " in done.stderr
    done = command("run", "--", BUSYBOX, "uname", "-s")
    assert (done.returncode, done.stdout) == (0, "Linux\n")
    done = command("caps", "--format", "json")
    assert json.loads(done.stdout)["api_version"] == 12


def test_the_program_does_not_get_the_environment_of_the_caller(engine, monkeypatch, capfd):
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.setenv("PATH", "/home/someone/bin:/bin")
    options = commands.GuestOptions(engine=engine, timeout=60, environment=("A=1", "B==", "A=2"))

    def shown():
        commands.run_program([BUSYBOX, "env"], options)
        return capfd.readouterr().out.splitlines()

    standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert shown() == [f"PATH={standard}", "A=2", "B=="]
    monkeypatch.setattr(
        commands, "environment", lambda _: [f"{name}={value}" for name, value in os.environ.items()]
    )
    assert "TOKEN=secret" in shown()


@pytest.mark.parametrize("pair", ["TOKEN", "=x", "", "A=\0"])
def test_a_variable_without_a_value_is_refused_and_not_taken_from_the_caller(pair, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    with pytest.raises(UsageError, match="--env.* is not NAME=VALUE"):
        commands.environment([pair])


def test_a_variable_replaces_the_standard_path():
    assert commands.environment(["PATH=/x", "A=1"]) == ["PATH=/x", "A=1"]


def test_the_command_line_gives_files_and_variables(needs_kvm, tmp_path):
    (tmp_path / "a:b").write_text("in\n")
    (tmp_path / "out").mkdir()
    shown = ["--volume", f"{tmp_path}/a:b:/in:ro", "-v", f"{tmp_path}/out:/out:rw"]
    done = command("run", *shown, "-e", "X=/in", "--", BUSYBOX, "sh", "-c", "echo $X > /out/made")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/made").read_text() == "/in\n"
    assert command("run", *shown, "--", BUSYBOX, "cat", "/in").stdout == "in\n"


@pytest.mark.parametrize("volume", ["/etc", "/etc:etc", ":/etc", "/etc:/etc:rx", "/etc:rw", ""])
def test_a_volume_that_cannot_be_understood_is_refused(volume):
    done = command("run", "--volume", volume, "--", BUSYBOX, "true")
    assert done.returncode == 1
    assert "is not HOST:GUEST[:ro|rw] with an absolute GUEST" in done.stderr


@pytest.mark.parametrize("program", [False, True])
def test_ctrl_c_ends_a_guest_that_spins(engine, tmp_path, program):
    if program:
        (tmp_path / "spin.c").write_text("int main(void) { for (;;); }")
        if not shutil.which("gcc"):
            pytest.skip("needs gcc")
        flags = ["-static", "-o", tmp_path / "spin", tmp_path / "spin.c"]
        subprocess.run(["gcc", *flags], check=True)
    else:
        (tmp_path / "spin").write_bytes(b"\xb0\x21\xba\xf8\x03\xee\xeb\xfe")  # prints "!" first
    words = ["run", "--engine", engine, *(["--"] if program else []), str(tmp_path / "spin")]
    child = subprocess.Popen(
        [sys.executable, "-m", "pycontain", "vm", *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert child.stdout
    if program:
        wait_until_busy(monitor_of(child.pid))
    else:
        assert child.stdout.read(1) == b"!"
    child.send_signal(signal.SIGINT)
    try:
        assert child.wait(timeout=20) != 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def monitor_of(pid):
    """The process in whose jail the program of `vm run` is served; root's has its own pids."""
    for _ in range(1 if os.geteuid() else 2):
        pid = child_of(pid)
    return pid


def child_of(pid):
    while True:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            if found := file.read().split():
                return int(found[0])
        time.sleep(0.01)


def wait_until_busy(pid):
    """Wait until a process has used so much CPU time that it must be in its guest."""
    while True:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        if int(fields[11]) + int(fields[12]) > 150:
            return
        time.sleep(0.02)
