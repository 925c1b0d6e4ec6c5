"""NOTIFY_SOCKET: a program tells systemd that it is ready, through the runtime. sd_notify(3)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cc]

SENDER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int count, char **words) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path) { puts("none"); return 3; }
    strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    for (int i = 1; i < count; i++)
        if (sendto(fd, words[i], strlen(words[i]), 0, (void *)&to, sizeof to) < 0) {
            perror("sendto"); return 4;
        }
    puts("sent");
    fflush(stdout);
    sleep(count > 1 ? 100 : 0);
    return 0;
}
"""
MESSAGES = ["STATUS=starting", "MAINPID=1\nREADY=1\nSTATUS=ready"]


@pytest.fixture(scope="session")
def sender(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sender")
    (folder / "sender.c").write_text(SENDER)
    command = ["gcc", "-static", "-o", folder / "sender", folder / "sender.c"]
    subprocess.run(command, check=True)
    return folder / "sender"


@pytest.fixture
def notifying(bundle, sender):
    """Creates bundles whose program sends these messages."""

    def make(*messages, changes=None):
        made = bundle("", {"process.args": ["/bin/sender", *messages], **(changes or {})})
        shutil.copy(sender, made.rootfs / "bin/sender")
        return made

    return make


@pytest.fixture
def systemd(tmp_path):
    """A socket as systemd's, and the environment that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "systemd"))
        listening.settimeout(60)
        yield listening, {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "systemd")}


def test_start_waits_until_the_program_is_ready_and_says_so(runtime, notifying, systemd):
    listening, env = systemd
    container = runtime.create(notifying(*MESSAGES), env=env)
    runtime.ok("start", container, env=env)
    pid = runtime.state(container)["pid"]
    assert listening.recv(4096).decode() == f"READY=1\nMAINPID={pid}"
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):  # nothing else of the container arrives
        listening.recv(4096)


def test_a_detached_run_waits_until_the_program_is_ready(runtime, notifying, systemd):
    listening, env = systemd
    container = runtime.new_id()
    runtime.ok("run", "--detach", "-b", notifying(*MESSAGES).path, container, env=env)
    pid = runtime.state(container)["pid"]
    assert listening.recv(4096).decode() == f"READY=1\nMAINPID={pid}"


def test_a_run_in_the_foreground_passes_readiness_on_and_is_the_main_process(
    runtime, notifying, systemd
):
    listening, env = systemd
    container = runtime.new_id()
    words = runtime.command("run", "-b", notifying(*MESSAGES).path, container)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env) as run:
        assert listening.recv(4096) == b"READY=1"
        runtime.ok("kill", container, "KILL")
        assert run.stdout.read() == b"sent\n"  # nothing else holds the pipe
        assert run.wait(60) == 137


def test_a_program_that_ends_without_being_ready_does_not_hang_the_command(
    runtime, notifying, systemd
):
    _, env = systemd
    container = runtime.create(notifying(), env=env)
    runtime.ok("start", container, env=env)
    assert runtime.printed(container) == "sent\n"
    assert runtime.output(notifying(), env=env).out == "sent\n"


def test_a_user_in_a_user_namespace_reaches_the_socket(runtime, notifying, systemd):
    from tests.idmap import MAPPINGS, NAMESPACES, give

    listening, env = systemd
    changes = {"linux.namespaces": NAMESPACES, **MAPPINGS, "process.user": {"uid": 7, "gid": 7}}
    made = notifying(*MESSAGES, changes=changes)
    give(made.rootfs)
    container = runtime.create(made, env=env)
    runtime.ok("start", container, env=env)
    assert listening.recv(4096).startswith(b"READY=1\n")


def test_the_directory_of_the_socket_is_read_only_and_gone_afterwards(runtime, bundle, systemd):
    _, env = systemd
    made = bundle("touch /run/notify/x || echo refused; ls /run/notify")
    done = runtime.run(made, env=env)
    assert done.out == "refused\nnotify.sock\n"
    assert runtime.ids() == []


def test_without_a_socket_of_the_caller_the_program_has_none(runtime, notifying):
    env = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    done = runtime.run(notifying(), env=env)
    assert (done.status, done.out) == (3, "none\n")


def test_a_container_that_cannot_be_created_leaves_no_directory(runtime, bundle, systemd):
    _, env = systemd
    made = bundle("", {"process.args": ["/nowhere"]})
    runtime.fails(made, env=env)
    runtime.refuses("create", "-b", made.path, runtime.new_id(), env=env)
    assert runtime.ids() == []
