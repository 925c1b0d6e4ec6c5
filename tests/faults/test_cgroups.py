"""A cgroup that has vanished, or that stays busy."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pycontain.cgroup import tree
from pycontain.cgroup.place import find_mount
from pycontain.options import Options
from pycontain.runtime.delete import delete
from tests.bundles import look, wait_until
from tests.faults.trial import removed

pytestmark = pytest.mark.needs_root


def cgroup_of(id: str) -> Path:
    return Path(find_mount()) / id


def test_a_removed_cgroup_does_not_prevent_deletion(runtime, bundle):
    before = look()
    for force in ([], ["--force"]):
        id = runtime.started(bundle("true"))
        runtime.wait_for_status(id, "stopped")
        wait_until(lambda path=cgroup_of(id): removed(path), "the cgroup is empty")
        assert runtime.state(id)["status"] == "stopped"
        runtime.ok("delete", *force, id)
    assert look() == before


def test_commands_report_a_cgroup_that_is_missing(runtime, bundle, tmp_path):
    id = runtime.started(bundle("true"))
    runtime.wait_for_status(id, "stopped")
    wait_until(lambda: removed(cgroup_of(id)), "the cgroup is empty")
    for words in (("pause", id), ("exec", id, "true"), ("kill", id), ("kill", "--all", id)):
        assert "is stopped" in runtime.refuses(*words)
    runtime("ps", id)
    runtime("events", "--stats", id)
    runtime.ok("delete", id)


def test_a_process_that_was_moved_into_the_cgroup_does_not_keep_it(runtime, bundle):
    before = look()
    id = runtime.started(bundle("sleep 100"))
    with subprocess.Popen(["sleep", "1000"]) as guest:
        (cgroup_of(id) / "cgroup.procs").write_text(str(guest.pid))
        runtime.ok("delete", "--force", id)
        assert guest.wait() == -signal.SIGKILL
    assert look() == before


def test_a_cgroup_that_stays_busy_is_an_error_and_can_be_deleted_later(
    runtime, bundle, monkeypatch
):
    """The kernel does that for a moment; here it goes on until the next command."""
    before = look()
    id = runtime.started(bundle("sleep 100"))

    def busy(directory, *args, **named):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), directory)

    with monkeypatch.context() as patch, pytest.raises(Exception, match="busy"):
        patch.setattr(tree.os, "rmdir", busy)
        delete(Options(root=str(runtime.root)), id, force=True)
    assert runtime.ids() == [id], "it is still known"
    assert runtime.state(id)["status"] == "stopped"
    runtime.ok("delete", "--force", id)
    assert look() == before


def test_a_frozen_cgroup_can_be_deleted(runtime, bundle):
    before = look()
    id = runtime.started(bundle("sleep 100"))
    (cgroup_of(id) / "cgroup.freeze").write_text("1")
    runtime.ok("delete", "--force", id)
    assert look() == before


def test_a_cgroup_that_vanishes_between_creation_and_the_first_process_is_an_error(
    runtime, bundle, monkeypatch
):
    from pycontain.launch import bring_up
    from pycontain.plan.request import Request
    from pycontain.plan.walk import parent_step
    from pycontain.runtime.bundle import Bundle
    from pycontain.runtime.prepare import prepare

    made, before, id = bundle("sleep 100"), look(), runtime.new_id()
    perform = parent_step.perform

    def without_cgroup(step, launch):
        if step.name == "spawn":
            launch.cgroup.close()
            os.rmdir(cgroup_of(id))
        perform(step, launch)

    monkeypatch.setattr(parent_step, "perform", without_cgroup)
    request = Request(id=id, bundle=str(made.path))
    launch = prepare(Options(root=str(runtime.root)), Bundle(str(made.path)), request)
    with pytest.raises(Exception, match=f"spawn: .*{id}.*does not exist"):
        bring_up.bring_up(launch)
    assert runtime.ids() == []
    assert look() == before
