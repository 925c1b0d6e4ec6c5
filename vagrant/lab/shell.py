"""Running other programs, with a time limit and so that they never outlive this process."""

import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError
from .progress import Step, seconds

TAIL = 25
"""Lines of a failed program's output that the message includes."""

PACKAGE_OF = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "unshare": "util-linux",
    "ssh-keygen": "openssh-client",
    "sudo": "sudo",
    "vagrant": "vagrant vagrant-libvirt",
}


def need(*programs: str) -> None:
    """Raises a LabError that names the packages of the programs that are not installed."""
    missing = [name for name in programs if not which(name)]
    if missing:
        packages = " ".join(PACKAGE_OF.get(name, name) for name in missing)
        raise LabError(f"not installed: {', '.join(missing)}; apt-get install {packages}")


def which(program: str) -> str | None:
    """The program's path; also searches the sbin folders, which a user's PATH may not contain."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(program, path=f"{path}:/usr/sbin:/sbin")


def bound(argv: Sequence[str]) -> list[str]:
    """The command, wrapped so that it is killed when this process dies, even by SIGKILL."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


def as_root(argv: Sequence[str]) -> list[str]:
    """The command wrapped to run as root: through sudo unless we are root."""
    inner = bound(argv)
    return inner if os.geteuid() == 0 else ["sudo", *inner]


def tail(lines: Sequence[str]) -> str:
    """The last lines, indented, for a message."""
    return "".join(f"\n    | {line}" for line in list(lines)[-TAIL:])


def call(argv: Sequence[str], step: Step, *, log: Path | None = None) -> None:
    """
    Runs a command within what is left of the step's limit; its last line is the step's note.

    Raises LabError with the output's last lines when it fails or takes longer. On a timeout or an
    interrupt the whole process group is terminated.
    """
    lines: deque[str] = deque(maxlen=TAIL)
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    reader = threading.Thread(target=_read, args=(process, lines, step, log), daemon=True)
    reader.start()
    try:
        status = process.wait(timeout=step.left)
    except subprocess.TimeoutExpired:
        end_group(process)
        raise LabError(f"{argv[0]}: did not finish within the limit{tail(lines)}") from None
    except BaseException:
        end_group(process)
        raise
    reader.join(timeout=5)
    if status:
        shown = " ".join(argv[:8])
        raise LabError(f"{shown}: exit status {status} after {seconds(step.elapsed)}{tail(lines)}")


def _read(
    process: "subprocess.Popen[str]", lines: deque[str], step: Step, log: Path | None
) -> None:
    assert process.stdout is not None
    with open(log or os.devnull, "a", encoding="utf-8") as file:
        for line in process.stdout:
            print(line, end="", file=file, flush=True)
            if line.strip():
                lines.append(line.rstrip())
                step.note = line.strip()[:70]


def end_group(process: "subprocess.Popen[str]", patience: float = 15) -> None:
    """Terminates the process group of a leader: SIGTERM, then SIGKILL if it has not exited."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass
        try:
            process.wait(timeout=patience)
            return
        except subprocess.TimeoutExpired:
            continue
