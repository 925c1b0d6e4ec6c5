"""Booting the machine: QEMU's command line, waiting for the ready line, terminating QEMU."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import cache
from .console import Console
from .errors import BootHang, LabError, PortTaken
from .image import Image
from .progress import Step, say, seconds
from .shell import bound, need, tail

BOOT_LIMIT = 90.0
"""Seconds to the ready line on an idle host; multiplied when the host is busy."""

BOOT_LIMIT_MOST = 300.0

PATIENCE = 5.0
"""Seconds for QEMU to exit after SIGTERM."""

MEMORY = "4G"

SPACE = 1.0
"""GiB that a machine's throw-away layer may grow to."""

CMDLINE = (
    "console=ttyS0 root=/dev/vda rw panic=-1 quiet mitigations=off nokaslr tsc=reliable "
    "cryptomgr.notests norandmaps systemd.show_status=0 net.ifnames=0"
)
"""`norandmaps` and the reduced `-cpu` halve the cost of starting a process under emulation."""

# One thread for all processors: with a thread each, QEMU 7.2 froze in two of three runs of the
# virtual machine's tests, which use the emulated SVM; and it is no slower for one test at a time.
EMULATED = ("-accel", "tcg,thread=single,tb-size=1024", "-cpu", "max,-la57,-smap,-smep")
HARDWARE = ("-accel", "kvm", "-cpu", "host")


class Machine:
    """A running machine: its image, its QEMU process, its console, its ssh port."""

    __slots__ = ("console", "image", "port", "process")

    def __init__(
        self, image: Image, process: "subprocess.Popen[bytes]", console: Console, port: int
    ) -> None:
        self.image = image
        self.process = process
        self.console = console
        self.port = port

    def lost(self, what: str) -> LabError:
        """The error to raise when the machine is no longer usable; `what` is the reason."""
        ended = self.console.settle()
        how = f" (QEMU ended with status {self.process.wait()})" if ended else ""
        return LabError(f"{what}{how}; the console's last lines:{tail(self.console.last())}")


def accelerator() -> tuple[str, ...]:
    """
    QEMU's accelerator options: hardware if it supports nesting, emulation otherwise.

    Software KVM (kvm_pvm) can't boot this machine; hardware KVM without nesting would leave the
    machine without its own /dev/kvm, which emulated SVM provides.
    """
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK) and not software_kvm()
    nests = any(
        _text(Path(f"/sys/module/{name}/parameters/nested")) in ("1", "Y")
        for name in ("kvm_intel", "kvm_amd")
    )
    return HARDWARE if usable and nests else EMULATED


def software_kvm() -> bool:
    """Whether /dev/kvm is software KVM, which runs small guests but cannot boot Linux."""
    return Path("/sys/module/kvm_pvm").exists()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def boot_limit() -> float:
    """Seconds a boot may take on this host now: more when other processes use the cores."""
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(BOOT_LIMIT_MOST, BOOT_LIMIT * max(1.0, 1.0 + busy))


def command(image: Image, port: int, append: str, tree: int | None) -> list[str]:
    """QEMU's command line. `tree` is a descriptor to pass as a second, read-only disk."""
    cores = min(4, os.cpu_count() or 1)
    argv = ["qemu-system-x86_64", "-name", "pycontain-lab", *accelerator()]
    argv += ["-M", "q35", "-smp", str(cores), "-m", MEMORY, "-nodefaults", "-display", "none"]
    argv += ["-serial", "stdio", "-no-reboot", "-device", "virtio-rng-pci"]
    argv += ["-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    argv += ["-append", f"{CMDLINE} {append}".strip()]
    # report, not stop: a full disk on the host becomes an I/O error in the guest, which logs it
    root = f"file={image.disk},format=raw,snapshot=on,cache=unsafe,werror=report,rerror=report"
    argv += ["-drive", f"{root},if=none,id=root", "-device", "virtio-blk-pci,drive=root"]
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:22"
    argv += ["-netdev", f"user,id=net,restrict=on,{forward}"]
    argv += ["-device", "virtio-net-pci,netdev=net"]
    if tree is not None:
        argv += ["-add-fd", f"fd={tree},set=1,opaque=tree"]
        argv += ["-drive", "file=/dev/fdset/1,format=raw,read-only=on,if=none,id=tree"]
        argv += ["-device", "virtio-blk-pci,drive=tree"]
    return argv


@contextmanager
def booted(image: Image, *, tree: int | None = None, append: str = "") -> Iterator[Machine]:
    """
    A machine that is up; QEMU is terminated at the end of the block, whatever happens.

    Raises LabError, with the console's last lines, when it doesn't come up. An unexplained hang
    (seen once in some 290 emulated boots) and a taken port are retried once, failures are not.
    """
    need("qemu-system-x86_64", "setpriv", "ssh")
    cache.need_space(cache.temporary(), SPACE, "the machine")
    try:
        machine = _boot(image, tree, append)
    except (BootHang, PortTaken) as error:
        say(f"{error}\nlab: trying once more")
        machine = _boot(image, tree, append)
    try:
        yield machine
    finally:
        end(machine.process)


def _boot(image: Image, tree: int | None, append: str) -> Machine:
    limit = boot_limit()
    port = _free_port()
    kind = "hardware" if accelerator() == HARDWARE else "emulation"
    with Step(f"booting the machine ({kind})", limit):
        process = subprocess.Popen(
            bound(command(image, port, append, tree)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=() if tree is None else (tree,),
            start_new_session=True,  # we handle an interrupt from the terminal
        )
        try:
            machine = Machine(image, process, Console(process), port)
            _await(machine, limit)
        except BaseException:
            end(process)
            raise
    return machine


def _await(machine: Machine, limit: float) -> None:
    outcome = machine.console.wait(limit)
    if outcome == "ready":
        return
    if machine.console.holds("Could not set up host forwarding rule"):
        raise PortTaken(f"port {machine.port} was taken")
    if outcome == "hang":
        lines = tail(machine.console.last()) or " none"
        raise BootHang(
            f"the machine did not come up within {seconds(limit)}; the console's last lines:{lines}"
        )
    raise machine.lost("the machine did not come up")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends QEMU by SIGTERM, or by SIGKILL if it takes too long; nothing inside needs saving."""
    process.terminate()
    try:
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
