"""
Where a test runs: the marks `needs_…`, their probes, and the report of what ran where.

A test states what it needs, not where it runs:

    @pytest.mark.needs_cgroup2
    def test_the_hog_is_killed() -> None: ...

On a host without it the test is skipped, and the reason names what is missing. A test that needs
more than root and a package also gets the mark `machine`, by which `make lab-test` selects what to
run in the integration machine. Run as a program, this module compares the JUnit reports of several
places and fails if a test was skipped in all of them:

    python -m tests.capabilities build/reports/host.xml build/reports/lab.xml
"""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

CONTROLLERS = frozenset({"cpu", "cpuset", "io", "memory", "pids"})
"""What a cgroup v2 hierarchy must offer for the tests of limits."""

Missing = str | None
"""What a host is missing, in words; None when nothing is."""


def root() -> Missing:
    """The test changes the host: mounts, namespaces, cgroups."""
    return None if os.geteuid() == 0 else "root"


def cgroup2() -> Missing:
    """Unified cgroup v2 with every controller that the tests use."""
    try:
        found = Path("/sys/fs/cgroup/cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        return "cgroup v2 at /sys/fs/cgroup"
    lacking = sorted(CONTROLLERS - set(found))
    return f"cgroup v2 controllers: {', '.join(lacking)}" if lacking else None


def systemd() -> Missing:
    """A running systemd as process 1, with its D-Bus interface."""
    return None if Path("/run/systemd/system").is_dir() else "systemd"


def kvm() -> Missing:
    """A /dev/kvm of any kind."""
    return None if os.access("/dev/kvm", os.R_OK | os.W_OK) else "/dev/kvm"


def svm() -> Missing:
    """A /dev/kvm with hardware semantics: AMD's or Intel's, emulated or not; not software PVM."""
    hardware = any(Path(f"/sys/module/{name}").exists() for name in ("kvm_amd", "kvm_intel"))
    return kvm() if hardware else "a KVM with hardware semantics (kvm_amd or kvm_intel)"


def bare_kvm() -> Missing:
    """A KVM that QEMU does not emulate: QEMU hangs on a triple fault and is 20 times slower."""
    emulated = "QEMU TCG" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "a KVM that is not QEMU's emulation" if emulated else kvm()


def overlay() -> Missing:
    """The overlay file system."""
    if "\toverlay\n" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        modprobe = shutil.which("modprobe", path="/usr/sbin:/sbin")
        if not modprobe or subprocess.run([modprobe, "-q", "overlay"], check=False).returncode:
            return "overlayfs"
    return root()


def userns() -> Missing:
    """User namespaces."""
    try:
        limit = int(Path("/proc/sys/user/max_user_namespaces").read_text(encoding="ascii"))
    except OSError:
        return "user namespaces"
    return None if limit else "user namespaces (user.max_user_namespaces is 0)"


def program(*names: str) -> Callable[[], Missing]:
    """A probe for installed programs."""

    def probe() -> Missing:
        lacking = [name for name in names if not shutil.which(name, path=_path())]
        return f"{', '.join(lacking)} (not installed)" if lacking else None

    return probe


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def criu() -> Missing:
    """A criu that works with this kernel."""
    lacking = program("criu")()
    if lacking or root():
        return lacking or root()
    done = subprocess.run(["criu", "check"], capture_output=True, check=False, timeout=60,
                          env={"PATH": _path()})  # fmt: skip
    return "a criu for this kernel (criu check)" if done.returncode else None


def lab() -> Missing:
    """The integration machine's image and minutes to boot it: `make lab-test` provides both."""
    return None if os.environ.get("PYCONTAIN_LAB") else "`make lab-test`, which sets PYCONTAIN_LAB"


NEEDS: dict[str, tuple[str, Callable[[], Missing]]] = {
    "needs_root": ("root", root),
    "needs_cgroup2": ("unified cgroup v2 with cpu, cpuset, io, memory and pids", cgroup2),
    "needs_systemd": ("a running systemd", systemd),
    "needs_kvm": ("a /dev/kvm of any kind", kvm),
    "needs_svm": ("a /dev/kvm with hardware semantics", svm),
    "needs_bare_kvm": ("a KVM that is not QEMU's emulation", bare_kvm),
    "needs_overlay": ("overlayfs", overlay),
    "needs_userns": ("user namespaces", userns),
    "needs_podman": ("podman and conmon", program("podman", "conmon")),
    "needs_buildah": ("buildah", program("buildah")),
    "needs_docker": ("docker", program("docker", "dockerd")),
    "needs_containerd": ("containerd", program("containerd", "ctr")),
    "needs_criu": ("a criu that works with the kernel", criu),
    "needs_runc": ("runc", program("runc")),
    "needs_crun": ("crun", program("crun")),
    "needs_busybox": ("a busybox", program("busybox")),
    "needs_browser": ("a browser", program("chromium-headless-shell")),
    "needs_strace": ("strace", program("strace")),
    "needs_cc": ("a C compiler", program("gcc")),
    "needs_lab": ("a host that boots the integration machine", lab),
}
"""Every mark, in words, and the probe behind it. A mark that is not listed here is an error."""

OUTSIDE = frozenset({"needs_lab"})
"""Needs that the machine itself can't meet."""

ANYWHERE = frozenset(
    {
        "needs_browser",
        "needs_busybox",
        "needs_cc",
        "needs_crun",
        "needs_root",
        "needs_runc",
        "needs_strace",
        "needs_userns",
    }  # fmt: skip
)
"""Needs that `make test` meets on any host: on their own they don't require the machine."""


@cache
def missing(need: str) -> Missing:
    """What this host is missing for one mark, or None. Each probe runs once."""
    return NEEDS[need][1]()


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    for name, (words, _) in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: needs {words}")
    config.addinivalue_line("markers", "machine: runs in the integration machine (added by need)")
    config.addinivalue_line("markers", "property(*names): shows these of docs/conformance.toml")
    config.addinivalue_line("markers", "control: a naive variant that the exploit beats")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """
    Ignore files without needs when only the machine's tests are selected.

    Importing them all takes a minute under emulation. So a file must name its needs in its own text.
    """
    if config.getoption("markexpr") != "machine" or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if any(need in text for need in NEEDS.keys() - ANYWHERE) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this host can't run, and mark what the machine should run."""
    for item in items:
        named = {mark.name for mark in item.iter_markers()} | set(getattr(item, "fixturenames", ()))
        needs = sorted(named & NEEDS.keys())
        if set(needs) - ANYWHERE and not OUTSIDE & set(needs):
            item.add_marker(pytest.mark.machine)
        lacking = [what for what in map(missing, needs) if what]
        if lacking:
            item.add_marker(pytest.mark.skip(reason=f"needs {'; '.join(lacking)}"))


class Places:
    """The outcome of each test in each place, from JUnit reports named after the places."""

    def __init__(self, reports: Sequence[Path]) -> None:
        self.names = [path.stem for path in reports]
        self.outcomes: dict[str, dict[str, str]] = {}
        self.reasons: dict[str, str] = {}
        for path in reports:
            self._read(path)

    def _read(self, path: Path) -> None:
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            test = f"{case.get('classname', '')}::{case.get('name', '')}"
            self.outcomes.setdefault(test, {})[path.stem] = _outcome(case)
            skipped = case.find("skipped")
            if skipped is not None:
                self.reasons[test] = skipped.get("message", "")

    def count(self, place: str, outcome: str) -> int:
        """How many tests had the outcome in the place."""
        return sum(1 for found in self.outcomes.values() if found.get(place) == outcome)

    def only(self, place: str) -> int:
        """How many tests ran in this place and in no other."""
        return sum(1 for found in self.outcomes.values() if _ran(found) == {place})

    def nowhere(self) -> list[str]:
        """The tests that every place skipped."""
        return sorted(test for test, found in self.outcomes.items() if not _ran(found))


def _outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    skipped = case.find("skipped")
    if skipped is None or skipped.get("type") == "pytest.xfail":
        return "passed"
    return "skipped"


def _ran(found: dict[str, str]) -> set[str]:
    return {place for place, outcome in found.items() if outcome != "skipped"}


def report(paths: Sequence[Path]) -> tuple[str, bool]:
    """The report of what ran where, and whether every test ran somewhere."""
    places = Places(paths)
    rows = ["what ran where:", f"  {'place':<10} passed failed skipped  only there"]
    for name in places.names:
        figures = [places.count(name, outcome) for outcome in ("passed", "failed", "skipped")]
        shown = "{:>6} {:>6} {:>7}".format(*figures)
        rows.append(f"  {name:<10} {shown}  {places.only(name):>10}")
    nowhere = places.nowhere()
    rows += [f"  ran nowhere: {test}: {places.reasons.get(test, '')}" for test in nowhere]
    rows.append(f"  {len(places.outcomes)} tests, {len(nowhere)} of them ran nowhere")
    return "\n".join(rows), not nowhere


def main(arguments: Sequence[str]) -> int:
    """Print the report; 1 when a test ran nowhere, 2 when a report is missing."""
    paths = [Path(argument) for argument in arguments]
    absent = [str(path) for path in paths if not path.exists()]
    if absent or not paths:
        sys.stderr.write(f"capabilities: no report {' '.join(absent)}\n")
        return 2
    text, whole = report(paths)
    sys.stdout.write(text + "\n")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
