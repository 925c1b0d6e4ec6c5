"""The cgroup manager "systemd", with a stand-in for it (`tests/systemd.py`), which is the user's."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from pycontain.cgroup import systemd
from pycontain.cgroup.place import find_mount
from pycontain.errors import HostError, Timeout
from pycontain.kernel.wait import FOREVER, Until
from tests.bundles import TOKEN, wait_until
from tests.systemd import StandIn

pytestmark = pytest.mark.needs_root

USER = ("--rootless", "true", "--systemd-cgroup")
SCOPED = {"linux.cgroupsPath": "pct.slice:lab:x"}
UNIT = "lab-x.scope"


@pytest.fixture
def session(runtime, monkeypatch):
    """systemd of a user, whose socket XDG_RUNTIME_DIR leads to; what it makes is below one cgroup."""
    with tempfile.TemporaryDirectory(prefix="pct", dir="/tmp") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        made = StandIn(Path(name), find_mount(), f"/{TOKEN}-session")
        plain = runtime.command
        monkeypatch.setattr(runtime, "command", lambda *words: _with_flags(plain(*words)))
        yield made
        runtime.close()
        made.close()


def _with_flags(command):
    at = command.index("--root")
    return [*command[:at], *USER, *command[at:]]


def cgroup_of(pid):
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def test_the_container_is_in_the_scope_that_its_cgroups_path_names(runtime, session, bundle):
    id = runtime.started(bundle("sleep 100", SCOPED))
    found = session.units[UNIT]
    pid = runtime.state(id)["pid"]
    assert found["PIDs"] == [pid]
    assert found["Slice"] == "pct.slice"
    assert found["Delegate"] is True
    assert found["CollectMode"] == "inactive-or-failed"
    assert found["Description"] == f"pycontain container {id}"
    assert cgroup_of(pid) == f"{session.above}/pct.slice/{UNIT}"


def test_a_cgroup_namespace_begins_at_the_unit(runtime, session, bundle):
    kinds = [{"type": kind} for kind in ("pid", "mount", "cgroup")]
    made = bundle(
        "grep 0:: /proc/self/cgroup", {**SCOPED, "hostname": "", "linux.namespaces": kinds}
    )
    assert runtime.output(made).out == "0::/\n"


def test_without_a_cgroups_path_the_unit_is_named_after_the_id(runtime, session, bundle):
    id = runtime.started(bundle("sleep 100"))
    assert session.units[f"pycontain-{id}.scope"]["Slice"] == "user.slice"


def test_a_slice_can_be_the_units_kind(runtime, session, bundle):
    id = runtime.started(bundle("sleep 100", {"linux.cgroupsPath": "user.slice:x:pct.slice"}))
    found = session.units["pct.slice"]
    assert "PIDs" not in found
    assert found["Wants"] == ["user.slice"]
    assert cgroup_of(runtime.state(id)["pid"]) == f"{session.above}/pct.slice"


def test_annotations_become_properties_and_take_precedence(runtime, session, bundle):
    made = bundle("sleep 100", {
        **SCOPED,
        "annotations": {
            "org.systemd.property.TimeoutStopUSec": "uint64 5000000",
            "org.systemd.property.CollectMode": "'inactive'",
        },
    })  # fmt: skip
    runtime.started(made)
    assert session.units[UNIT]["TimeoutStopUSec"] == 5_000_000
    assert session.units[UNIT]["CollectMode"] == "inactive"


def test_delete_stops_the_unit_and_leaves_nothing(runtime, session, bundle):
    id = runtime.started(bundle("sleep 100", SCOPED))
    folder = session.folder(UNIT)
    runtime.ok("delete", "--force", id)
    assert session.units == {}
    assert not folder.exists()


def test_run_stops_the_unit_when_its_program_has_ended(runtime, session, bundle):
    assert runtime.output(bundle("echo done", SCOPED)).out == "done\n"
    assert session.units == {}


def test_delete_works_when_systemd_has_removed_the_unit_itself(runtime, session, bundle):
    id = runtime.started(bundle("true", SCOPED))
    runtime.wait_for_status(id, "stopped")
    folder = session.folder(UNIT)
    wait_until(lambda: (folder / "cgroup.procs").read_text() == "", "empty")
    folder.rmdir()
    before = len(session.calls)
    runtime.ok("delete", id)
    assert session.calls[before:] == []


def test_exec_starts_in_the_units_cgroup(runtime, session, bundle):
    id = runtime.started(bundle("sleep 100", SCOPED))
    done = runtime.ok("exec", id, "grep", "0::", "/proc/self/cgroup")
    assert done.out.strip().endswith(f"/pct.slice/{UNIT}")


def test_pause_and_resume_need_no_systemd(runtime, session, bundle):
    id = runtime.started(bundle("sleep 100", SCOPED))
    before = len(session.calls)
    runtime.ok("pause", id)
    assert runtime.state(id)["status"] == "paused"
    runtime.ok("resume", id)
    assert session.calls[before:] == []


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_refused_unit_leaves_no_container(runtime, session, bundle):
    session.refusals = ["BadUnitSetting"]
    error = runtime.fails(bundle("true", SCOPED))
    assert "start unit: StartTransientUnit: lab-x.scope systemd refuses" in error
    assert (runtime.ids(), session.units) == ([], {})


def test_a_unit_that_is_in_use_is_left_alone(runtime, session, bundle):
    id = runtime.started(bundle("sleep 100", SCOPED))
    error = runtime.fails(bundle("true", SCOPED))
    assert "start unit: StartTransientUnit: lab-x.scope" in error
    assert runtime.state(id)["status"] == "running"
    assert session.units[UNIT]["Description"].endswith(id)


def test_a_job_that_fails_is_an_error_that_names_it(runtime, session, bundle):
    session.results = ["failed"]
    error = runtime.fails(bundle("true", SCOPED))
    assert "the start of lab-x.scope ended with the result 'failed'" in error
    assert (runtime.ids(), session.units) == ([], {})


def test_the_wait_for_a_job_is_bounded_and_says_what_it_was_for(session, monkeypatch):
    monkeypatch.setattr(systemd, "_PATIENCE", 0.2)
    with closing(systemd.Manager(user=True, until=FOREVER)) as manager:
        session.results = [""]
        with pytest.raises(
            Timeout, match=r"within 0.2 s: the start of a\.scope.*systemctl list-jobs"
        ):
            manager.start("a.scope", [("Slice", ("s", "pct.slice"))])


def test_the_wait_for_a_job_ends_with_the_time_that_was_given(session):
    with closing(systemd.Manager(user=True, until=Until.after(0.2))) as manager:
        session.results = [""]
        with pytest.raises(Timeout, match="time limit has expired"):
            manager.start("a.scope", [("Slice", ("s", "pct.slice"))])


def test_a_unit_that_is_about_to_go_is_waited_for(session):
    with closing(systemd.Manager(user=True, until=FOREVER)) as manager:
        session.refusals = ["UnitExists", "UnitExists"]
        manager.start("a.scope", [("Slice", ("s", "pct.slice"))])
        assert session.calls.count("ResetFailedUnit") == 2


def test_without_systemd_the_error_names_its_socket(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(HostError, match=f"{tmp_path}/systemd/private cannot be connected to: does"):
        systemd.Manager(user=True, until=FOREVER)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(HostError, match="XDG_RUNTIME_DIR is not set"):
        systemd.Manager(user=True, until=FOREVER)
    assert os.environ.get("XDG_RUNTIME_DIR") is None


@pytest.mark.parametrize("path", ["/abs", "a:b", "a:b:c:d", "a.slice:b:", "x:y:z", "a b.slice:c:d"])
def test_another_form_of_cgroups_path_is_refused_before_anything_is_made(
    runtime, session, bundle, path
):
    assert "linux.cgroupsPath" in runtime.fails(bundle("true", {"linux.cgroupsPath": path}))
    assert session.calls == []
