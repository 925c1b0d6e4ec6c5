"""exec: another process, with the same identity as the first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pycontain.kernel.files import start_time
from tests.bundles import CONFIG, wait_until

KINDS = ("bounding", "effective", "permitted", "inheritable", "ambient")
SHOWN = "grep -E '^(Cap|Seccomp|NoNewPrivs|Groups|[UG]id|Sig...:)' /proc/self/status"
PLACES = "cat /proc/self/cgroup | grep ^0; for n in pid net mnt ipc uts cgroup time; do readlink /proc/self/ns/$n; done; hostname; pwd; umask; ulimit -n; cat /proc/self/oom_score_adj"
SLEEP = "echo up; sleep 100"


def sh(text: str) -> list[str]:
    return ["sh", "-c", text]


@pytest.mark.parametrize("uid", [0, 7])
def test_exec_has_the_identity_of_the_first_process(runtime, bundle, uid):
    changes = {
        "process.user": {"uid": uid, "gid": 8, "additionalGids": [9], "umask": 0o027},
        "process.capabilities": dict.fromkeys(KINDS, ["CAP_KILL", "CAP_CHOWN"]),
        "process.cwd": "/tmp",
        "process.rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}],
        "process.oomScoreAdj": 500,
        "linux.namespaces": [
            {"type": kind} for kind in ("pid", "network", "mount", "ipc", "uts", "cgroup", "time")
        ],
        "linux.seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
        },
    }
    id = runtime.started(bundle(f"{SHOWN}; {PLACES}; echo end; sleep 100", changes))
    runtime.wait_for_text(id, "end")
    done = runtime.ok("exec", id, *sh(f"{SHOWN}; {PLACES}; echo end"))
    assert done.out == runtime.printed(id)
    assert "CapEff:\t0000000000000021" in done.out
    assert "NoNewPrivs:\t1" in done.out
    assert "Seccomp:\t2" in done.out


def test_the_filter_applies_to_exec_without_no_new_privileges(runtime, bundle):
    changes = {
        "process.noNewPrivileges": False,
        "linux.seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
        },
    }
    id = runtime.started(bundle(SLEEP, changes))
    out = runtime.ok("exec", id, *sh(SHOWN)).out
    assert "Seccomp:\t2" in out
    assert "NoNewPrivs:\t0" in out


def test_exec_runs_in_the_containers_pid_namespace_and_root(runtime, bundle):
    made = bundle(SLEEP)
    id = runtime.started(made)
    done = runtime.ok(
        "exec", id, *sh("echo $$ $PPID; touch /made; cat /proc/1/cmdline | tr '\\0' ' '")
    )
    pid, parent, *first = done.words
    assert int(pid) > 1
    assert parent == "0"
    assert first == ["sleep", "100"]
    assert (made.rootfs / "made").exists()


@pytest.mark.parametrize(
    ("flags", "script", "words"),
    [
        (["--env", "A=1", "-e", "B=2 3"], "echo $A $B $PATH", "1 2 3 /bin"),
        (["-e", "PATH=/none:/bin"], "echo $PATH", "/none:/bin"),
        (["--cwd", "/etc"], "pwd", "/etc"),
        (["--user", "7"], "id -u; id -g", "7 0"),
        (["--user", "7:8"], "id -u; id -g", "7 8"),
        (["-u", "0:5"], "id -u; id -g", "0 5"),
        (["-g", "10", "-g", "11"], "grep Groups /proc/self/status", "Groups: 10 11"),
        (["--no-new-privs"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs: 1"),
        (["--cap", "CAP_SYS_TIME"], "grep -E 'Cap(Inh|Eff)' /proc/self/status", "CapInh: 0000000000000000 CapEff: 0000000002000001"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_the_flags_of_exec_have_their_effect(runtime, bundle, flags, script, words):
    sets = dict.fromkeys(("bounding", "effective", "permitted"), ["CAP_CHOWN"])
    changes = {"process.capabilities": sets, "process.noNewPrivileges": False}
    id = runtime.started(bundle(SLEEP, changes))
    assert runtime.ok("exec", *flags, id, *sh(script)).words == words.split()


@pytest.mark.parametrize(
    "user", ["root", "7:", ":8", "-1", "7:x", "4294967295", "1e3", " 7", "7 ", "0x7", "7:8:9", "²"]
)
def test_a_user_that_is_not_a_number_is_refused(runtime, bundle, user):
    id = runtime.started(bundle(SLEEP))
    done = runtime("exec", f"--user={user}", id, "true")
    assert done.status == 255
    assert "--user" in done.err


def test_a_number_is_never_looked_up_as_a_user_name(runtime, bundle):
    made = bundle(SLEEP)
    (made.rootfs / "etc/passwd").write_text("1000:x:0:0::/root:/bin/sh\n")
    id = runtime.started(made)
    assert runtime.ok("exec", "-u", "1000", id, "id", "-u").out == "1000\n"


def test_exec_runs_the_process_of_a_file(runtime, bundle):
    made = bundle(SLEEP)
    id = runtime.started(made)
    process = {
        "args": ["sh", "-c", "id -u; pwd; echo $A; grep CapEff /proc/self/status; umask"],
        "cwd": "/etc",
        "env": ["PATH=/bin", "A=b"],
        "user": {"uid": 0, "gid": 0, "umask": 0o077},
        "capabilities": dict.fromkeys(KINDS, ["CAP_KILL"]),
    }
    file = made.path / "process.json"
    file.write_text(json.dumps(process))
    assert runtime.ok("exec", "--process", file, id).words == [
        "0", "/etc", "b", "CapEff:", "0000000000000020", "0077",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "process"),
        ('{"args": ["x"], "cwd": 1}', "process.cwd"),
        ('{"args": [], "cwd": "/"}', "process.args"),
    ],
)
def test_a_bad_process_file_is_named(runtime, bundle, text, words):
    id = runtime.started(bundle(SLEEP))
    file = runtime.folder / "process.json"
    file.write_text(text)
    done = runtime("exec", "-p", file, id)
    assert done.status == 255
    assert f"{file}: {words}" in done.err


# --- exit statuses -------------------------------------------------------------------------------

STATUSES = [
    (["sh", "-c", "exit 0"], 0, ""),
    (["sh", "-c", "exit 42"], 42, ""),
    (["sh", "-c", "kill -KILL $$"], 128 + 9, ""),
    (["sh", "-c", "kill -SEGV $$"], 128 + 11, ""),
    (["nothing"], 127, "executable file not found in $PATH"),
    (["/bin/nothing"], 127, "stat /bin/nothing: no such file or directory"),
    (["/etc/passwd"], 126, "permission denied"),
    (["/etc"], 126, "permission denied"),
    (["/bin/garbage"], 126, "exec format error"),
    (["/bin/script"], 127, "exec /bin/script: no such file or directory: it is a script for /no/such/shell, which does not exist"),
    (["/bin/dos"], 127, "exec /bin/dos: no such file or directory: its first line names /bin/sh\\r, which does not exist"),
]  # fmt: skip


def unusual_programs(rootfs: Path) -> None:
    """Files that cannot be executed, each for a different reason."""
    (rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    programs = {
        "garbage": "garbage",
        "script": "#!/no/such/shell\n",
        "dos": "#!/bin/sh\r\necho\r\n",
    }
    for name, text in programs.items():
        (rootfs / "bin" / name).write_text(text)
        (rootfs / "bin" / name).chmod(0o755)


def test_exec_reports_why_a_program_did_not_run(runtime, bundle):
    made = bundle(SLEEP)
    unusual_programs(made.rootfs)
    id = runtime.started(made)
    for args, status, words in STATUSES:
        done = runtime("exec", id, *args)
        assert (done.status, words in done.err) == (status, True), (args, done)
        assert done.err.count("\n") == bool(words)


def test_run_reports_why_a_program_did_not_run(runtime, bundle):
    made = bundle()
    unusual_programs(made.rootfs)
    for args, status, words in STATUSES:
        if "$$" in args[-1]:
            continue  # process 1 of a pid namespace ignores its own signals
        made.edit({"process.args": args})
        done = runtime.run(made)
        assert (done.status, words in done.err) == (status, True), (args, done)


@pytest.mark.parametrize("args", [["nothing"], ["/bin/nothing"], ["/etc/passwd"]])
def test_create_already_reports_a_program_that_cannot_run(runtime, bundle, args):
    made = bundle("", {"process.args": args})
    unusual_programs(made.rootfs)
    line = runtime.refuses("create", "-b", made.path, runtime.new_id())
    assert "exec: " in line


def test_start_reports_why_the_program_cannot_run_and_leaves_nothing(runtime, bundle):
    made = bundle("", {"process.args": ["/bin/garbage"]})
    unusual_programs(made.rootfs)
    id = runtime.create(made)
    assert "exec format error" in runtime.refuses("start", id)
    assert runtime.ids() == []


def test_an_error_of_exec_itself_has_status_255(runtime, bundle):
    assert runtime("exec", "nobody", "true").status == 255
    id = runtime.create(bundle(SLEEP))
    assert runtime("exec", "--env", "NOVALUE", id, "true").status == 255


def test_exec_works_in_a_created_container(runtime, bundle):
    id = runtime.create(bundle(SLEEP))
    assert runtime.ok("exec", id, "echo", "x").out == "x\n"
    assert runtime.state(id)["status"] == "created"


# --- streams, signals, cgroups -------------------------------------------------------------------


def test_the_standard_streams_of_exec_are_the_callers(runtime, bundle):
    id = runtime.started(bundle(SLEEP))
    command = runtime.command("exec", id, *sh("cat; echo err >&2"))
    done = subprocess.run(command, input=b"in" * 100_000, capture_output=True, check=True)
    assert done.stdout == b"in" * 100_000
    assert done.stderr == b"err\n"


def test_a_detached_exec_writes_its_pid_and_keeps_running(runtime, bundle):
    made = bundle(SLEEP)
    id = runtime.started(made)
    file = made.path / "pid"
    runtime.ok(
        "exec", "--detach", "--pid-file", file, id, *sh("echo $$ >/inner; sleep 100"), name="x"
    )
    pid = int(file.read_text())
    assert pid in json.loads(runtime.ok("ps", "-f", "json", id).out)
    wait_until(lambda: (made.rootfs / "inner").exists(), "the program runs")
    assert Path(f"/proc/{pid}/status").read_text().split("NSpid:")[1].split("\n")[0].split() == [
        str(pid),
        (made.rootfs / "inner").read_text().strip(),
    ]
    runtime.ok("kill", id, "KILL")
    runtime.wait_for_status(id, "stopped")
    wait_until(lambda: start_time(pid) == 0, "it ends with the container")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_exec_forwards_signals(runtime, bundle, number):
    id = runtime.started(bundle(SLEEP))
    script = f"trap 'echo got it; exit 5' {int(number)}; echo up; while :; do sleep .01; done"
    with subprocess.Popen(runtime.command("exec", id, *sh(script)), stdout=subprocess.PIPE) as run:
        assert run.stdout
        assert run.stdout.readline() == b"up\n"
        run.send_signal(number)
        assert run.stdout.read() == b"got it\n"
    assert run.returncode == 5


def test_a_paused_container_is_entered_only_on_request(runtime, bundle):
    id = runtime.started(bundle(SLEEP))
    runtime.ok("pause", id)
    done = runtime("exec", id, "true")
    assert (done.status, "is paused" in done.err) == (255, True)
    command = runtime.command("exec", "--ignore-paused", id, "echo", "ran")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        runtime.ok("resume", id)
        assert run.stdout
        assert run.stdout.read() == b"ran\n"
    assert run.returncode == 0


def test_exec_can_run_in_a_cgroup_below_the_containers(runtime, bundle):
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup2"}
    changes = {
        "mounts": [*CONFIG["mounts"], mount],
        "linux.namespaces": [{"type": kind} for kind in ("pid", "mount", "uts", "cgroup")],
    }
    id = runtime.started(bundle("mkdir /sys/fs/cgroup/sub; " + SLEEP, changes))
    runtime.wait_for_text(id, "up")
    assert (
        runtime.ok("exec", "--cgroup", "sub", id, *sh("grep ^0 /proc/self/cgroup")).out
        == "0::/sub\n"
    )
    done = runtime("exec", "--cgroup", "none", id, "true")
    assert done.status == 255


def test_exec_enters_a_container_without_pid_and_mount_namespaces(runtime, bundle):
    made = bundle(SLEEP, {"linux.namespaces": [{"type": "uts"}], "mounts": []})
    id = runtime.started(made)
    assert runtime.ok("exec", id, "ls", "/").words == ["bin", "dev", "etc", "proc", "sys", "tmp"]


def test_exec_preserves_the_requested_descriptors_alone(runtime, bundle):
    id = runtime.started(bundle(SLEEP))
    file = runtime.folder / "third"
    inner = sh("ls /proc/self/fd; echo hello >&3")
    command = runtime.command("exec", "--preserve-fds", "1", id, *inner)
    shell = ["sh", "-c", 'exec "$@" 3>third 4>fourth', "sh"]
    done = subprocess.run(
        [*shell, *command], stdout=subprocess.PIPE, cwd=runtime.folder, check=True
    )
    assert done.stdout.split() == [b"0", b"1", b"2", b"3", b"4"], "4 is the listing itself"
    assert file.read_text() == "hello\n"


def test_a_process_without_capabilities_gets_the_containers(runtime, bundle, tmp_path):
    sets = dict.fromkeys(("bounding", "effective", "permitted"), ["CAP_KILL"])
    changes = {"process.capabilities": sets, "process.oomScoreAdj": 321}
    container = runtime.started(bundle("sleep 1000", changes))
    look = "grep CapEff /proc/self/status; cat /proc/self/oom_score_adj"
    file = tmp_path / "process.json"
    wanted = {"args": ["sh", "-c", look], "cwd": "/", "env": ["PATH=/bin"]}
    file.write_text(json.dumps(wanted))
    assert runtime.ok("exec", "--process", file, container).words == [
        "CapEff:", f"{1 << 5:016x}", "321",
    ]  # fmt: skip
    none = dict.fromkeys(("bounding", "effective", "permitted"), [])
    file.write_text(json.dumps({**wanted, "capabilities": none, "oomScoreAdj": 5}))
    assert runtime.ok("exec", "--process", file, container).words == ["CapEff:", "0" * 16, "5"]


@pytest.mark.property("process.execCPUAffinity*")
def test_exec_runs_on_the_cpus_that_it_requests(runtime, bundle, tmp_path):
    if os.cpu_count() == 1:
        pytest.skip("needs more than one CPU")
    container = runtime.started(bundle("sleep 1000"))
    file = tmp_path / "process.json"
    wanted = {"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/"}

    def cpus(**affinity):
        file.write_text(json.dumps({**wanted, "execCPUAffinity": affinity}))
        return runtime.ok("exec", "--process", file, container).words[1]

    assert cpus(initial="1") == "1"
    assert cpus(final="1,0-0") == "0-1"
    assert cpus(initial="0", final="1") == "1"
    file.write_text(json.dumps({**wanted, "execCPUAffinity": {"final": "1000"}}))
    refused = runtime.refuses("exec", "--process", file, container)
    assert "process.execCPUAffinity.final = 1000" in refused
    assert "invalid argument" in refused


def test_a_cgroup_above_the_containers_is_refused(runtime, bundle):
    container = runtime.started(bundle("sleep 1000"))
    for path in ("..", "../other", "a/../.."):
        assert "is a bad sub cgroup path" in runtime.refuses(
            "exec", "--cgroup", path, container, "true"
        )


# --- the process that creates the one inside, and exits ------------------------------------------

TAKES_OVER_LATE = """
import os, sys, time
sys.path += {paths!r}
from pycontain.errors import PycontainError
from pycontain.runtime.exec import exec_
from pycontain.options import Options
from pycontain.plan.request import ExecRequest
from pycontain.launch import joined_pids
from pycontain.plan import steps
from pycontain.plan.walk import parent_step
take_over = parent_step.functions[steps.TakeOver]
def delayed(*arguments):
    {delay}
    take_over(*arguments)
parent_step.functions[steps.TakeOver] = delayed
try:
    request = ExecRequest(id={id!r}, args=("sleep", "1000"), detach=True, pid_file={file!r})
    exec_(Options(root={root!r}), request)
except PycontainError as error:
    sys.exit(str(error))
"""


def enter(runtime, container, file, delay):
    """Start `sleep 1000` in a container; `delay` runs before its process is taken over."""
    paths = [path for path in sys.path if path]
    root = str(runtime.root)
    code = TAKES_OVER_LATE.format(paths=paths, root=root, id=container, file=str(file), delay=delay)
    quiet = subprocess.DEVNULL  # not a pipe: the detached process would keep its other end open
    with (file.parent / "said").open("w+") as said:
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=False,
            stdin=quiet,
            stdout=quiet,
            stderr=said,
            timeout=60,
        )
        said.seek(0)
        return done.returncode, said.read()


def programs(runtime, container):
    return [line for line in runtime.ok("ps", container).lines if line.endswith("sleep 1000")]


def test_the_pid_of_an_exec_is_right_however_late_it_is_taken_over(runtime, bundle, tmp_path):
    container = runtime.started(bundle("sleep 2000"))
    file = tmp_path / "pid"
    assert enter(runtime, container, file, "time.sleep(0.3)") == (0, "")
    [line] = programs(runtime, container)
    assert file.read_text() == line.split()[1]


def test_a_process_of_exec_that_was_never_taken_over_does_not_run(runtime, bundle, tmp_path):
    container = runtime.started(bundle("sleep 2000"))
    status, _ = enter(runtime, container, tmp_path / "pid", "os.kill(os.getpid(), 9)")
    assert status == -9
    wait_until(lambda: len(runtime.ok("ps", container).lines) == 2, "the process has exited")
    assert not (tmp_path / "pid").exists()
