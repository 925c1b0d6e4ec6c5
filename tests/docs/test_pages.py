"""Every command and program of README.md and docs/*.md does what the page says, in order."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pycontain.cgroup.place import find_mount, own
from pycontain.cgroup.tree import Cgroup
from tests import capabilities
from tests.bundles import TOKEN
from tests.docs.pages import LANGUAGES, PAGES, PROJECT, Example, code, examples, shows

MARK = "---- example"
# In a mount namespace of its own with an empty /run: ids such as "web" may be in use on this host.
BEGIN = "mount -t tmpfs -o mode=755 tmpfs /run; echo $$ > $CGROUP/cgroup.procs; cd $FOLDER"
ENGINES = ("podman ", "buildah ", "docker ", "ctr ", "systemd-run ")
GUESTS = "pycontain vm run "  # they end with a status of their own
NOT_RUN = {"test", "install", "uninstall", "wheel"}  # targets of make, tested on their own


def why_not(example: Example) -> str:
    """What this host has not, but the example needs."""
    text = example.text
    emulates = "--engine emulate" in text
    if text.startswith(("pycontain vm", "pycontain compare")):
        if not emulates and (lack := capabilities.missing("needs_kvm")):
            return lack
        if text.startswith("pycontain compare") and capabilities.missing("needs_bare_kvm"):
            return "minutes, where the processor is emulated"
    if text.startswith(ENGINES):
        return "images and networks: tests/compat runs engines in the integration machine"
    if text.startswith("pip install"):
        return "an environment that may be changed; tests of the wheel have one"
    if emulates and not find_spec("unicorn"):
        return "unicorn"
    return ""


class Shell:
    """A fresh shell of root in a directory like a checkout, whose containers nobody else sees."""

    def __init__(self, folder: Path, cgroup: Cgroup) -> None:
        self.folder = folder
        (folder / ".venv").mkdir()
        (folder / ".venv/.ready").touch()  # newer than what it is made from: make leaves it alone
        for path in (*PROJECT.glob("[!.]*"), *PROJECT.glob(".venv/[!.]*")):
            if path.name not in ("build", "bundle"):
                (folder / path.relative_to(PROJECT)).symlink_to(path)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "CGROUP": cgroup.directory,
            "FOLDER": str(folder),
        }

    def run(self, shown: list[Example]) -> list[tuple[int, str]]:
        """The status and the output of each."""
        script = [BEGIN]
        for number, example in enumerate(shown):
            script += [f"echo '{MARK}'", self._command(number, example), "printf '\\n%s\\n' $?"]
        file = self.folder / "printed"
        with file.open("wb") as printed:
            subprocess.run(
                ["unshare", "--mount", "bash", "-c", "\n".join(script)], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
                timeout=500, check=False,
            )  # fmt: skip
        parts = file.read_text(errors="replace").split(f"{MARK}\n")[1:]
        return [self._outcome(part) for part in parts]

    def _command(self, number: int, example: Example) -> str:
        if example.language == "sh":
            command = example.text.partition("  #")[0].strip()
            target = command.removeprefix("make ")
            return f"make --dry-run {target}" if target in NOT_RUN else example.text
        program = self.folder / f"example{number}.py"
        program.write_text(example.text)
        return f"python {program}"

    def _outcome(self, part: str) -> tuple[int, str]:
        printed, _, status = part.rstrip("\n").rpartition("\n")
        return int(status), printed


def is_right(example: Example, status: int, printed: str) -> bool:
    """Whether an example fails only if the page shows an error, and prints what the page shows."""
    may_fail = example.output.startswith("pycontain: ") or example.text.startswith(GUESTS)
    return (may_fail or status == 0) and shows(example.output or "…", printed)


@pytest.fixture
def shell(tmp_path) -> Iterator[Shell]:
    """A shell in a cgroup of its own, beside which its containers' are made."""
    above = Cgroup(find_mount(), f"{own()}/{TOKEN}-pages".replace("//", "/"))
    cgroup = above.below("shell")
    cgroup.create()
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        yield Shell(Path(folder), cgroup)
    cgroup.clear()
    above.remove()


@pytest.mark.needs_root
@pytest.mark.needs_busybox
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_page_can_be_pasted_into_a_fresh_shell(shell, page):
    shown = [each for each in examples(page.read_text()) if each.language in ("sh", "python")]
    if page.name != "README.md" and shown:  # the other pages say that pycontain is in the path
        shell.environment["PATH"] = f"{PROJECT}/.venv/bin:{os.environ['PATH']}"
    able = [each for each in shown if not why_not(each)]
    wrong = []
    outcomes = shell.run(able)
    for example, (status, printed) in zip(able, outcomes, strict=True):
        if not is_right(example, status, printed):
            wrong.append(f"{example.text}\n  ended with {status} and printed\n{printed}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language_that_is_tested(page):
    assert [line for language, line in code(page.read_text()) if language not in LANGUAGES] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configuration_in_a_page_is_valid(page):
    readers = {"json": json.loads, "toml": tomllib.loads, "yaml": documents, "ini": sections}
    for example in examples(page.read_text()):
        if example.language in readers:
            assert readers[example.language](example.text)


def documents(text: str) -> list[object]:
    """What a YAML text has."""
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(text))


def sections(text: str) -> list[str]:
    """The names of a unit file's sections."""
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser.sections()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_program_is_called_in_one_way(page):
    for example in examples(page.read_text()):
        if example.language == "sh":
            text = re.sub(r"--(runtime|runc-binary) \S+", "", example.text)  # a path is needed
            assert not re.search(r"\S/pycontain |python -m pycontain|sudo ", text)


def test_outputs_are_compared_word_by_word():
    assert shows("a  b\n", "a b\n\n")
    assert shows("a …\n…\nz", "a b\nc\nd\nz\n")
    assert not shows("a\n", "a b\n")
    assert not shows("a … z", "a b")
    assert shows("(1.5) * [x]", "(1.5)   * [x]")


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("```console\n$ echo one; echo two\none\n```\n", (0, "one two")),
        ("```console\n$ x=5\n$ echo $x; false\n5\n```\n", (1, "5")),
        ("```python\nprint(1)  # 2\n```\n", (0, "1")),
        ("```console\n$ pycontain state nobody\n```\n", (1, "pycontain: container = nobody")),
    ],
)
def test_a_page_that_is_wrong_is_noticed(shell, text, outcome):
    shell.environment["PATH"] = f"{PROJECT}/.venv/bin:{os.environ['PATH']}"
    shown = examples(text)
    status, printed = shell.run(shown)[-1]
    assert (status, " ".join(printed.split()[:4])) == outcome
    assert not is_right(shown[-1], status, printed)
