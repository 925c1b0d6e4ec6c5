"""The sockets that systemd passes to the runtime, on their way to the program. sd_listen_fds(3)."""

from __future__ import annotations

import socket
import subprocess

import pytest

from tests.bundles import LIMIT

ACTIVATED = 'exec env LISTEN_PID=$$ LISTEN_FDS=2 "$@"'
SHOW = "echo $LISTEN_FDS $LISTEN_PID $$ $LISTEN_FDNAMES; ls /proc/self/fd | tail -n1; cat <&5"
OWN = ["LISTEN_FDS=7", "LISTEN_PID=9", "LISTEN_FDNAMES=old"]


@pytest.fixture
def activate(tmp_path):
    """
    Execute a command as systemd does, with two sockets, and a file after them.

    Returns its output, from a file: a created container would keep the end of a pipe open.
    """
    (tmp_path / "extra").write_text("extra\n")

    def execute(command, *variables, activated=ACTIVATED):
        with socket.socket() as one, socket.socket() as two, (tmp_path / "extra").open() as extra:
            fds = [one.fileno(), two.fileno(), extra.fileno()]
            moves = " ".join(f"{to}<&{fd}" for to, fd in enumerate(fds, start=3))
            closes = " ".join(f"{fd}<&-" for fd in fds if fd > 5)
            shell = f"exec {moves} {closes}; {activated}"
            words = ["bash", "-c", shell, "bash", *variables, *command]
            with (tmp_path / "shown").open("w") as shown:
                how = {"pass_fds": fds, "stdout": shown, "stderr": shown, "timeout": LIMIT}
                subprocess.run(words, check=True, **how)
        return (tmp_path / "shown").read_text()

    return execute


def test_the_sockets_of_systemd_come_with_their_names_before_preserved_descriptors(
    runtime, bundle, activate
):
    """sd_listen_fds(3), sd_listen_fds_with_names(3)."""
    command = runtime.command(
        "run", "--bundle", bundle(SHOW).path, "--preserve-fds", "1", runtime.new_id()
    )
    assert activate(command, "LISTEN_FDNAMES=web:db") == "2 1 1 web:db\n6\nextra\n"


def test_sockets_of_systemd_reach_a_container_that_is_started_later(runtime, bundle, activate):
    made, id = bundle(f"{{ {SHOW}; }} >/tmp/shown"), runtime.new_id()
    command = runtime.command("create", "--bundle", made.path, "--preserve-fds", "1", id)
    assert activate(command, "LISTEN_FDNAMES=web:db") == ""
    runtime.ok("start", id)
    runtime.wait_for_status(id, "stopped")
    assert (made.rootfs / "tmp/shown").read_text() == "2 1 1 web:db\n6\nextra\n"


@pytest.mark.parametrize("names", [["LISTEN_FDNAMES=web:db"], []])
@pytest.mark.parametrize("shared", [True, False])
def test_variables_for_sockets_replace_those_of_the_configuration(
    runtime, bundle, activate, names, shared
):
    """Podman writes them with 1 as the pid, which is right only in a new pid namespace."""
    made = bundle(SHOW.removesuffix("; cat <&5"), {"process.env": ["PATH=/bin", *OWN]})
    if shared:
        made.edit({"linux.namespaces": [{"type": "mount"}, {"type": "uts"}]})
    command = runtime.command("run", "--bundle", made.path, runtime.new_id())
    count, meant, pid, shown, last = activate(command, *names).split()
    assert (count, meant, last) == ("2", pid, "5")
    assert (pid == "1") is not shared
    assert shown == (names or OWN)[-1].partition("=")[2]


def test_an_engine_can_pass_sockets_by_preserved_descriptors_alone(runtime, bundle, activate):
    made = bundle(SHOW, {"process.env": ["PATH=/bin", *OWN]})
    command = runtime.command("run", "--bundle", made.path, "--preserve-fds", "3", runtime.new_id())
    assert activate(command, activated='exec "$@"') == "7 9 1 old\n6\nextra\n"


def test_exec_gets_no_sockets_of_systemd(runtime, bundle, activate):
    container = runtime.started(bundle("sleep 100"))
    words = ["sh", "-c", "echo $LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES; ls /proc/self/fd | tail -n1"]
    shown = activate(runtime.command("exec", container, *words), "LISTEN_FDNAMES=web:db")
    assert shown == "\n3\n"


@pytest.mark.parametrize("count", ["-1", "two", "9" * 5000])
def test_an_invalid_count_of_sockets_counts_as_none(runtime, bundle, activate, count):
    made = bundle("echo $LISTEN_FDS.")
    command = runtime.command("run", "--bundle", made.path, runtime.new_id())
    assert activate(command, f"LISTEN_FDS={count}") == ".\n"
