"""
CVE-2019-5736: the container overwrites the runtime's own executable.

The program is the script `#!/proc/self/exe`: at the moment of execve that is the interpreter which
runs pycontain, started with the *container's* dynamic loader. The loader keeps a descriptor of the
executable, waits until no process runs it any more, and opens it for writing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.attack import (
    PYTHON,
    in_a_child,
    loader_that_keeps_the_executable,
    mount_by_path,
)

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(
        platform.machine() != "x86_64", reason="needs x86-64: the loader is its code"
    ),
]

LAUNCHER = Path(__file__).parents[2] / ".venv/bin/pycontain"

# Opened without writing: if the protection fails, the host's Python stays intact.
ATTACK = """
grep -q . /proc/self/fd/8 || { echo no executable; exit; }
n=0
while [ $n -lt 100 ]; do
    if (exec 9<>/proc/self/fd/8) 2>/tmp/why; then echo WRITABLE; exit; fi
    case $(cat /tmp/why) in *busy*) sleep 0.05;; *) cat /tmp/why; exit;; esac
    n=$((n + 1))
done
echo still busy
"""


def plant(rootfs):
    """Write the program, the loader, and the script that the loader executes."""
    (rootfs / "attack.sh").write_text(ATTACK)
    (rootfs / "prog").write_text("#!/proc/self/exe\n")
    (rootfs / "prog").chmod(0o755)
    (rootfs / "lib64").mkdir()
    loader = rootfs / "lib64/ld-linux-x86-64.so.2"
    loader.write_bytes(loader_that_keeps_the_executable("/attack.sh"))
    loader.chmod(0o755)


def is_refused(text):
    """EROFS of the overlay, or EPERM of the sealed memfd."""
    return "Read-only file system" in text or "Operation not permitted" in text


@pytest.fixture(params=["launcher", "module"])
def command(request, monkeypatch):
    """The command line as it is installed, and as `python -m pycontain` starts it."""
    if request.param == "launcher":
        if not LAUNCHER.exists():
            pytest.skip("needs the launcher: make dev")
        monkeypatch.setattr("tests.bundles.COMMAND", [str(LAUNCHER)])
    else:
        monkeypatch.setattr("tests.bundles.COMMAND", [sys.executable, "-m", "pycontain"])


def test_the_program_cannot_write_to_the_interpreter_that_ran_it(runtime, bundle, command):
    made = bundle("", {"process.args": ["/prog"]})
    plant(made.rootfs)
    container = runtime.started(made)
    runtime.wait_for_status(container, "stopped")
    assert is_refused(runtime.printed(container)), runtime.printed(container)


def test_the_program_of_an_exec_cannot_write_to_the_interpreter(runtime, bundle, command):
    made = bundle("sleep 100")
    plant(made.rootfs)
    container = runtime.started(made)
    assert is_refused(runtime("exec", container, "/prog").out)


@pytest.mark.control
def test_the_program_of_a_naive_runtime_writes_to_the_interpreter(bundle, tmp_path):
    """A copy of the interpreter is the victim; what it runs from is not sealed."""
    made = bundle("")
    plant(made.rootfs)
    victim = tmp_path / "python"
    shutil.copy(PYTHON, victim)
    code = (
        f"import os; os.chroot({str(made.rootfs)!r}); os.chdir('/'); os.execv('/prog', ['/prog'])"
    )

    def run():
        mount_by_path("proc", made.rootfs / "proc")
        library = os.path.join(os.path.dirname(os.path.dirname(PYTHON)), "lib")
        how = {"LD_LIBRARY_PATH": library}
        done = subprocess.run(
            [victim, "-ISc", code], capture_output=True, text=True, check=False, env=how
        )
        return done.stdout + done.stderr

    assert in_a_child(run) == "WRITABLE\n"


@pytest.mark.parametrize(
    "program", ["/proc/self/exe", "/proc/1/exe", "/link", "/proc/self/fd/4/bin/true"]
)
def test_a_program_behind_a_magic_link_is_refused(runtime, bundle, program):
    made = bundle("", {"process.args": [program]})
    (made.rootfs / "link").symlink_to("/proc/self/exe")
    assert runtime.fails(made)
