"""
AppArmor and SELinux: labels of processes and mounts.

On a host without either, a label is an error, and how they are written is shown with a stand-in;
tests/lab has AppArmor itself.
"""

from __future__ import annotations

import os

import pytest

from pycontain.errors import SpecError
from pycontain.init import labels as child
from pycontain.init.context import Context
from pycontain.kernel.root import Root
from pycontain.plan import labels, steps
from pycontain.plan.facts import Facts
from pycontain.plan.steps.labels import LabelMount, LabelProcess
from pycontain.spec.records import Process
from tests.unit.plans import config, find, plan_of
from tests.unit.spec_configs import edited

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"
BOTH = Facts(
    last_capability=40, permitted=2**41 - 1, bounding=2**41 - 1, apparmor=True, selinux=True
)
NEITHER = BOTH.replace(apparmor=False, selinux=False)


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("property", "module"),
    [
        ("process.apparmorProfile", "AppArmor"),
        ("process.selinuxLabel", "SELinux"),
        ("linux.mountLabel", "SELinux"),
    ],
)
def test_a_label_for_a_module_that_the_host_does_not_use_is_an_error(
    runtime, bundle, property, module
):
    places = {"AppArmor": "/sys/kernel/security/apparmor", "SELinux": "/sys/fs/selinux/enforce"}
    if os.path.exists(places[module]):
        pytest.skip(f"this host uses {module}")
    error = runtime.fails(bundle("true", {property: "some"}))
    assert f"{property} = some needs {module}, which this host does not use" in error
    if module == "AppArmor":
        assert runtime.output(bundle("echo ran", {property: "unconfined"})).out == "ran\n"


@pytest.mark.needs_root
@pytest.mark.parametrize("flag", ["--apparmor", "--process-label"])
def test_exec_refuses_a_label_that_the_host_does_not_use(runtime, bundle, flag):
    if os.path.exists("/sys/kernel/security/apparmor"):
        pytest.skip("this host uses AppArmor")
    container = runtime.started(bundle("echo up; sleep 100"))
    assert "needs" in runtime.refuses("exec", flag, "some", container, "true")


def test_the_program_is_labelled_after_the_hooks_and_before_the_host_is_gone():
    process = Process(at="process", cwd="/", apparmorProfile="profile", selinuxLabel=LABEL)
    [step] = labels.process_steps(process, BOTH)
    assert step == LabelProcess(apparmor="profile", selinux=LABEL, why=step.why)
    with pytest.raises(SpecError):
        labels.process_steps(process, NEITHER)


@pytest.mark.property("linux.mountLabel")
def test_mounts_are_labelled_but_those_that_the_kernel_labels():
    made = [
        steps.MountFilesystem(target=f"/{kind}", kind=kind, source=kind, options=options)
        for kind, options in (
            ("tmpfs", ("size=1m",)), ("devpts", ()), ("proc", ()), ("sysfs", ()), ("mqueue", ()),
            ("ramfs", ("context=own",)),
        )
    ]  # fmt: skip
    bind = steps.MountBind(target="/x", source="/x", recursive=False)
    found = labels.mount_steps([*made, bind], LABEL, {}, BOTH)
    shown = [(step.target, getattr(step, "options", None)) for step in found]
    assert shown == [
        ("/tmpfs", ("size=1m", f"context={LABEL}")),
        ("/devpts", (f"context={LABEL}",)),
        ("/proc", ()),
        ("/sysfs", ()),
        ("/mqueue", ()),
        ("/mqueue", None),
        ("/ramfs", ("context=own",)),
        ("/x", None),
    ]
    assert found[5] == LabelMount(target="/mqueue", label=LABEL, why="linux.mountLabel")
    kind = {"run.oci.mount_context_type": "rootcontext"}
    assert labels.mount_steps(made[:1], LABEL, kind, BOTH)[0].options[-1] == f"rootcontext={LABEL}"
    with pytest.raises(SpecError, match="is not an option of mount"):
        labels.mount_steps(made, LABEL, {"run.oci.mount_context_type": "size"}, BOTH)
    with pytest.raises(SpecError, match="needs SELinux"):
        labels.mount_steps(made, LABEL, {}, NEITHER)


@pytest.fixture
def attributes(tmp_path, monkeypatch):
    """A folder in place of /proc, with the files that the modules read."""
    for name in ("apparmor/exec", "exec"):
        file = tmp_path / "thread-self/attr" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setattr(child, "private_proc", lambda: os.open(tmp_path, os.O_PATH))
    return tmp_path / "thread-self/attr"


@pytest.mark.property("process.apparmorProfile", "process.selinuxLabel")
def test_each_security_module_gets_its_label_in_its_own_file_and_format(attributes):
    step = LabelProcess(apparmor="profile//&other", selinux=LABEL)
    child.label_process(step, Context(None))
    assert (attributes / "apparmor/exec").read_text() == "exec profile//&other"
    assert (attributes / "exec").read_text() == LABEL


def test_a_profile_that_is_not_loaded_is_named_with_the_remedy(attributes):
    (attributes / "apparmor/exec").unlink()
    with pytest.raises(Exception, match="is not loaded") as caught:
        child.label_process(LabelProcess(apparmor="gone"), Context(None))
    assert caught.value.fault.at == "process.apparmorProfile"
    assert "apparmor_parser" in caught.value.fault.remedy


@pytest.mark.needs_root
def test_a_queues_directory_gets_its_label_as_an_attribute(tmp_path):
    context = Context(None)
    (tmp_path / "mqueue").mkdir()
    context.root = Root(os.open(tmp_path, os.O_PATH))
    child.label_mount(LabelMount(target="/mqueue", label=LABEL), context)
    assert os.getxattr(tmp_path / "mqueue", "security.selinux") == LABEL.encode()


def test_the_steps_for_labels_are_in_the_plan():
    made = edited(config(), "process.apparmorProfile", "profile")
    plan = plan_of(made, facts=BOTH)
    names = [step.name for step in plan.steps]
    assert find(plan, LabelProcess).apparmor == "profile"
    assert names.index("label") < names.index("pivot")
