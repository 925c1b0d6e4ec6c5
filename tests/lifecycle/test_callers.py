"""What a command inherits from its caller: signals, environment, working directory."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.needs_root


def ignore_sigchld() -> None:
    """As in programs that let the kernel reap their children."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def test_a_caller_that_ignores_sigchld_gets_the_status(runtime, bundle) -> None:
    assert runtime.run(bundle("exit 9"), preexec_fn=ignore_sigchld).status == 9
    container = runtime.started(bundle("sleep 1000"))
    done = runtime("exec", container, "sh", "-c", "exit 7", preexec_fn=ignore_sigchld)
    assert done.status == 7


def test_hooks_run_for_a_caller_that_ignores_sigchld(runtime, bundle) -> None:
    hooks = {
        "hooks": {"createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]}
    }
    assert runtime.output(bundle("echo ran", hooks), preexec_fn=ignore_sigchld).words == ["ran"]


HOOK = {"path": "/bin/sh", "args": ["sh", "-c", "env >> env"]}


def seen_by_hooks(runtime, bundle, environment: dict[str, str]) -> set[str]:
    """The variables of hooks before and after the program, without those the shell sets."""
    made = bundle("true", {"hooks": {"createRuntime": [HOOK], "poststop": [HOOK]}})
    assert runtime.run(made, env=environment).status == 0
    lines = (made.path / "env").read_text().splitlines()
    return {line for line in lines if line.partition("=")[0] not in ("PWD", "SHLVL", "_", "OLDPWD")}


def test_hooks_have_the_callers_environment_and_no_more(runtime, bundle) -> None:
    """In the C locale, Python sets LC_CTYPE (PEP 538)."""
    given = {"PATH": "/usr/bin:/bin"}
    assert seen_by_hooks(runtime, bundle, given) == {"PATH=/usr/bin:/bin"}
    given["LC_CTYPE"] = "C"
    assert "LC_CTYPE=C" in "\n".join(seen_by_hooks(runtime, bundle, given))


def test_a_naive_program_passes_on_more() -> None:
    code = "import posix; print(posix.environ.get(b'LC_CTYPE'))"
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, check=True)
    assert done.stdout.strip() != b"None"


def test_a_deleted_working_directory_does_not_matter(runtime, bundle, tmp_path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def leave() -> None:
        os.chdir(gone)
        gone.rmdir()

    assert runtime.output(bundle("echo ran"), preexec_fn=leave).words == ["ran"]
