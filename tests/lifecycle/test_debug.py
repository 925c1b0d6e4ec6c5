"""--debug: what each command tells, on standard error and in the log, in lines that tools parse."""

from __future__ import annotations

import json
import re

import pytest

SLEEPER = {"process.args": ["sleep", "100"]}
LINE = re.compile(r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level=(\w+) msg=(".*")')


def messages(text: str) -> list[str]:
    """The messages of a log in text form, each line of which must be runc's."""
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [json.loads(match[2]) for match in found if match]


def seccomp(flags: list[str]) -> dict[str, object]:
    return {"linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}}


@pytest.mark.parametrize("hooked", [False, True], ids=["vfork", "fork"])
def test_debug_logs_each_step_of_both_sides_of_run(runtime, bundle, hooked):
    made = bundle("true", seccomp(["SECCOMP_FILTER_FLAG_LOG"]))
    hook = made.script("hook", "exit 0")
    if hooked:
        made.edit({"hooks.createContainer": [{"path": str(hook)}]})
    done = runtime("--debug", "run", "-b", made.path, runtime.new_id())
    said = messages(done.err)
    steps = [line for line in said if line.startswith(("parent: ", "child: "))]
    assert any("seccomp filter flags: 2" in line for line in steps)
    assert any(line.startswith("child: pivot: ") for line in steps)
    assert any(line.startswith("parent: spawn: ") for line in steps)
    assert all(re.search(r"; \d+ us\)$", line) for line in steps)
    assert any(line.startswith("seal: the interpreter is ") for line in said)
    assert any(line.startswith("cgroup: /") for line in said)


def test_debug_logs_the_steps_before_a_failure(runtime, bundle):
    made = bundle("", {"process.args": ["nope"]})
    done = runtime("--debug", "run", "-b", made.path, runtime.new_id())
    said = messages(done.err)
    assert any(line.startswith("child: pivot: ") for line in said)
    assert "executable file not found" in said[-1]


def test_debug_logs_the_actions_of_every_command(runtime, bundle):
    id = runtime.create(bundle("", SLEEPER))
    told = {
        "start": "its program runs", "state": "phase created", "ps": "cgroup /",
        "pause": "process ", "resume": "process ", "events --stats": "process ",
        "exec": "child: user: become uid 0", "kill": "signal 9 to process", "delete": "state",
    }  # fmt: skip
    for name, wanted in told.items():
        command = [*name.split(), id]
        command += {"exec": ["true"], "kill": ["KILL"]}.get(name, [])
        if name == "delete":
            runtime.wait_for_status(id, "stopped")
        said = messages(runtime("--debug", *command).err)
        assert len(said) >= 2, name
        assert any(wanted in line for line in said), (name, said)


def test_with_a_log_the_details_of_debug_go_to_the_log(runtime, bundle, tmp_path):
    for form in ("text", "json"):
        log = tmp_path / f"{form}.log"
        words = ["--debug", "--log", str(log), "--log-format", form]
        done = runtime(*words, "run", "-b", bundle("true").path, runtime.new_id())
        assert (done.status, done.err) == (0, "")
        lines = log.read_text().splitlines()
        said = (
            messages(log.read_text()) if form == "text" else [json.loads(x)["msg"] for x in lines]
        )
        assert any(line.startswith("child: ") for line in said)


def test_without_debug_no_details_are_logged(runtime, bundle):
    runtime.output(bundle("true"))
