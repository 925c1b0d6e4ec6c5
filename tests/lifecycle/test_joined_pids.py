"""
A container in a pid namespace with other processes, as in a pod whose containers share one.

The process of its program is created there at the end (`init.joined_pids`), and must not differ
otherwise. The attacks on it are in tests/security/test_first_process_is_closed.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import pycontain
from pycontain.kernel.files import start_time
from pycontain.options import Options
from tests.bundles import LIMIT, wait_until
from tests.lifecycle.test_terminal import console_socket, read_until, receive

pytestmark = pytest.mark.needs_root

SLEEP = "echo up; exec sleep 100"
FILTER = {"defaultAction": "SCMP_ACT_ALLOW"}
NO_MKDIR = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]


@pytest.fixture
def pod(shared_mounts):
    """The pid of a process with a pid namespace, as a pod's pause container has one."""
    keeper = subprocess.Popen(
        ["unshare", "--fork", "--pid", "--kill-child", "sh", "-c", "echo up; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert keeper.stdout.readline() == b"up\n"
    yield int(Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text())
    keeper.stdin.close()
    keeper.wait()
    keeper.stdout.close()


@pytest.fixture
def joined(bundle, pod):
    """Creates bundles in the pod's pid namespace: joined(script, {JSON path: value})."""
    others = ({"type": kind} for kind in ("mount", "uts", "ipc", "network"))
    namespaces = [{"type": "pid", "path": f"/proc/{pod}/ns/pid"}, *others]

    def make(script="", changes=None):
        return bundle(script, {"linux.namespaces": namespaces, **(changes or {})})

    return make


def inner_pid(pid):
    """(namespace, the pid there) of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    number = re.search(r"NSpid:.*\t(\d+)\n", status)
    return os.readlink(f"/proc/{pid}/ns/pid"), int(number[1])


# --- the process ---------------------------------------------------------------------------------


def test_the_recorded_process_is_the_program_before_and_after_start(runtime, joined, pod):
    file = runtime.folder / "pid"
    container = runtime.create(joined(f"echo $$; {SLEEP}"), "--pid-file", file)
    pid = runtime.state(container)["pid"]
    assert int(file.read_text()) == pid
    namespace, inside = inner_pid(pid)
    assert namespace == os.readlink(f"/proc/{pod}/ns/pid")
    began = start_time(pid)
    runtime.ok("start", container)
    runtime.wait_for_text(container, "up")
    assert runtime.state(container)["pid"] == pid
    assert runtime.printed(container).split() == [str(inside), "up"]
    assert (start_time(pid), Path(f"/proc/{pid}/comm").read_text()) == (began, "sleep\n")


def test_no_other_process_of_the_runtime_is_left(runtime, joined):
    container = runtime.create(joined(SLEEP))
    pid = runtime.state(container)["pid"]
    assert json.loads(runtime.ok("ps", "-f", "json", container).out) == [pid]
    runtime.ok("start", container)
    assert json.loads(runtime.ok("ps", "-f", "json", container).out) == [pid]


def test_the_program_leads_a_session_of_its_own(runtime, joined):
    stat = runtime.output(joined("cat /proc/self/stat; cat /proc/$$/stat")).lines[1]
    pid, _, _, _, group, session, terminal = stat.split()[:7]
    assert (group, session, terminal) == (pid, pid, "0")


def test_proc_shows_the_namespace_that_is_joined(runtime, joined):
    made = joined("ls -d /proc/[0-9]*; cat /proc/1/cmdline")
    shown = runtime.output(made).out
    assert "/proc/1\n" in shown
    assert shown.endswith("cat\0")


@pytest.mark.parametrize("signal_", ["KILL", "TERM"])
def test_a_created_container_can_be_killed(runtime, joined, signal_):
    container = runtime.create(joined("true"))
    runtime.ok("kill", container, signal_)
    runtime.wait_for_status(container, "stopped")
    assert "is stopped" in runtime.refuses("start", container)
    runtime.ok("delete", container)


def test_a_container_that_joins_pids_can_be_deleted_before_start(runtime, joined):
    container = runtime.create(joined("true"))
    pid = runtime.state(container)["pid"]
    runtime.ok("delete", "--force", container)
    assert start_time(pid) == 0


def test_exec_enters_joined_pids_before_and_after_start(runtime, joined):
    container = runtime.create(joined(SLEEP))
    namespace = os.readlink(f"/proc/{runtime.state(container)['pid']}/ns/pid")
    look = ("exec", container, "readlink", "/proc/self/ns/pid")
    assert runtime.ok(*look).out.strip() == namespace
    runtime.ok("start", container)
    assert runtime.ok(*look).out.strip() == namespace


def test_the_joined_pid_namespace_can_be_the_callers_own(runtime, bundle):
    """Named by a path, it is joined, although nothing changes."""
    listed = [{"type": "pid", "path": "/proc/self/ns/pid"}, {"type": "mount"}, {"type": "uts"}]
    made = bundle("readlink /proc/self/ns/pid", {"linux.namespaces": listed})
    assert runtime.output(made).out.strip() == os.readlink("/proc/self/ns/pid")


def test_a_pid_namespace_is_joined_without_a_mount_namespace(runtime, bundle, pod):
    listed = [{"type": "pid", "path": f"/proc/{pod}/ns/pid"}, {"type": "uts"}]
    made = bundle("ls /", {"linux.namespaces": listed, "mounts": []})
    assert runtime.output(made).words == ["bin", "dev", "etc", "proc", "sys", "tmp"]


# --- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -KILL $$", 137)])
def test_the_exit_status_is_the_programs(runtime, joined, script, status):
    assert runtime.run(joined(script)).status == status


GARBAGE = {
    "garbage": ("garbage", "exec format error: it is neither ELF nor a script with #!"),
    "script": (
        "#!/no/such/shell\n",
        "no such file or directory: it is a script for /no/such/shell",
    ),
    "none": ("", "exec format error"),
}


@pytest.mark.parametrize(("text", "words"), GARBAGE.values(), ids=GARBAGE)
def test_a_program_that_cannot_be_executed_is_explained(runtime, joined, text, words):
    made = joined("", {"process.args": ["/bin/broken"]})
    (made.rootfs / "bin/broken").write_text(text)
    (made.rootfs / "bin/broken").chmod(0o755)
    assert words in runtime.fails(made)
    container = runtime.create(made)
    line = runtime.refuses("start", container)
    assert line.startswith("pycontain: execve: exec")
    assert words in line
    assert runtime.ids() == []


def test_arguments_that_are_too_long_are_an_error(runtime, joined):
    made = joined("", {"process.args": ["true", *["x" * 100_000] * 40]})
    assert "argument list too long" in runtime.fails(made)


def test_a_runtime_that_is_killed_leaves_no_process(runtime, joined):
    container = runtime.new_id()
    made = joined("true")
    kill = made.script("kill", "kill -KILL $PPID")
    made.edit({"hooks": {"createRuntime": [{"path": str(kill)}]}})
    assert runtime("create", "--bundle", made.path, container).status == -signal.SIGKILL
    state = runtime.state(container)
    wait_until(lambda: start_time(state["pid"]) == 0, "the child exits")
    runtime.ok("delete", "--force", container)


# --- what the process is -------------------------------------------------------------------------

LOOK = "grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups|[UG]id|Sig...:|Umask)' /proc/self/status; pwd; cat /proc/self/oom_score_adj; cat /proc/self/limits; ionice -p $$; cat /proc/self/personality; ls /proc/self/fd; env"


def test_the_program_in_joined_pids_is_what_it_is_in_its_own(runtime, joined, bundle):
    changes = {
        "process.user": {"uid": 54322, "gid": 6, "additionalGids": [7, 8], "umask": 0o027},
        "process.capabilities": dict.fromkeys(
            ("bounding", "effective", "permitted", "inheritable", "ambient"), ["CAP_KILL"]
        ),
        "process.cwd": "/tmp",
        "process.oomScoreAdj": 300,
        "process.rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60},
            {"type": "RLIMIT_AS", "soft": 1 << 30, "hard": 1 << 31},
            {"type": "RLIMIT_NPROC", "soft": 9, "hard": 10},
        ],
        "process.ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
        "process.env": ["PATH=/bin", "A=b c"],
        "linux.personality": {"domain": "LINUX"},
        "linux.seccomp": {**FILTER, "syscalls": NO_MKDIR},
    }
    own = runtime.output(bundle(LOOK, changes)).out
    assert "Seccomp:\t2" in own
    assert runtime.output(joined(LOOK, changes)).out == own


def test_a_limit_of_processes_does_not_count_the_runtime(runtime, joined):
    """The user's only process: what created it is outside of the namespace, and counted too."""
    one = [{"type": "RLIMIT_NPROC", "soft": 1, "hard": 1}]
    user = {"process.user": {"uid": 54321, "gid": 54321}, "process.rlimits": one}
    made = joined("", {**user, "process.args": ["id", "-u"]})
    assert runtime.output(made).out == "54321\n"


@pytest.mark.parametrize(
    ("scheduler", "seen"),
    [
        ({"policy": "SCHED_BATCH", "nice": 5}, r"policy +: +3\nprio +: +125"),
        (
            {"policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            r"policy +: +1\n",
        ),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 10**7, "deadline": 10**8, "period": 10**8},
            r"policy +: +6\n",
        ),
    ],
    ids=lambda value: value["policy"] if isinstance(value, dict) else "",
)
def test_a_scheduling_policy_that_is_not_inherited_is_set_in_joined_pids(
    runtime, joined, scheduler, seen
):
    made = joined("", {"process.args": ["cat", "/proc/self/sched"]})
    made.edit({"process.scheduler": scheduler, "process.user": {"uid": 5, "gid": 5}})
    assert re.search(seen, runtime.output(made).out)


def test_sockets_of_systemd_are_for_the_pid_in_the_joined_namespace(runtime, joined):
    made = joined("echo $LISTEN_PID $$ $LISTEN_FDS; ls /proc/self/fd | tail -n1")
    command = runtime.command("run", "--bundle", made.path, runtime.new_id())
    with socket.socket() as listening:
        shell = f'exec 3<&{listening.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        done = subprocess.run(
            ["bash", "-c", shell, "bash", *command],
            pass_fds=[listening.fileno()], capture_output=True, text=True, timeout=LIMIT, check=True,
        )  # fmt: skip
    pid, shell, count, last = done.stdout.split()
    assert (pid, count, last) == (shell, "1", "4"), done


# --- terminals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["create", "run"])
def test_the_terminal_controls_a_program_in_joined_pids(runtime, joined, verb):
    made = joined("trap 'echo interrupted; exit 3' INT; tty; echo up; while :; do sleep .01; done")
    made.edit({"process.terminal": True, "process.user": {"uid": 5, "gid": 5}})
    container = runtime.new_id()
    with console_socket(made.path) as (path, listener):
        words = ["run", "--detach"] if verb == "run" else ["create"]
        runtime.ok(*words, "-b", made.path, "--console-socket", path, container, name=container)
        master, _ = receive(listener)
    if verb == "create":
        runtime.ok("start", container)
    shown = read_until(master, "up")
    assert "/dev/pts/0" in shown
    os.write(master, b"\x03")
    read_until(master, "interrupted")
    os.close(master)
    runtime.wait_for_status(container, "stopped")


# --- the system call filter ----------------------------------------------------------------------

ANY = "SCMP_ACT_ALLOW"
FORBID = {"action": "SCMP_ACT_ERRNO", "errnoRet": 1}
FILTERS = {
    "like Docker's": [
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
         "args": [{"index": 0, "value": 0x2000_0000, "valueTwo": 0x2000_0000,
                   "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ],
    "no clone": [{"names": ["clone", "clone3", "fork", "vfork"], **FORBID}],
    "no madvise": [{"names": ["madvise"], **FORBID}],
    "no setsid": [{"names": ["setsid"], **FORBID}],
}  # fmt: skip


@pytest.mark.parametrize("new_privileges", [False, True], ids=["no new privileges", "new ones"])
@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_forbids_what_enters_is_loaded_all_the_same(
    runtime, joined, name, new_privileges
):
    changes = {
        "process.noNewPrivileges": not new_privileges,
        "process.capabilities": dict.fromkeys(("bounding", "effective", "permitted"), ["CAP_KILL"]),
        "process.user": {"uid": 5, "gid": 5},
        "linux.seccomp": {**FILTER, "syscalls": [*FILTERS[name], *NO_MKDIR]},
        "process.args": [
            "grep",
            "-E",
            "^(Seccomp|NoNewPrivs|CapPrm|CapEff|CapBnd)",
            "/proc/self/status",
        ],
    }
    words = runtime.output(joined("", changes)).words
    found = dict(zip(words[::2], words[1::2], strict=True))
    assert found == {
        "NoNewPrivs:": str(int(not new_privileges)), "Seccomp:": "2", "Seccomp_filters:": "1",
        "CapPrm:": "0" * 16, "CapEff:": "0" * 16, "CapBnd:": f"{1 << 5:016x}",
    }  # fmt: skip


def test_a_created_container_has_its_filter_and_no_more_capabilities_while_it_waits(
    runtime, joined
):
    changes = {
        "process.noNewPrivileges": False,
        "process.capabilities": dict.fromkeys(("bounding", "effective", "permitted"), ["CAP_KILL"]),
        "linux.seccomp": {**FILTER, "syscalls": FILTERS["no clone"]},
    }
    container = runtime.create(joined("", {**changes, "process.args": ["sleep", "100"]}))
    status = Path(f"/proc/{runtime.state(container)['pid']}/status").read_text()
    assert "Seccomp:\t2\n" in status
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{name}:\t{1 << 5:016x}\n" in status
    runtime.ok("start", container)
    assert runtime.state(container)["status"] == "running"


# --- hooks ---------------------------------------------------------------------------------------


def test_hooks_run_in_their_namespaces_when_pids_are_joined(runtime, joined, pod):
    """createContainer hooks have the host's root: they stay where no other container sees them."""
    made = joined("cat /seen; echo $$")
    created = made.script("created", f"cat >{made.rootfs}/created; readlink /proc/self/ns/pid")
    runtime_ = made.script("runtime", f"cat >{made.path}/early")
    start = "cat >/seen; echo >>/seen; readlink /proc/self/ns/pid; echo $0 $1 $X $PPID; id -u"
    made.edit({
        "process.user": {"uid": 0, "gid": 0},
        "hooks": {
            "createRuntime": [{"path": str(runtime_)}],
            "createContainer": [{"path": str(created)}],
            "startContainer": [
                {"path": "/bin/sh", "args": ["sh", "-c", start, "zero", "one"], "env": ["X=y"]},
                {"path": "/bin/true"},
            ],
        },
        "annotations": {"note": "n" * 300},
    })  # fmt: skip
    shown = runtime.output(made).lines
    namespace, words, user, state, pid = shown
    assert namespace == os.readlink(f"/proc/{pod}/ns/pid")
    assert words == f"zero one y {pid}"
    assert user == "0"
    known = json.loads(state)
    assert known["pid"] == int(pid)
    assert known["status"] == "created"
    assert known["annotations"] == {"note": "n" * 300}
    early = json.loads((made.rootfs / "created").read_text())
    assert early["pid"] == json.loads((made.path / "early").read_text())["pid"]
    assert early["pid"] != int(pid)


def test_a_state_larger_than_a_pipe_reaches_hooks(runtime, joined):
    made = joined("wc -c </seen")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "cat >/seen"], "env": ["PATH=/bin"]}
    made.edit({"hooks": {"startContainer": [hook]}, "annotations": {"note": "n" * 100_000}})
    assert int(runtime.output(made).out) > 100_000


HOOKS = {
    "status": ("exit 3", {}, "/bin/sh exited with status 3"),
    "signal": ("kill -TERM $$", {}, "/bin/sh was killed by signal 15"),
    "time": ("sleep 100", {"timeout": 1}, "/bin/sh ran longer than its timeout of 1 s"),
    "missing": ("", {"path": "/none"}, "/none cannot be executed: does not exist"),
}


@pytest.mark.parametrize(("script", "more", "words"), HOOKS.values(), ids=HOOKS)
def test_a_hook_that_fails_keeps_the_program_from_running(runtime, joined, script, more, words):
    made = joined("touch /ran")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], **more}
    made.edit({"hooks": {"startContainer": [{"path": "/bin/true"}, hook]}})
    line = runtime.fails(made)
    assert f"container hooks: error running startContainer hook #1: {words}" in line
    container = runtime.create(made)
    assert words in runtime.refuses("start", container)
    assert not (made.rootfs / "ran").exists()
    assert runtime.ids() == []


# --- the library ---------------------------------------------------------------------------------


@pytest.fixture
def options(tmp_path):
    yield Options(root=str(tmp_path / "library"))
    pycontain.close()


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_the_library_runs_creates_and_enters_containers_with_joined_pids(joined, options):
    pycontain.close()
    before = children()
    assert pycontain.run(joined("echo $PPID").path, options=options).stdout == b"0\n"
    with pycontain.Container(joined(SLEEP).path, options=options) as container:
        container.create()
        assert container.exec(["echo", "x"]).stdout == b"x\n"
        container.start()
        assert container.exec(["cat", "/proc/1/cmdline"]).stdout == b"cat\0"
    pycontain.close()
    assert children() == before


# --- what the runtime believes -------------------------------------------------------------------

FORGES = """
import os, subprocess, sys, time
sys.path += {paths!r}
from pycontain.errors import PycontainError
from pycontain.kernel.bare import SharedPid, Orders
from pycontain.launch.joined_pids import Entrance
from pycontain.options import Options
from pycontain.plan.request import ExecRequest
from pycontain.runtime.exec import exec_
from pycontain.wire import prepared
child = subprocess.Popen(["sleep", "1000"])
time.sleep(0.1)  # start times are in hundredths of seconds
def forged(self, flags):
    SharedPid().number = {victim}
    os.write(self.report, prepared.EXISTS)
    os._exit(0)
Orders.spawn = forged
{patch}
try:
    request = ExecRequest(id={id!r}, args=("sleep", "1000"), detach=True, pid_file="/none/pid")
    exec_(Options(root={root!r}), request)
except PycontainError as error:
    print(error)
print("killed" if child.poll() is not None else "alive")
child.kill()
"""
BELIEVES = "Entrance.check = lambda self, pid: setattr(self, 'pid', 5)"


def forge(runtime, container, victim, patch=""):
    """Let the child of an exec name another process, and the exec fail; returns what it prints."""
    paths, root = [path for path in sys.path if path], str(runtime.root)
    code = FORGES.format(paths=paths, root=root, id=container, victim=victim, patch=patch)
    command = [sys.executable, "-ISc", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def victim():
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def test_a_process_that_the_child_did_not_create_is_not_taken_over(runtime, joined, victim):
    container = runtime.started(joined(SLEEP))
    said = forge(runtime, container, victim.pid)
    assert f"take over: process = {victim.pid} was not created by the child" in said
    assert victim.poll() is None
    said = forge(runtime, container, "child.pid")
    assert "was not created by the child" in said
    assert "alive" in said


def test_a_runtime_that_believes_the_number_kills_a_foreign_process(runtime, joined, victim):
    container = runtime.started(joined(SLEEP))
    said = forge(runtime, container, victim.pid, BELIEVES)
    assert "/none/pid" in said
    assert victim.wait(LIMIT) == -signal.SIGKILL
    assert "killed" in forge(runtime, container, "child.pid", BELIEVES)
