"""What a program in a virtual machine cannot have is refused by name, before anything is made."""

from __future__ import annotations

import pytest

from pycontain.errors import UsageError
from pycontain.plan.isolation import MONITOR_CALLS, check
from pycontain.plan.request import Request
from pycontain.spec.records import Linux, Process

NOTHING = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"]}


def allowing(names):
    """A filter that allows these calls alone."""
    return {**NOTHING, "syscalls": [{"names": list(names), "action": "SCMP_ACT_ALLOW"}]}


def test_another_isolation_is_refused(runtime, bundle):
    made = bundle("true", {"annotations": {"run.pycontain.isolation": "xen"}})
    line = runtime.fails(made)
    assert "annotations[run.pycontain.isolation] = 'xen' is not namespaces, kvm or emulate" in line


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"linux.personality": {"domain": "LINUX32"}}, "linux.personality"),
        ({"process.apparmorProfile": "some"}, "process.apparmorProfile"),
        ({"process.selinuxLabel": "a:b:c:d"}, "process.selinuxLabel"),
        ({"linux.seccomp": {**allowing(["read"]), "listenerPath": "/run/none"}}, "linux.seccomp"),
        ({"linux.seccomp": allowing(["read", "write"])}, "linux.seccomp"),
        ({"mounts": []}, "mounts"),
        ({"linux.namespaces": [{"type": "pid"}]}, "linux.namespaces"),
    ],
)
def test_what_cannot_be_the_same_is_refused_by_name(walled, bundle, changes, named):
    line = walled.fails(bundle("true", changes))
    assert named in line
    assert walled.ids() == []


def test_descriptors_are_not_passed_on():
    with pytest.raises(UsageError, match="--preserve-fds cannot be had"):
        check(
            Process(at="process", cwd="/"), Linux(at="linux"), Request(id="x", preserve_fds=1), None
        )


def test_a_virtual_machine_is_not_saved(walled, bundle):
    id = walled.started(bundle("while :; do sleep 0.1; done"))
    assert "runs in a virtual machine" in walled.refuses("checkpoint", id)
    assert walled.state(id)["status"] == "running"


def test_a_filter_that_forbids_what_the_monitor_calls_is_refused_with_the_calls(walled, bundle):
    names = [name for name in MONITOR_CALLS.split() if name not in ("openat2", "signalfd4")]
    line = walled.fails(bundle("true", {"linux.seccomp": allowing(names)}))
    assert "does not allow what the monitor of a virtual machine calls: openat2, signalfd4" in line


def test_a_filter_that_allows_no_more_than_the_monitor_calls_suffices(walled, bundle, isolation):
    """The list is complete; what an emulated processor's thread needs is besides."""
    more = ["clone3", "set_robust_list", "rseq", "exit", "sched_yield"]
    names = [*MONITOR_CALLS.split(), *(more if isolation == "emulate" else [])]
    made = bundle("", {"process.args": ["echo", "up"], "linux.seccomp": allowing(names)})
    assert walled.output(made).lines == ["up"]
