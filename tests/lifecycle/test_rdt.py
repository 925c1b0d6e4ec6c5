"""Intel RDT: the rules of config-linux.md, IntelRdt, on directories that stand in for resctrl."""

from __future__ import annotations

import json
import subprocess

import pytest

from pycontain.cli import launcher
from tests.bundles import LIMIT, Done

pytestmark = pytest.mark.needs_root

# The runtime itself, but with another folder than resctrl's, whose groups have files at once.
FAKE = """\
import os, shutil, sys
sys.path += {directories!r}
from pycontain.cgroup import rdt
from pycontain.state import groups
root = {root!r}
def make(path):
    os.mkdir(path)
    os.mkdir(path + "/mon_groups")
    for name in ("tasks", "schemata"):
        open(path + "/" + name, "w").write("L3:0=fff;1=fff\\nMB:0=100\\n" * (name == "schemata"))
rdt.find_mount = lambda: root
rdt._make = make
class Removing:
    def __getattr__(self, name):
        return shutil.rmtree if name == "rmdir" else getattr(os, name)
groups.os = Removing()
from pycontain.cli import fast
sys.exit(fast.main(sys.argv[1:]))
"""


class Faked:
    """Runs commands with resctrl at a folder."""

    def __init__(self, root, state):
        self.root, self.state = root, state
        code = FAKE.format(directories=launcher.directories(), root=str(root))
        self.command = [launcher.interpreter(), "-IS", "-c", code, "--root", str(state)]

    def __call__(self, *words):
        out, err = self.root.parent / "out", self.root.parent / "err"
        with out.open("w") as stdout, err.open("w") as stderr:
            done = subprocess.run(
                [*self.command, *map(str, words)],
                check=False, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                timeout=LIMIT,
            )  # fmt: skip
        return Done(done.returncode, out.read_text(), err.read_text())

    def ok(self, *words):
        done = self(*words)
        assert done.status == 0, done
        return done

    def fails(self, *words):
        done = self(*words)
        assert done.status != 0, done
        return done.err

    def group(self, name, schemata=""):
        """A class that exists already."""
        folder = self.root / name
        (folder / "mon_groups").mkdir(parents=True, exist_ok=True)
        (folder / "tasks").write_text("")
        (folder / "schemata").write_text(schemata)
        return folder


@pytest.fixture
def resctrl(tmp_path, runtime):
    (tmp_path / "resctrl").mkdir()
    made = Faked(tmp_path / "resctrl", runtime.root)
    made.group(".")
    return made


def created(resctrl, bundle, runtime, **rdt):
    """A container with this intelRdt; (id, pid)."""
    id = runtime.new_id()
    resctrl.ok("create", "--bundle", bundle("sleep 100", {"linux.intelRdt": rdt}).path, id)
    return id, json.loads(resctrl.ok("state", id).out)["pid"]


L3, MB = "L3:0=f;1=f0", "MB:0=20;1=70"


@pytest.mark.property(
    "linux.intelRdt", "linux.intelRdt.l3CacheSchema", "linux.intelRdt.memBwSchema", "life-cycle 35"
)
def test_without_a_name_the_class_is_the_containers_and_removed_with_it(resctrl, bundle, runtime):
    id, pid = created(resctrl, bundle, runtime, l3CacheSchema=f"{L3}\nMB:0=50", memBwSchema=MB)
    group = resctrl.root / id
    assert (group / "tasks").read_text() == str(pid)
    # bandwidth in l3CacheSchema is ignored
    assert (group / "schemata").read_text().startswith(f"{L3}\n{MB}\n")
    resctrl.ok("delete", "--force", id)
    assert not group.exists()


@pytest.mark.property("linux.intelRdt.schemata", "life-cycle 35")
def test_schemata_are_written_after_those_of_cache_and_bandwidth(resctrl, bundle, runtime):
    lines = ["L2:0=3", "L3CODE:0=7"]
    id, _ = created(resctrl, bundle, runtime, l3CacheSchema=L3, memBwSchema=MB, schemata=lines)
    text = (resctrl.root / id / "schemata").read_text()
    assert text.startswith(f"{L3}\n{MB}\nL2:0=3\nL3CODE:0=7\n")
    resctrl.ok("delete", "--force", id)


def test_a_named_class_is_created_and_stays(resctrl, bundle, runtime):
    id, pid = created(resctrl, bundle, runtime, closID="gold", schemata=[L3])
    assert (resctrl.root / "gold/tasks").read_text() == str(pid)
    resctrl.ok("delete", "--force", id)
    assert (resctrl.root / "gold").exists()


@pytest.mark.property("linux.intelRdt.closID", "life-cycle 35")
def test_a_name_alone_is_that_of_a_class_that_exists(resctrl, bundle, runtime):
    made = bundle("true", {"linux.intelRdt": {"closID": "gold"}})
    error = resctrl.fails("run", "--bundle", made.path, runtime.new_id())
    assert "linux.intelRdt.closID = gold does not exist" in error
    group = resctrl.group("gold")
    id, pid = created(resctrl, bundle, runtime, closID="gold")
    assert (group / "tasks").read_text() == str(pid)
    resctrl.ok("delete", "--force", id)
    assert group.exists()


@pytest.mark.property("linux.intelRdt.closID", "life-cycle 35")
def test_an_existing_class_must_have_the_schemata_of_the_bundle(resctrl, bundle, runtime):
    group = resctrl.group("gold", "    L3:0=000f;1=00f0\n    MB:0=  20;1=  70\n")
    id, _ = created(resctrl, bundle, runtime, closID="gold", schemata=[L3], memBwSchema=MB)
    assert group.joinpath("schemata").read_text().startswith("    L3:0=000f")  # unchanged
    resctrl.ok("delete", "--force", id)
    made = bundle("true", {"linux.intelRdt": {"closID": "gold", "schemata": ["L3:0=1"]}})
    error = resctrl.fails("run", "--bundle", made.path, runtime.new_id())
    assert "another L3 for domain 0" in error
    assert group.exists()


def test_the_default_class_is_the_root_of_resctrl(resctrl, bundle, runtime):
    id, pid = created(resctrl, bundle, runtime, closID="/", enableMonitoring=True)
    assert (resctrl.root / "tasks").read_text() == str(pid)
    assert (resctrl.root / "mon_groups" / id / "tasks").read_text() == str(pid)
    resctrl.ok("delete", "--force", id)
    assert not (resctrl.root / "mon_groups" / id).exists()
    assert (resctrl.root / "tasks").exists()


@pytest.mark.property("linux.intelRdt.enableMonitoring")
def test_monitoring_has_a_group_of_its_own_until_delete(resctrl, bundle, runtime):
    id, pid = created(resctrl, bundle, runtime, closID="gold", schemata=[L3], enableMonitoring=True)
    monitor = resctrl.root / "gold/mon_groups" / id
    assert (monitor / "tasks").read_text() == str(pid)
    resctrl.ok("delete", "--force", id)
    assert not monitor.exists()
    assert (resctrl.root / "gold").exists()


def test_a_created_class_is_removed_if_the_container_cannot_be_created(resctrl, bundle, runtime):
    rdt = {"schemata": [L3], "enableMonitoring": True}
    made = bundle("", {"linux.intelRdt": rdt, "process.args": ["/nowhere"]})
    before = sorted(resctrl.root.rglob("*"))
    resctrl.fails("run", "--bundle", made.path, runtime.new_id())
    assert sorted(resctrl.root.rglob("*")) == before


def test_update_changes_and_stores_the_schemata(resctrl, bundle, runtime):
    id, _ = created(resctrl, bundle, runtime, l3CacheSchema=L3)
    resctrl.ok("update", "--l3-cache-schema", "L3:0=1", "--mem-bw-schema", "MB:0=30", id)
    text = (resctrl.root / id / "schemata").read_text()
    assert text.startswith("L3:0=1\nMB:0=30\n")
    config = json.loads((runtime.root / id / "config.json").read_text())
    assert config["linux"]["intelRdt"] == {"l3CacheSchema": "L3:0=1", "memBwSchema": "MB:0=30"}
    resctrl.ok("delete", "--force", id)


def test_update_needs_a_class_to_change(runtime, bundle):
    container = runtime.create(bundle("sleep 100"))
    error = runtime.refuses("update", "--l3-cache-schema", "L3:0=1", container)
    assert "has no class of service" in error


def test_without_resctrl_the_property_is_an_error(runtime, bundle):
    error = runtime.fails(bundle("true", {"linux.intelRdt": {"closID": "gold"}}))
    assert "linux.intelRdt needs resctrl, which is not mounted" in error
    assert runtime.ids() == []
