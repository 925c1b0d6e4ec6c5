"""kill, and the signals that `run` forwards."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from pycontain.spec.names import SIGNALS
from tests.bundles import wait_until

# busybox ash traps signals by number; it reports each one and continues
CATCHABLE = sorted({*range(1, 65)} - {9, 19, 32, 33})
CATCHER = f"""
for n in {" ".join(map(str, CATCHABLE))}; do trap "echo got $n" $n; done
echo up
while [ ! -e /tmp/end ]; do sleep .01; done
"""


def spellings() -> list[tuple[str, int]]:
    """Each catchable signal by name, with and without SIG, and by number; real-time signals."""
    found: list[tuple[str, int]] = []
    for name, number in SIGNALS.items():
        if number in CATCHABLE and number != signal.SIGCHLD:
            found += [(name, number), (f"SIG{name}", number), (str(number), number)]
    found += [(name.lower(), number) for name, number in SIGNALS.items() if name == "TERM"]
    found += [("SIGRTMIN", 34), ("RTMIN+3", 37), ("SIGRTMAX", 64), ("RTMAX-2", 62), ("50", 50)]
    return found


@pytest.mark.property("life-cycle 15")
def test_every_spelling_of_every_signal_arrives(runtime, bundle):
    made = bundle(CATCHER)
    id = runtime.started(made)
    runtime.wait_for_text(id, "up")
    wanted: dict[int, int] = {}
    for spelling, number in spellings():
        wanted[number] = wanted.get(number, 0) + 1
        runtime.ok("kill", id, spelling)
        count = wanted[number]
        wait_until(
            lambda number=number, count=count: (
                runtime.printed(id).split("\n").count(f"got {number}") == count
            ),
            f"{spelling} arrives",
        )
    (made.rootfs / "tmp/end").touch()
    runtime.wait_for_status(id, "stopped")


def test_kill_sends_term_by_default(runtime, bundle):
    id = runtime.started(
        bundle("trap 'echo got term; exit' TERM; echo up; while :; do sleep .01; done")
    )
    runtime.wait_for_text(id, "up")
    runtime.ok("kill", id)
    runtime.wait_for_text(id, "got term")


@pytest.mark.parametrize("spelling", ["KILL", "SIGKILL", "9"])
def test_kill_ends_process_1(runtime, bundle, spelling):
    id = runtime.started(bundle("echo up; sleep 100"))
    runtime.ok("kill", id, spelling)
    runtime.wait_for_status(id, "stopped")


@pytest.mark.parametrize(
    "spelling", ["", "SIG", "NOTHING", "SIGSIGTERM", "65", "-1", "9x", "RTMIN+40", "RTMAX-99"]
)
def test_an_invalid_signal_is_refused(runtime, bundle, spelling):
    id = runtime.started(bundle("echo up; sleep 100"))
    assert "signal" in runtime.refuses("kill", id, "--", spelling) or spelling
    assert runtime.state(id)["status"] == "running"


def test_signal_0_only_checks_that_the_process_exists(runtime, bundle):
    id = runtime.started(bundle("echo up; sleep 100"))
    runtime.ok("kill", id, "0")
    assert runtime.state(id)["status"] == "running"


FAMILY = """
sh -c 'trap "echo child got it" USR1; echo ready; while :; do sleep .01; done' &
trap 'echo parent got it' USR1
echo ready
while :; do sleep .01; done
"""


def test_kill_all_reaches_every_process(runtime, bundle):
    id = runtime.started(bundle(FAMILY))
    wait_until(lambda: runtime.printed(id).count("ready") == 2, "both are ready")
    runtime.ok("kill", "--all", id, "USR1")
    runtime.wait_for_text(id, "child got it")
    runtime.wait_for_text(id, "parent got it")


def test_kill_without_all_reaches_only_the_first_process(runtime, bundle):
    id = runtime.started(bundle(FAMILY))
    wait_until(lambda: runtime.printed(id).count("ready") == 2, "both are ready")
    runtime.ok("kill", id, "USR1")
    runtime.wait_for_text(id, "parent got it")
    assert "child got it" not in runtime.printed(id)


def test_kill_all_reaches_the_processes_of_a_stopped_container_without_pids(runtime, bundle):
    made = bundle("sleep 100 & echo up", {"linux.namespaces": [{"type": "mount"}, {"type": "uts"}]})
    id = runtime.started(made)
    runtime.wait_for_status(id, "stopped")
    assert "is stopped" in runtime.refuses("kill", id, "TERM")
    runtime.ok("kill", "--all", id, "KILL")
    runtime.ok("delete", id)


def test_without_a_pid_namespace_sigkill_reaches_every_process(runtime, bundle):
    """In a new one they would end with the first process."""
    shared = {"linux.namespaces": [{"type": "mount"}, {"type": "uts"}]}
    id = runtime.started(bundle("sleep 100 & sleep 100 & echo up; sleep 100", shared))
    runtime.wait_for_text(id, "up")
    runtime.ok("kill", id, "KILL")
    wait_until(lambda: processes(runtime, id) == [], "all have exited")
    left = runtime.started(bundle("sleep 100 & echo up", shared))
    runtime.wait_for_status(left, "stopped")
    assert len(processes(runtime, left)) == 1
    runtime.ok("kill", left, "KILL")
    wait_until(lambda: processes(runtime, left) == [], "what it left has exited")


def processes(runtime, id):
    return json.loads(runtime.ok("ps", "--format", "json", id).out)


def test_delete_kills_the_processes_of_a_container_without_a_pid_namespace(runtime, bundle):
    made = bundle("sleep 100 & echo up", {"linux.namespaces": [{"type": "mount"}, {"type": "uts"}]})
    id = runtime.started(made)
    runtime.wait_for_status(id, "stopped")
    runtime.ok("delete", id)


def test_run_in_the_foreground_leaves_no_process_of_a_container_without_a_pid_namespace(
    runtime, bundle
):
    made = bundle(
        "sleep 100 & sleep 100 & echo up",
        {"linux.namespaces": [{"type": "mount"}, {"type": "uts"}]},
    )
    assert runtime.output(made).out == "up\n"


# --- forwarding ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGWINCH,
        signal.SIGRTMIN + 5,
    ],
)
def test_run_forwards_a_signal(runtime, bundle, number):
    made = bundle(f"trap 'echo got it; exit 7' {int(number)}; echo up; while :; do sleep .01; done")
    command = runtime.command("run", "-b", made.path, runtime.new_id())
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as run:
        assert run.stdout
        assert run.stdout.readline() == b"up\n"
        run.send_signal(number)
        assert run.stdout.read() == b"got it\n"
    assert run.returncode == 7


def test_a_program_killed_by_a_signal_gives_128_plus_its_number(runtime, bundle):
    id = runtime.new_id()
    made = bundle("echo up; sleep 100")
    command = runtime.command("run", "-b", made.path, id)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as run:
        assert run.stdout
        assert run.stdout.readline() == b"up\n"
        runtime.ok("kill", id, "KILL")
    assert run.returncode == 128 + 9


def test_a_runtime_that_is_killed_leaves_a_container_that_can_be_deleted(runtime, bundle):
    id = runtime.new_id()
    command = runtime.command("run", "-b", bundle("echo up; sleep 100").path, id)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as run:
        assert run.stdout
        assert run.stdout.readline() == b"up\n"
        run.kill()
        run.wait()
        runtime.ok("delete", "--force", id)


@pytest.mark.parametrize("name", ["CHLD", "TERM", "PIPE", "INT"])
def test_run_works_for_a_caller_that_ignores_a_signal(runtime, bundle, name):
    made = bundle(
        "grep SigIgn /proc/self/status; exit 3",
        {"hooks": {"createRuntime": [{"path": "/bin/true"}]}},
    )
    command = runtime.command("run", "-b", made.path, runtime.new_id())
    shell = ["sh", "-c", f'trap "" {name}; exec "$@"', "sh"]
    done = subprocess.run(
        [*shell, *command], stdout=subprocess.PIPE, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stdout) == (3, "SigIgn:\t0000000000000000\n")


# --- the program's own signals -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "exec"])
def test_the_program_starts_with_default_signals(runtime, bundle, how):
    show = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"
    if how == "run":
        shown = runtime.output(bundle("", {"process.args": show.replace("'", "").split()})).words
    else:
        id = runtime.started(bundle("sleep 100"))
        shown = runtime.ok("exec", id, *show.replace("'", "").split()).words
    assert [int(word, 16) for word in shown[1::2]] == [0, 0, 0]
