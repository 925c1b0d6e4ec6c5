"""What the specification leaves open, and engines or images rely on runc to do."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess

import pytest

from tests.bundles import CONFIG, LIMIT, wait_until

MINUS_ONE = 2**32 - 1


@pytest.mark.parametrize("key", ["uid", "gid", "additionalGids"])
def test_the_id_minus_one_is_refused(runtime, bundle, key):
    """setresuid(2) takes it as "unchanged": the program would stay root."""
    user = {"uid": 1, "gid": 1, key: [MINUS_ONE] if key == "additionalGids" else MINUS_ONE}
    assert f"process.user.{key}" in runtime.fails(bundle("id", {"process.user": user}))


@pytest.mark.parametrize("target", ["../run/there/resolv.conf", "/run/there/resolv.conf", "second"])
def test_a_file_is_bound_onto_the_target_of_a_dangling_link(runtime, bundle, target):
    made = bundle("cat /etc/resolv.conf")
    (made.path / "file").write_text("bound\n")
    (made.rootfs / "etc/resolv.conf").symlink_to(target)
    (made.rootfs / "etc/second").symlink_to("third")
    mount = {"destination": "/etc/resolv.conf", "type": "bind", "source": "file",
             "options": ["bind"]}  # fmt: skip
    made.edit({"mounts": [*CONFIG["mounts"], mount]})
    assert runtime.output(made).out == "bound\n"


def test_no_file_is_created_outside_through_a_dangling_link(runtime, bundle, tmp_path):
    made = bundle("true")
    (made.path / "file").touch()
    (made.rootfs / "link").symlink_to(f"../../../../../..{tmp_path}/made")
    mount = {"destination": "/link", "type": "bind", "source": "file", "options": ["bind"]}
    made.edit({"mounts": [*CONFIG["mounts"], mount]})
    runtime.output(made)
    assert not (tmp_path / "made").exists()


def test_a_loop_of_links_is_an_error(runtime, bundle):
    made = bundle("true")
    (made.path / "file").touch()
    (made.rootfs / "one").symlink_to("two")
    (made.rootfs / "two").symlink_to("one")
    mount = {"destination": "/one", "type": "bind", "source": "file", "options": ["bind"]}
    made.edit({"mounts": [*CONFIG["mounts"], mount]})
    assert "/one" in runtime.fails(made)


@pytest.mark.parametrize(
    ("options", "mode"), [([], "700"), (["size=1m"], "700"), (["mode=750"], "750")]
)
def test_a_tmpfs_has_the_mode_of_what_it_covers(runtime, bundle, options, mode):
    made = bundle("stat -c %a /m")
    (made.rootfs / "m").mkdir(mode=0o700)
    mount = {"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": options}
    made.edit({"mounts": [*CONFIG["mounts"], mount]})
    assert runtime.output(made).words == [mode]


def test_a_read_only_tmpfs_can_hold_other_mounts(runtime, bundle):
    made = bundle("ls /m; touch /m/x; touch /m/n/x && echo writable")
    mounts = [{"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]},
              {"destination": "/m/n", "type": "tmpfs", "source": "tmpfs"}]  # fmt: skip
    made.edit({"mounts": [*CONFIG["mounts"], *mounts]})
    done = runtime.run(made)
    assert done.words == ["n", "writable"]
    assert "/m/x: Read-only file system" in done.err


def test_the_root_can_be_a_read_only_path(runtime, bundle):
    made = bundle("touch /y", {"linux.readonlyPaths": ["/", "/etc"]})
    assert "Read-only file system" in runtime.run(made).err
    assert not (made.rootfs / "y").exists()


def test_exec_creates_no_working_directory(runtime, bundle):
    made = bundle("", {"process.args": ["sleep", "100"]})
    id = runtime.started(made)
    assert "/nope does not exist" in runtime.refuses("exec", "--cwd", "/nope", id, "pwd")
    assert not (made.rootfs / "nope").exists()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "poststart", "poststop"])
def test_hooks_on_the_host_run_in_the_bundle(runtime, bundle, tmp_path, kind):
    made = bundle("true")
    made.script("where", "pwd > where.out")
    made.edit({f"hooks.{kind}": [{"path": f"{made.path}/where"}]})
    runtime.output(made, cwd=tmp_path)
    assert (made.path / "where.out").read_text() == f"{made.path}\n"


def test_an_endless_configuration_is_refused(runtime, bundle):
    made = bundle()
    (made.path / "config.json").unlink()
    (made.path / "config.json").symlink_to("/dev/zero")
    assert "config.json is longer than 16 MiB" in runtime.fails(made)


@pytest.mark.parametrize(
    ("number", "status", "left"),
    [(signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 0), (signal.SIGHUP, 0, 1)],
)
def test_a_signal_ends_create_wholly_or_not_at_all(runtime, bundle, number, status, left):
    """It must not report failure while a container exists."""
    made = bundle("", {"process.args": ["sleep", "100"]})
    made.script("wait", f"touch {made.path}/begun; sleep 0.3")
    made.edit({"hooks.createRuntime": [{"path": f"{made.path}/wait"}]})
    id = runtime.new_id()
    command = runtime.command("create", "-b", made.path, id)
    creating = subprocess.Popen(["sh", "-c", f"exec {shlex.join(map(str, command))} >/dev/null"])
    wait_until((made.path / "begun").exists, "the hook runs")
    os.kill(creating.pid, number)
    assert creating.wait(LIMIT) == status
    assert len(runtime.ids()) == left
