"""checkpoint and restore: the container as it was, from files; what cannot be saved is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import SpecError
from pycontain.plan.criu import check
from pycontain.runtime.criu import write_streams
from pycontain.spec.parse import parse
from tests.bundles import CONFIG, LIMIT, Bundle, Runtime, changed, wait_until

pytestmark = pytest.mark.needs_root
needs_criu = pytest.mark.needs_criu

COUNTING = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"
NAMESPACES = "linux.namespaces"


def with_mounts(bundle: Any, tmp_path: Path) -> Bundle:
    """A container that counts, with two read-only mounts of one file system."""
    made: Bundle = bundle(COUNTING)
    mounts = made.config["mounts"]
    for name in ("one", "two"):
        source = tmp_path / name
        source.mkdir()
        (source / "file").write_text(name)
        options = ["rbind", "ro", "nosuid", "nodev", "noexec"]
        mounts.append(
            {"destination": f"/{name}", "type": "bind", "source": str(source), "options": options}
        )
    made.edit(
        {"mounts": mounts, "linux.maskedPaths": ["/proc/keys", "/proc/timer_list", "/sys/fs"]}
    )
    return made


def mounts_of(runtime: Runtime, id: str) -> list[tuple[str, str, str]]:
    """(mount point, its options, type) of each mount of a container."""
    pid = runtime.state(id)["pid"]
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    split = [line.split() for line in lines]
    return sorted((words[4], words[5], words[words.index("-") + 1]) for words in split)


def numbers(runtime: Runtime, id: str) -> list[int]:
    return [int(word) for word in runtime.printed(id).split()]


def saved(runtime: Runtime, made: Bundle, images: Path, *flags: str) -> str:
    """The id of a container that has counted to three and was saved."""
    id = runtime.started(made)
    runtime.wait_for_text(id, "3")
    runtime.ok("checkpoint", "--image-path", images, *flags, id)
    return id


@needs_criu
def test_a_restored_container_goes_on_as_it_was(runtime, bundle, tmp_path):
    made = with_mounts(bundle, tmp_path)
    id = runtime.started(made)
    before = mounts_of(runtime, id)
    runtime.wait_for_text(id, "3")
    runtime.ok("checkpoint", "--image-path", tmp_path / "images", id)
    assert id not in runtime.ids()
    count = numbers(runtime, id)[-1]

    pid_file = tmp_path / "pid"
    runtime.ok("restore", "--detach", "--bundle", made.path, "--image-path", tmp_path / "images",
               "--pid-file", pid_file, id, name=id)  # fmt: skip
    runtime.wait_for_text(id, str(count + 3))
    assert numbers(runtime, id)[0] > count
    assert runtime.state(id)["status"] == "running"
    assert pid_file.read_text() == str(runtime.state(id)["pid"])
    assert mounts_of(runtime, id) == before
    assert runtime.ok("exec", id, "cat", "/one/file", "/two/file").out == "onetwo"
    runtime.ok("kill", id, "KILL")
    runtime.wait_for_status(id, "stopped")


@needs_criu
def test_a_restored_container_is_in_its_cgroup_and_sees_no_other(runtime, bundle, tmp_path):
    made = bundle(COUNTING)
    made.edit({NAMESPACES: [*made.config["linux"]["namespaces"], {"type": "cgroup"}]})
    id = runtime.started(made)
    cgroup = Path(f"/proc/{runtime.state(id)['pid']}/cgroup").read_text().splitlines()[-1]
    runtime.wait_for_text(id, "3")
    runtime.ok("checkpoint", "--image-path", tmp_path / "images", id)
    runtime.ok("restore", "-d", "-b", made.path, "--image-path", tmp_path / "images", id, name=id)
    after = Path(f"/proc/{runtime.state(id)['pid']}/cgroup").read_text().splitlines()[-1]
    assert after == cgroup
    seen = runtime.ok("exec", id, "tail", "-n", "1", "/proc/1/cgroup").out
    assert seen == "0::/\n"
    runtime.ok("pause", id)
    assert runtime.state(id)["status"] == "paused"
    runtime.ok("delete", "--force", id)


@needs_criu
def test_a_restore_in_the_foreground_ends_with_the_programs_status(runtime, bundle, tmp_path):
    made = bundle("echo up; while [ ! -e /end ]; do sleep 0.05; done; exit 7")
    id = runtime.started(made)
    runtime.wait_for_text(id, "up")
    runtime.ok("checkpoint", "--image-path", tmp_path / "images", id)
    (made.rootfs / "end").touch()
    done = runtime("restore", "-b", made.path, "--image-path", tmp_path / "images", id)
    assert done.status == 7, done
    assert runtime.ids() == []


@needs_criu
def test_standard_streams_that_are_pipes_are_those_of_restore(runtime, bundle, tmp_path):
    made = bundle("echo up; read word; echo got $word")
    id = runtime.new_id()
    with subprocess.Popen(
        runtime.command("run", "-b", made.path, id),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as first:  # fmt: skip
        assert first.stdout
        assert first.stdout.readline() == "up\n"
        runtime.ok("checkpoint", "--image-path", tmp_path / "images", id)
        first.wait(LIMIT)
    done = subprocess.run(
        runtime.command("restore", "-b", made.path, "--image-path", tmp_path / "images", id),
        input="hello\n", capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "got hello\n"), done


@needs_criu
def test_a_container_can_be_left_running(runtime, bundle, tmp_path):
    id = runtime.started(bundle(COUNTING))
    pid = runtime.state(id)["pid"]
    runtime.wait_for_text(id, "3")
    runtime.ok("checkpoint", "--image-path", tmp_path / "images", "--leave-running", id)
    assert runtime.state(id)["pid"] == pid
    runtime.wait_for_text(id, str(numbers(runtime, id)[-1] + 3))
    assert (tmp_path / "images" / "descriptors.json").exists()


@needs_criu
def test_a_joined_network_is_joined_again(runtime, bundle, tmp_path):
    """Engines make the network, and pass it by a path."""
    with subprocess.Popen(["unshare", "--net", "sleep", "300"]) as owner:
        try:
            network = Path(f"/proc/{owner.pid}/ns/net")
            wait_until(lambda: os.readlink(network) != os.readlink("/proc/self/ns/net"))
            made = bundle(COUNTING)
            kinds = [each for each in made.config["linux"]["namespaces"]
                     if each["type"] != "network"]  # fmt: skip
            made.edit({NAMESPACES: [*kinds, {"type": "network", "path": str(network)}]})
            id = saved(runtime, made, tmp_path / "images")
            images = tmp_path / "images"
            runtime.ok("restore", "-d", "-b", made.path, "--image-path", images, id, name=id)
            found = os.readlink(f"/proc/{runtime.state(id)['pid']}/ns/net")
            assert found == os.readlink(network)
        finally:
            owner.kill()


@needs_criu
def test_hooks_run_when_a_container_is_saved_and_restored(runtime, bundle, tmp_path):
    made = bundle(COUNTING)
    log = tmp_path / "log"
    script = {kind: made.script(kind, f"#!/bin/sh\necho {kind} >>{log}\n")
              for kind in ("poststart", "poststop", "createRuntime")}  # fmt: skip
    made.edit({"hooks": {kind: [{"path": str(path)}] for kind, path in script.items()}})
    images = tmp_path / "images"
    id = saved(runtime, made, images)
    assert log.read_text().split() == ["createRuntime", "poststart", "poststop"]
    done = runtime("restore", "-d", "-b", made.path, "--image-path", images, id, name=id)
    assert done.status == 0, done
    assert "hooks.createRuntime: not run by restore" in done.err
    assert log.read_text().split()[3:] == ["poststart"]


def test_what_cannot_be_saved_is_named(runtime, bundle, tmp_path, terminal):
    del terminal
    created = runtime.create(bundle("sleep 300"))
    with_fake_criu = {"env": fake_criu(tmp_path, "exit 0")}
    words = ("checkpoint", "--image-path", tmp_path / "images")
    assert "is created, not running or paused" in runtime.refuses(*words, created, **with_fake_criu)
    made = bundle("sleep 300")
    kinds = [each for each in made.config["linux"]["namespaces"] if each["type"] != "ipc"]
    made.edit({NAMESPACES: [*kinds, {"type": "ipc", "path": "/proc/self/ns/ipc"}]})
    joined = runtime.started(made)
    error = runtime.refuses(*words, joined, **with_fake_criu)
    assert "linux.namespaces[" in error
    assert "give the container one of its own" in error
    assert runtime.state(joined)["status"] == "running"


MAPPING = [{"containerID": 0, "hostID": 200_000, "size": 1000}]
OUTSIDE = {
    "linux.netDevices": {"linux.netDevices": {"eth7": {}}},
    "linux.seccomp.listenerPath": {
        "linux.seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        }
    },
    "linux.namespaces[0].type": {
        "linux.namespaces": [{"type": "user"}, {"type": "mount"}, {"type": "pid"}],
        "linux.uidMappings": MAPPING, "linux.gidMappings": MAPPING,
    },
}  # fmt: skip


@pytest.mark.parametrize("property", OUTSIDE)
def test_what_belongs_to_the_host_can_neither_be_saved_nor_restored(property):
    check(parse(json.dumps(CONFIG)))
    with pytest.raises(SpecError) as caught:
        check(parse(json.dumps(changed(CONFIG, OUTSIDE[property]))))
    assert caught.value.fault.at == property
    assert "cannot be saved" in str(caught.value)


def test_a_directory_that_others_can_change_is_refused_for_images(runtime, bundle, tmp_path):
    """Another user's link would decide which file root writes."""
    id = runtime.started(bundle("sleep 300"))
    images = tmp_path / "images"
    images.mkdir()
    images.chmod(0o777)
    env = fake_criu(tmp_path, "exit 0")
    error = runtime.refuses("checkpoint", "--image-path", images, id, env=env)
    assert f"{images} can be written to by other users" in error
    words = ("restore", "-b", bundle("sleep 9").path, "--image-path", images, "x")
    assert "can be written to by other users" in runtime.refuses(*words, env=env)
    assert runtime.state(id)["status"] == "running"


def test_the_file_of_streams_is_not_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "descriptors.json").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write_streams(str(tmp_path), [])
    assert victim.read_text() == "precious"
    (tmp_path / "descriptors.json").write_text("[]")  # control: a naive write follows the link
    assert victim.read_text() == "[]"


def test_a_terminal_cannot_be_saved_nor_restored(runtime, bundle, tmp_path):
    (tmp_path / "images").mkdir()
    made = bundle("sleep 300", {"process.terminal": True})
    words = ("restore", "-b", made.path, "--image-path", tmp_path / "images", "x")
    error = runtime.refuses(*words, env=fake_criu(tmp_path, "exit 0"))
    assert "process.terminal = true cannot be saved" in error


def fake_criu(tmp_path: Path, script: str) -> dict[str, str]:
    """An environment in which criu is this script; $LOG is the log it should write."""
    program = tmp_path / "bin" / "criu"
    program.parent.mkdir(exist_ok=True)
    find = 'while [ "$1" != --work-dir ]; do shift; done; LOG=$2/$4\n'
    program.write_text(f"#!/bin/sh\n{find}{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin"}


REASON = "echo '(00.1) Error (criu/x.c:7): no such luck' >$LOG; exit 1"


def test_a_container_runs_on_when_criu_fails_to_save_it(runtime, bundle, tmp_path):
    id = runtime.started(bundle("sleep 300"))
    words = ("checkpoint", "--image-path", tmp_path / "images", id)
    error = runtime.refuses(*words, env=fake_criu(tmp_path, REASON))
    log = tmp_path / "images" / "dump.log"
    assert f"criu dump failed: no such luck; its log is {log}" in error
    assert runtime.state(id)["status"] == "running"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A directory that looks as if criu had saved a container."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "descriptors.json").write_text(json.dumps(["", "", ""]))
    return folder


def test_a_restore_that_fails_leaves_nothing(runtime, bundle, tmp_path, images):
    words = ("restore", "-d", "-b", bundle("sleep 300").path, "--image-path", images, "x")
    error = runtime.refuses(*words, env=fake_criu(tmp_path, REASON))
    assert f"restore: criu restore failed: no such luck; its log is {images}/restore.log" in error
    assert runtime.ids() == []


def test_a_restore_ends_at_a_signal_and_leaves_nothing(runtime, bundle, tmp_path, images):
    env = fake_criu(tmp_path, f"touch {tmp_path}/up; sleep 300")
    command = runtime.command("restore", "-b", bundle("sleep 9").path, "--image-path", images, "x")
    with subprocess.Popen(command, env=env) as restoring:
        wait_until((tmp_path / "up").exists)
        restoring.send_signal(signal.SIGTERM)
        assert restoring.wait(LIMIT) == 128 + signal.SIGTERM
    assert runtime.ids() == []


def test_without_criu_its_package_is_named(runtime, bundle, tmp_path, images):
    id = runtime.started(bundle("sleep 300"))
    (tmp_path / "empty").mkdir()
    env = {"PATH": str(tmp_path / "empty")}
    for words in (["checkpoint", "--image-path", images, id], ["restore", "x"]):
        assert "criu is not installed; install the package criu" in runtime.refuses(*words, env=env)


def test_a_directory_without_images_is_named(runtime, bundle, tmp_path):
    made = bundle("sleep 300")
    env = fake_criu(tmp_path, "exit 0")
    words = ("restore", "-b", made.path, "--image-path")
    error = runtime.refuses(*words, tmp_path / "none", "x", env=env)
    assert f"--image-path = {tmp_path}/none does not exist" in error
    (tmp_path / "empty").mkdir()
    assert "has no images" in runtime.refuses(*words, tmp_path / "empty", "x", env=env)
