"""
Turn each step of a container's creation into a no-op, one at a time: `python -m tests.mutation`.

A step that does nothing must fail at least one test; one that fails none is a survivor, and a test
is missing. The tests run on a copy of the source, in a mount namespace whose root file system is
read-only: what a broken runtime does must not reach the host. Tests that fail there without any
mutation are left out, and listed. Survivors are listed at the end, and then the exit status is 1. Arguments are names of steps (classes of `plan.steps`); without any, all
steps are tried, which takes about a quarter of an hour.
"""

from __future__ import annotations

import ast
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pycontain.plan.walk import child_step, parent_step
from tests.steps import import_all

import_all()

ROOT = Path(__file__).parents[2]
_FAILED = ("FAILED", "ERROR ")  # how pytest begins the lines of its summary
LIMIT = 600  # seconds; a run that hangs has noticed the mutation, too

# Where each step is tested: every step is named once. What passes there is tried on EVERYTHING.
TESTED = {
    "tests/lifecycle/test_states.py": (
        "Reserve", "MakeCgroup", "Spawn", "RecordPid", "Announce", "AwaitStart", "Execute",
        "FindProgram",
    ),
    "tests/lifecycle/test_engines.py": ("WritePidFile", "SendPidfd"),
    "tests/lifecycle/test_hooks.py": ("RunHooks", "RunContainerHooks"),
    "tests/lifecycle/test_terminal.py": ("ConnectConsole", "OpenTerminal"),
    "tests/lifecycle/test_exec.py": ("JoinProcess", "SetAffinity"),
    "tests/lifecycle/test_joined_pids.py": (
        "JoinPids", "EnterPids", "TakeOver", "SetSchedulerOutside",
    ),
    "tests/conformance/test_devices.py": (
        "FilterDevices", "MakeDevices", "LinkDevices", "GiveCgroup",
    ),
    "tests/conformance/test_mounts.py tests/conformance/test_propagation.py": (
        "BindRoot", "MountFilesystem", "MountBind", "Remount", "MakePlaces", "ProtectPaths",
        "MaskPaths", "MakeReadOnly", "ChangeRoot", "MountCgroup",
    ),
    "tests/conformance/test_namespaces.py": (
        "OpenNamespaces", "JoinNamespaces", "Unshare", "RaiseLoopback", "SetHostname",
        "WriteSysctls", "ChangeDirectoryRoot", "OpenRoot", "RequireMissing",
    ),
    "tests/conformance/test_process.py": (
        "AdjustOomScore", "StartSession", "SetScheduler", "SetIoPriority", "SetPersonality",
        "EnterDirectory", "SetRlimits", "RaiseRlimits", "BoundCapabilities", "TakeUser",
        "SetCapabilities", "NoNewPrivileges", "SetMemoryPolicy",
    ),
    "tests/conformance/test_user_namespaces.py tests/conformance/test_joined_user_namespaces.py"
    " tests/security/test_user_namespaces.py": (
        "MakeUserNamespace", "ReadMappings", "PrepareMounts", "PrepareDevices", "RemoveDevices",
        "GiveStreams", "RaiseRlimitsOutside", "SetIoPriorityOutside",
    ),
    "tests/kernel/test_cgroup.py tests/lifecycle/test_existing_cgroup.py": ("LimitCgroup",),
    "tests/lifecycle/test_unit.py": ("FindUnit", "StartUnit"),
    "tests/conformance/test_rootless.py": ("TakeDevices",),
    "tests/kernel/test_seccomp.py": ("CompileSeccomp", "LoadSeccomp"),
    "tests/lifecycle/test_labels.py": ("LabelProcess", "LabelMount"),
    "tests/lifecycle/test_sdnotify.py": ("MakeNotifyDirectory",),
    "tests/lifecycle/test_checkpoint.py": ("SpawnCriu", "RestoreProcesses"),
    "tests/lifecycle/test_rdt.py": ("MakeRdtGroup", "JoinRdtGroup"),
    "tests/lifecycle/test_network_devices.py": ("MoveDevices",),
    "tests/lifecycle/test_seccomp_notify.py": ("ConnectListener", "SendListener", "CloseListener"),
    "tests/walls/test_verbs.py": ("LoadMonitor", "RunInVm"),
    "tests/security/test_host_is_out_of_sight.py": ("JoinKeyring",),
    "tests/security/test_imports_are_blocked.py": ("Guard",),
}  # fmt: skip
EVERYTHING = "tests/conformance tests/lifecycle tests/security tests/kernel"

# A private, read-only view of the host with scratch space where tests and the runtime write. What
# is in $TMPDIR is seen from outside, too: the kernel runs the programs that it is told to there.
_PRIVATE = """
mount --make-rprivate /
mount --bind "$TMPDIR" "$TMPDIR"
mount -o remount,bind,ro /
for folder in /tmp .hypothesis /run /var/lib/pycontain; do
    [ ! -d "$folder" ] || mount -t tmpfs tmpfs "$folder"
done
exec "$@" </dev/null  # of this namespace
"""


def steps() -> dict[str, Callable[..., object]]:
    """Every step by its name, with the function that performs it."""
    functions = {**parent_step.functions, **child_step.functions}
    return {kind.__name__: function for kind, function in functions.items()}


def mistakes(tested: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """What is wrong with a table such as TESTED."""
    known, named = steps(), [name for names in tested.values() for name in names]
    for name in known:
        if named.count(name) != 1:
            times = "more than once" if name in named else "not"
            yield f"the step {name} is {times} in TESTED: name it once, where it is tested"
    yield from (f"{name} in TESTED is no step: remove it" for name in named if name not in known)
    for path in " ".join(tested).split():
        if not (ROOT / path).exists():
            yield f"{path} in TESTED does not exist"


@contextmanager
def copied(function: Callable[..., object] | None = None) -> Iterator[Path]:
    """A copy of the source, in which this function does nothing."""
    with tempfile.TemporaryDirectory(prefix="pycontain-mutation.", dir="/var/tmp") as folder:
        copy = Path(folder, "copy")
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")
        )
        if function is not None:
            disarm(copy, function)
        pack(copy)
        yield copy


def failing(function: Callable[..., object], nearest: str, left_out: list[str]) -> str:
    """The first test that fails while this function does nothing, or ""."""
    flags = ["-x", *(f"--deselect={test}" for test in left_out)]
    with copied(function) as copy:
        found = failures(copy, nearest, flags) or failures(copy, EVERYTHING, flags)
        return found[0] if found else ""


def disarm(copy: Path, function: Callable[..., object]) -> None:
    """Make a function of a copied source return at once."""
    file = copy / Path(inspect.getfile(function)).relative_to(ROOT)
    lines = file.read_text().splitlines()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            lines.insert(node.body[1].lineno - 1, "    return")
            break
    file.write_text("\n".join(lines) + "\n")


def pack(copy: Path) -> None:
    """Write the code archive of a copy, which commands are started from."""
    command = [sys.executable, "-X", "no_debug_ranges", "-m", "pycontain.cli.pack"]
    subprocess.run(command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, check=True)


def failures(copy: Path, tests: str, flags: Sequence[str] = ()) -> list[str]:
    """Those of these tests that fail on a copy."""
    pytest = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *flags]
    scratch = copy.parent / "tmp"
    command = ["unshare", "--mount", "sh", "-euc", _PRIVATE, "sh", *pytest]
    for written in (scratch, copy / ".hypothesis"):
        written.mkdir(exist_ok=True)
    scratch.chmod(0o1777)
    copy.parent.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(copy), "TMPDIR": str(scratch)}
    try:
        done = subprocess.run(
            [*command, f"--basetemp={scratch}/pytest", *tests.split()],
            cwd=copy, env=environment, capture_output=True, timeout=LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [f"no end of {tests}"]
    if done.returncode not in (0, 1):
        sys.exit(f"pytest did not run: {done.stdout.decode()[-2000:]}{done.stderr.decode()}")
    lines = done.stdout.decode().splitlines()
    return [line.split(" - ")[0].split(" ", 1)[1] for line in lines if line[:6] in _FAILED]


def chosen(names: list[str]) -> Iterator[tuple[str, Callable[..., object], str]]:
    """(step, function, where it is tested) of the steps to try."""
    known = steps()
    where = {name: tests for tests, tested in TESTED.items() for name in tested}
    for name in names or known:
        if name not in known:
            sys.exit(f"{name} is no step: {', '.join(known)}")
        yield name, known[name], where[name]


def run(names: list[str]) -> int:
    """Try them all; the exit status."""
    if wrong := "\n".join(mistakes(TESTED)):
        sys.exit(wrong)
    with copied() as copy:
        left_out = failures(copy, EVERYTHING)
    print("left out:", *(left_out or ["none"]), sep="\n    ", flush=True)
    survivors, tried = [], 0
    for name, function, nearest in chosen(names):
        began, tried = time.monotonic(), tried + 1
        failed = failing(function, nearest, left_out)
        survivors += [] if failed else [name]
        spent = time.monotonic() - began
        print(f"{name:20} {spent:4.0f} s  {failed or 'SURVIVES'}", flush=True)
    print(f"{tried} steps turned into no-ops, {len(survivors)} survivors {' '.join(survivors)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("tests.mutation: needs root, as containers do")
    sys.exit(run(sys.argv[1:]))
