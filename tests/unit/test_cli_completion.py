"""Completion in the real shells: bash and zsh on a terminal, fish by its own command."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pycontain.cli import completion, fast, table

LIMIT = 30.0
SETUP = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config"],
}
READY = {  # zsh's list must come at once, and whole
    "bash": "bind 'set completion-query-items 0'; bind 'set page-completions off';"
    " bind 'set show-all-if-ambiguous on'",
    "zsh": "autoload -U compinit; compinit -u -D; setopt auto_list; LISTMAX=0",
}

LISTING = """\
#!/bin/sh
[ "$*" = "--root {}/state list --quiet" ] && printf "web-1\\nweb-2\\ndb\\n"
"""


@pytest.fixture
def shell(request, tmp_path):
    """Completes a line in a shell, as a function that returns what is shown."""
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is missing")
    script = tmp_path / name
    script.write_text(completion.SHELLS[name]())
    program = tmp_path / "pycontain"
    program.write_text(LISTING.format(tmp_path))
    program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb",
        "COLUMNS": "200", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    if name == "fish":
        return lambda line: by_fish(script, line, environment, tmp_path)
    return lambda line: on_a_terminal(name, script, line, environment, tmp_path)


def by_fish(script, line, environment, folder):
    command = ["fish", "--no-config", "-c", f'source {script}; complete -C "$argv[1]"', line]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=LIMIT,
        check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return {line.partition("\t")[0] for line in done.stdout.splitlines()}


def on_a_terminal(name, script, line, environment, folder):
    """What the shell shows when the user presses the tab key twice at the end of the line."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(name, SETUP[name], environment)
    try:
        os.write(
            terminal, f"PS1=; {READY[name]}; source {script}; stty -echo; echo rea''dy\n".encode()
        )
        until(terminal, "ready\r\n")
        os.write(terminal, f"{line}\t\t".encode())
        shown = until(terminal, None)
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return set(shown.replace("\b", " ").split())


def until(terminal, text):
    """What is shown until this text, or until nothing has come for a second."""
    shown = ""
    end = time.monotonic() + LIMIT
    while text is None or text not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 2 if shown or text is None else LIMIT)[0]:
            shown += os.read(terminal, 1 << 16).decode(errors="replace")
        elif text is None:
            break
    return shown


every_shell = pytest.mark.parametrize("shell", ["bash", "zsh", "fish"], indirect=True)


@every_shell
def test_completion_finds_commands(shell):
    shown = shell("pycontain s")
    assert {"start", "state", "spec", "setup"} <= shown
    assert not {"ps", "kill"} & shown  # nor are they in the descriptions


@every_shell
def test_completion_finds_global_flags_and_those_of_the_command(shell):
    shown = shell("pycontain run --no-")
    assert {"--no-pivot", "--no-new-keyring", "--no-subreaper"} <= shown
    assert {"--log", "--log-format"} <= shell("pycontain --lo")


@every_shell
def test_completion_finds_values_of_flags_and_arguments(shell):
    assert {"table", "json"} <= shell("pycontain list --format ")
    assert {"bash", "zsh", "fish"} <= shell("pycontain --log-format json completion ")


@every_shell
def test_completion_finds_containers_below_the_given_root(shell, tmp_path):
    shown = shell(f"pycontain --root {tmp_path}/state state we")
    assert {"web-1", "web-2"} <= shown
    assert "db" not in shown


@every_shell
def test_completion_finds_directories_for_a_bundle(shell, tmp_path):
    for name in ("bundle-a", "bundle-b"):
        (tmp_path / name).mkdir()
    (tmp_path / "bundle-c").touch()
    shown = {word.rstrip("/") for word in shell("pycontain run --bundle bundle-")}
    assert {"bundle-a", "bundle-b"} <= shown
    assert "bundle-c" not in shown


def test_the_command_completion_prints_the_script(capfd):
    for name, script in completion.SHELLS.items():
        assert fast.main(["completion", name]) == 0
        assert capfd.readouterr().out == script()
    assert fast.main(["completion", "tcsh"]) == 1
    assert "tcsh" in capfd.readouterr().err


@pytest.mark.parametrize("name", completion.SHELLS)
def test_each_completion_script_has_every_command_and_flag(name):
    script = completion.SHELLS[name]()
    for command in table.COMMANDS.values():
        assert command.name in script
        for flag in command.flags:
            assert (f"-l {flag.name} " if name == "fish" else f"--{flag.name}") in script


def test_zsh_finds_the_script_in_a_directory(tmp_path):
    if shutil.which("zsh") is None:
        pytest.skip("zsh is missing")
    (tmp_path / "_pycontain").write_text(completion.SHELLS["zsh"]())
    code = (
        f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; print $_comps[pycontain]"
    )
    done = subprocess.run(["zsh", "-fc", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("_pycontain\n", "")
    assert Path(tmp_path / "_pycontain").read_text().startswith("#compdef pycontain\n")
