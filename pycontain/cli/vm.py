"""`pycontain vm` and `pycontain compare`: virtual machines, and how containers compare."""

from __future__ import annotations

import os
import sys

from ..errors import UsageError
from ..kernel.elf import is_elf
from ..lean import jsontext
from ..lean.record import Record
from ..units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..compare.comparison import Comparison
    from ..options import Options
    from ..vm import commands
    from ..vm.trace import Stats
    from ..vm.view import Volume


_TEXT = frozenset((*b"\t\n\r", *range(0x20, 0x7F)))


class VmRequest(Record):
    """The arguments and flags of `pycontain vm`, as the command table describes them."""

    action: str
    what: tuple[str, ...] = ()
    mem: str = ""
    cpus: int = 0
    timeout: str = ""
    root: str = ""
    volume: tuple[str, ...] = ()
    net: str = "none"
    env: tuple[str, ...] = ()
    disk: str = ""
    interactive: bool = False
    trace: bool = False
    stats: bool = False
    engine: str = "kvm"
    format: str = "table"


def vm(_: Options, request: VmRequest) -> str | int:
    """Run a guest or a program, or report what this host's KVM offers."""
    from ..vm import commands
    from ..vm.trace import Stats

    action = request.action
    if action == "caps":
        return _caps(request.format)
    if action != "run":
        raise UsageError("is neither run nor caps", value=action, remedy="see pycontain vm --help")
    stats = Stats()
    try:
        report = _run(request.what, _guest_options(request, stats))
    finally:
        if request.stats and request.format == "table":
            sys.stderr.writelines(f"{row}\n" for row in commands.rows(stats))
    _show_report(report, request.format)
    return report.status


def _guest_options(request: VmRequest, stats: Stats) -> commands.GuestOptions:
    from ..vm.commands import GuestOptions

    return GuestOptions(
        memory=_memory(request.mem),
        cpus=request.cpus,
        timeout=_seconds(request.timeout),
        engine=request.engine,
        disk=request.disk,
        interactive=request.interactive,
        root=request.root,
        volumes=tuple(map(_volume, request.volume)),
        network=request.net,
        environment=request.env,
        stats=stats,
        trace=sys.stderr.write if request.trace else None,
    )


def _show_report(report: commands.Report, format: str) -> None:
    if format == "json":
        sys.stderr.write(jsontext.pretty(report.record()) + "\n")
    if report.unserved and report.status:
        names = ", ".join(sorted(report.unserved))
        sys.stderr.write(f"pycontain: system calls answered with ENOSYS: {names}\n")
    if report.message:
        sys.stderr.write(report.message + "\n")


def _run(what: tuple[str, ...], options: commands.GuestOptions) -> commands.Report:
    """Run a guest's name or a flat binary as a machine, anything else as a command line."""
    from ..vm import commands
    from ..vm.guests import GUESTS

    if not what:
        raise UsageError("is missing", at="what to run", remedy=f"guests: {', '.join(GUESTS)}")
    if what[0] in GUESTS:
        return commands.run_guest(what[0], options)
    if len(what) == 1 and not options.root and not _is_program(what[0]):
        _require_code(what[0])
        return commands.run_guest(what[0], options)
    return commands.run_program(what, options)


def _require_code(path: str) -> None:
    """Raises UsageError for a file of text, which would be executed as machine code."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError:
        return  # the attempt to run it gives the better error
    if start.startswith(b"#!"):
        line = start[2:].splitlines()[0].decode(errors="replace").strip()
        why, remedy = "is a script", f"run its interpreter, if that is static: -- {line} {path}"
    elif start and all(byte in _TEXT for byte in start):
        why, remedy = "is text", "give a static program (ELF), or a flat binary"
    else:
        return
    raise UsageError(why, value=path, remedy=remedy)


def _is_program(path: str) -> bool:
    try:
        if os.path.isfile(path):  # opening a FIFO would wake the process at its other end
            with open(path, "rb") as file:
                return is_elf(file.read(4))
    except OSError:
        pass  # the attempt to run it gives the better error
    return "/" in path  # no guest name has a slash


def _volume(text: str) -> Volume:
    """HOST:GUEST, HOST:GUEST:ro or HOST:GUEST:rw."""
    from ..vm.view import Volume

    paths, mode = (text[:-3], text[-2:]) if text.endswith((":ro", ":rw")) else (text, "ro")
    host, _, guest = paths.rpartition(":")
    if not host or not guest.startswith("/"):
        raise UsageError(
            "is not HOST:GUEST[:ro|rw] with an absolute GUEST", at="--volume", value=text
        )
    return Volume(host=host, guest=guest, writable=mode == "rw")


def _memory(text: str) -> int:
    """Bytes, 0 for the default."""
    number = size(text, "--mem") if text else 0
    if text and not number:
        raise UsageError("is no memory at all", at="--mem", value=text)
    return number


def _seconds(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise UsageError("is not a number of seconds", at="--timeout", value=text) from None


def _caps(format: str) -> str:
    from ..vm import commands

    report = commands.caps()
    if format == "json":
        return jsontext.pretty(report.record())
    head = f"{report.device}: API version {report.api_version}, {report.assistance.kind}"
    properties = {**report.limits, **report.extensions}
    return "\n".join([head, *(f"{name:28} {value}" for name, value in properties.items())])


def compare(
    _: Options, *, program: tuple[str, ...], runs: int, html: str, format: str
) -> str | None:
    """Run a program in every environment; a table, JSON, and a page with charts."""
    from rich.console import Console
    from rich.progress import Progress

    from ..compare import comparison, page

    shown = sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task("")
        result = comparison.compare(
            program,
            runs,
            lambda done, total, what: bar.update(
                task, completed=done, total=total, description=what
            ),
        )
    if html:
        page.write(result, os.path.abspath(html))
    if format == "json":
        return jsontext.pretty(result.record())
    _show(result)
    return None


def _show(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..compare.commands import rows

    head, *body = rows(comparison)
    caption = f"{comparison.runs} runs each, interleaved; /dev/kvm: {comparison.engine}"
    table = Table(*head, caption=caption, caption_justify="left")
    for row in body:
        table.add_row(*row)
    Console().print(table)
