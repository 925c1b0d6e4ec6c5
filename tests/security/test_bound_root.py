"""
What a bind mount onto "/" replaces is gone: no proc without masks is left behind.

While one exists, covered or not, a process in a new user namespace may mount another
(mount_too_revealing in fs/namespace.c). With --no-pivot the namespace keeps all its mounts.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from pycontain.init import pivot, rootfs
from pycontain.init.context import Context
from pycontain.plan import plan as planning
from pycontain.plan.facts import Facts
from pycontain.plan.request import Request
from pycontain.plan.walk import child_step
from pycontain.spec.parse import parse
from tests.bundles import MOUNTS, fill_rootfs
from tests.security.attack import in_a_child
from tests.security.test_host_is_out_of_sight import exploit
from tests.security.test_swapped_mount_points import is_child_step

pytestmark = pytest.mark.needs_root


@pytest.fixture
def made(bundle, tmp_path):
    """A bundle with a proc in its rootfs, then another root, and there a proc with a mask."""
    fill_rootfs(tmp_path / "other")
    bind = {"destination": "/", "source": str(tmp_path / "other"), "options": ["bind"]}
    made = bundle(f"{exploit('proc')}; id", {"linux.maskedPaths": ["/proc/keys"]})
    made.edit({"mounts": [*MOUNTS, bind, *MOUNTS]})
    sets = made.config["process"]["capabilities"]
    for names in sets.values():
        names.append("CAP_SETFCAP")  # to be root in a user namespace: user_namespaces(7)
    made.edit({"process.capabilities": sets})
    return made


@pytest.mark.parametrize("flag", [(), ("--no-pivot",)])
def test_a_user_namespace_gets_no_proc_without_masks(runtime, made, flag):
    done = runtime.run(made, *flag)
    assert "mount: permission denied" in done.err
    assert done.status == 0


def mounts_a_proc(made):
    """Whether the exploit works in the root that the steps build, when it is moved, not pivoted."""
    request = Request(id="x", bundle=str(made.path))
    facts = Facts(last_capability=40, permitted=0, bounding=0)
    plan = planning.build(parse(json.dumps(made.config)), request, facts)

    def work():
        context = Context(None)
        for step in filter(is_child_step, plan.steps):
            child_step.perform(step, context)
        pivot._move(context.inside.fd)
        return subprocess.run(["/bin/sh", "-c", exploit("proc")], check=False).returncode == 0

    return in_a_child(work)


@pytest.mark.control
def test_a_naive_bind_mount_covers_the_old_root(made, monkeypatch):
    """The same steps; the rootfs stays where it is, below the new root."""
    assert not mounts_a_proc(made)
    monkeypatch.setattr(rootfs.calls, "umount2", lambda *_: None)
    monkeypatch.setattr(pivot, "_detach_kernel_mounts", lambda _: detach_the_hosts())
    assert mounts_a_proc(made)


def detach_the_hosts():
    """Cover what is not in question: the host's own proc."""
    subprocess.run(["umount", "--lazy", "/proc"], check=True)
