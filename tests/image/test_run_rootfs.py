"""`pycontain run --rootfs DIR`: the flags, what the program sees, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.bundles import LIMIT, Done, Runtime
from tests.lifecycle.test_terminal import read_until

pytestmark = pytest.mark.needs_root


@pytest.fixture
def run(runtime: Runtime, rootfs: Path):
    """Runs a shell script in the root: run(script, flag...)."""

    def call(script: str, *flags: str, **how: object) -> Done:
        id = runtime.new_id()
        words = ("--rootfs", rootfs, "--name", id, *flags, "--", "sh", "-c", script)
        return runtime("run", *words, name=id, **how)

    return call


@pytest.mark.parametrize(
    ("script", "flags", "printed"),
    [
        ("echo $A $B", ("-e", "A=1", "--env", "B=2"), "1 2"),
        ("echo $HOME", ("-e", "HOME=/x"), "/x"),
        ("pwd", ("-w", "/tmp"), "/tmp"),
        ("hostname", ("--hostname", "elsewhere"), "elsewhere"),
        ("id -u; id -g; id -G", (), "0 0 0 10"),
        ("id -u; id -g; id -G; echo $HOME", ("-u", "ann"), "1000 1001 1001 10 /home/ann"),
        ("id -u; id -G", ("--user", "ann:wheel"), "1000 10"),
        ("id -u; id -G", ("--user", "77"), "77 0"),
        ("id -u; id -G", ("--user", "77:78"), "77 78"),
        ("ls /sys/class/net", (), "lo"),
        ("grep CapBnd /proc/self/status", ("--cap-drop", "all"), "CapBnd: 0000000000000000"),
        ("grep CapEff /proc/self/status", ("--cap-drop", "all", "--cap-add", "CHOWN"),
         "CapEff: 0000000000000001"),
        ("grep NoNewPrivs /proc/self/status", (), "NoNewPrivs: 1"),
        ("grep Seccomp: /proc/self/status", (), "Seccomp: 2"),
        ("touch /x 2>&1; true", ("--read-only",), "touch: /x: Read-only file system"),
        ("touch /x 2>&1; true", ("--ro",), "touch: /x: Read-only file system"),
        ("touch /tmp/x /run/x && echo yes", ("--ro",), "yes"),
        ("cat", (), ""),
    ],
)  # fmt: skip
def test_each_flag_has_its_effect(run, script, flags, printed) -> None:
    done = run(script, *flags)
    assert (done.status, done.err) == (0, "")
    assert done.words == printed.split()


def test_a_variable_without_a_value_is_the_callers(run) -> None:
    env = {**os.environ, "FROM_OUTSIDE": "here"}
    done = run("echo $FROM_OUTSIDE; env", "-e", "FROM_OUTSIDE", "-e", "NOT_SET", env=env)
    assert done.lines[0] == "here"
    assert "NOT_SET" not in done.out


def test_nothing_of_the_callers_environment_is_passed_on(run) -> None:
    done = run("env", env={**os.environ, "SECRET": "x"})
    assert {line.partition("=")[0] for line in done.lines} <= {
        "PATH", "HOSTNAME", "HOME", "PWD", "SHLVL",
    }  # fmt: skip


def test_interactive_lets_the_program_read_standard_input(run) -> None:
    with subprocess.Popen(["echo", "hello"], stdout=subprocess.PIPE) as echo:
        assert run("cat", "-i", stdin=echo.stdout).out == "hello\n"


def test_without_interactive_standard_input_is_empty(run) -> None:
    with subprocess.Popen(["echo", "hello"], stdout=subprocess.PIPE) as echo:
        assert run("cat", stdin=echo.stdout).out == ""


def test_a_volume_is_mounted_and_read_only_on_request(run, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/in").write_text("content\n")
    volume = f"{tmp_path}/shared:/mnt"
    assert run("cat /mnt/in; echo new >/mnt/out", "-v", volume).out == "content\n"
    assert (tmp_path / "shared/out").read_text() == "new\n"
    assert "Read-only" in run("touch /mnt/x", "-v", f"{volume}:ro").err


def test_the_network_of_the_host_is_shared_on_request(run) -> None:
    own = sorted(os.listdir("/sys/class/net"))
    assert sorted(run("ls /sys/class/net", "--network", "host").words) == own


@pytest.mark.parametrize(
    ("command", "status"),
    [(["true"], 0), (["sh", "-c", "exit 7"], 7), (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
     (["nosuch"], 127), (["/nosuch"], 127), (["/etc/passwd"], 126)],
)  # fmt: skip
def test_the_exit_status_is_what_docker_would_return(
    runtime: Runtime, rootfs: Path, command: list[str], status: int
) -> None:
    assert runtime("run", "--rootfs", rootfs, "--", *command).status == status


def test_a_failure_of_pycontain_itself_has_status_125(runtime: Runtime, rootfs: Path) -> None:
    done = runtime("run", "--rootfs", rootfs, "-u", "nobody", "true")
    assert done.status == 125
    assert done.err.startswith("pycontain: user = nobody is not in /etc/passwd")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rootfs", "/nosuch", "true"), "--rootfs = /nosuch does not exist"),
        (("--rootfs", "/"), "needs a command"),
        (("--rootfs", "/", "-t", "sh"), "--tty needs a terminal as standard input"),
        (("--rootfs", "/", "-t", "-d", "sh"), "--tty cannot be combined with --detach"),
        (("--rootfs", "/", "--rm", "-d", "sh"), "--rm cannot be combined with --detach"),
        (("--rootfs", "/", "--rm", "--keep", "sh"), "--rm cannot be combined with --keep"),
        (("--rootfs", "/", "--bundle", "b", "sh"), "--bundle is for bundles"),
        (("--rootfs", "/", "--disk", "1m", "sh"), "--disk is only for images"),
        (("--rootfs", "/", "--cpus", "some", "sh"), "--cpus = some is not a number"),
        (("--rootfs", "/", "--memory", "0", "sh"), "--memory = 0 is not positive"),
        (("--rootfs", "/", "--pids", "0", "sh"), "--pids = 0 is less than 1"),
        (("--rootfs", "/", "-v", "data:/x", "sh"), "--volume = data:/x is not a volume"),
        (("--rootfs", "/", "-v", "/nosuch:/x", "sh"), "--volume = /nosuch does not exist"),
        (("--rootfs", "/", "-v", "/tmp:/x:z", "sh"), "sets no SELinux labels"),
        (("--rootfs", "/", "-v", "/tmp:/x:fast", "sh"), "= fast is not an option of a volume"),
        (("--rootfs", "/", "--network", "bridge", "sh"), "is not one of none, host"),
        (("--rootfs", "/", "--name", "a/b", "sh"), "is not a container id"),
        (("busybox", "ls"), "the command of busybox is for images and root file systems"),
        (("-e", "A=1", "c1"), "--env is for images and root file systems"),
        (("busybox:latest",), "is not an image; name it with its transport"),
        (("sha256:12",), "is not a digest"),
    ],
)  # fmt: skip
def test_a_contradictory_command_line_is_refused_in_one_line(runtime, words, message) -> None:
    assert message in runtime.refuses("run", *words)


def test_a_bundle_is_still_run_by_its_id(runtime: Runtime, bundle) -> None:
    made = bundle("echo hello")
    assert runtime.output(made).out == "hello\n"
    assert runtime("run", runtime.new_id(), cwd=made.path).out == "hello\n"


def test_a_terminal_is_given_to_the_program(runtime: Runtime, rootfs: Path) -> None:
    script = "tty; read a; echo got $a"
    command = runtime.command("run", "-it", "--rootfs", rootfs, "--", "sh", "-c", script)
    master, slave = pty.openpty()
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        assert "/dev/" in read_until(master, "\n")
        os.write(master, b"word\r")
        read_until(master, "got word")
        assert process.wait(LIMIT) == 0
    os.close(master)


def test_a_detached_container_is_deleted_with_its_directory(
    runtime: Runtime, rootfs: Path, storage: Path
) -> None:
    id = runtime.new_id()
    done = runtime.ok(
        "run", "-d", "--name", id, "--rootfs", rootfs, "--", "sh", "-c", "echo up; sleep 100"
    )
    assert done.out == f"{id}\n"
    folder = Path(runtime.state(id)["bundle"])
    assert folder.parent == storage / "containers"
    runtime.ok("delete", "--force", id)
    assert not folder.exists()


def test_the_container_has_the_configuration_that_spec_prints(
    runtime: Runtime, rootfs: Path
) -> None:
    id = runtime.new_id()
    flags = ("--rootfs", rootfs, "--ro", "-e", "A=1", "--name", id, "--cap-drop", "CHOWN")
    printed = json.loads(runtime.ok("spec", *flags, "--", "sleep", "100").out)
    runtime.ok("run", "-d", *flags, "--", "sleep", "100")
    config = Path(runtime.state(id)["bundle"]) / "config.json"
    used = json.loads(config.read_text())
    hooks = used.pop("hooks")  # remove the folder
    assert used == printed
    assert hooks["poststop"][0]["args"][-1] == str(config.parent)


def test_spec_without_rootfs_refuses_flags_that_need_a_root(runtime: Runtime) -> None:
    assert "--env needs --rootfs" in runtime.refuses("spec", "-e", "A=1")
    assert "the command needs --rootfs" in runtime.refuses("spec", "true")


def test_limits_become_resources(runtime: Runtime, rootfs: Path) -> None:
    flags = ("--memory", "64m", "--cpus", "0.5", "--pids", "7")
    resources = json.loads(runtime.ok("spec", "--rootfs", rootfs, *flags, "true").out)["linux"][
        "resources"
    ]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 64 << 20}
    assert resources["cpu"] == {"quota": 50_000, "period": 100_000}
    assert resources["pids"] == {"limit": 7}
