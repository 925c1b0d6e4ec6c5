"""The lab's command line: `python3 -m vagrant.lab image|run|shell|test|box|vagrant-test`."""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from . import box, run
from .errors import LabError
from .progress import say
from .recipe import PROJECT

NO_MACHINE = 125
"""Exit status when the machine did not boot or was lost; otherwise it is the command's own."""

SHELL_LIMIT = 12 * 3600.0

REPORT = PROJECT / "build" / "reports" / "lab.xml"


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python3 -m vagrant.lab", description=__doc__)
    commands = top.add_subparsers(dest="what", required=True)
    commands.add_parser("image", help="build the image unless it exists")
    one = commands.add_parser("run", help="run a command in a fresh machine")
    one.add_argument("--limit", type=float, default=run.COMMAND_LIMIT, metavar="SECONDS")
    one.add_argument("--report", type=Path, metavar="FILE", help="where to copy $LAB_REPORT")
    one.add_argument("--append", default="", metavar="WORDS", help="kernel parameters to add")
    one.add_argument("argv", nargs="+", metavar="COMMAND")
    commands.add_parser("shell", help="open a shell in a fresh machine")
    tests = commands.add_parser("test", help="run the tests that are marked for the machine")
    tests.add_argument("--limit", type=float, default=run.COMMAND_LIMIT, metavar="SECONDS")
    tests.add_argument("argv", nargs="*", metavar="PYTEST OPTION")
    commands.add_parser("box", help="build the Vagrant box and add it")
    cycle = commands.add_parser("vagrant-test", help="run a Vagrant machine's whole lifecycle")
    cycle.add_argument("argv", nargs="*", metavar="PYTEST OPTION")
    return top


def act(options: argparse.Namespace) -> int:
    """Runs the chosen command; returns the exit status."""
    if options.what == "image":
        say(f"the image is {run.image().disk}")
        return 0
    if options.what == "shell":
        return run.command(["bash", "-l"], limit=SHELL_LIMIT, terminal=True)
    if options.what == "run":
        return run.command(
            options.argv, limit=options.limit, report=options.report, append=options.append
        )
    if options.what == "box":
        box.add()
        return 0
    if options.what == "vagrant-test":
        return box.cycle(options.argv)
    return run.tests(options.argv, limit=options.limit, report=REPORT)


def main() -> int:
    """Runs one command; SIGTERM and SIGHUP clean up as an interrupt does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ended)
    try:
        return act(parser().parse_args())
    except LabError as error:
        say(str(error))
        return NO_MACHINE
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT


def _ended(number: int, _frame: FrameType | None) -> None:
    say(f"ended by {signal.Signals(number).name}")
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
