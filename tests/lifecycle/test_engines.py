"""What Podman, conmon, containerd and Docker actually call, and what they read in the answers."""

from __future__ import annotations

import array
import json
import os
import re
import select
import shlex
import socket
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from pycontain.lean import archive
from tests.bundles import CONFIG, LIMIT, Runtime, wait_until

SLEEP = "echo up; sleep 100"
TO_PODMAN_NOT_FOUND = re.compile(
    "executable file not found in|no such file or directory|open executable", re.I
)
TO_PODMAN_NOT_PERMITTED = re.compile("permission denied|operation not permitted", re.I)

NOBODY = "container = nobody does not exist"


class Engine:
    """An engine: global flags as conmon and go-runc pass them, and the log they read."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.path = runtime.folder / "log.json"

    def __call__(self, *words: str | Path, **how: object):
        flags = ["--debug=false", "--log", self.path, "--log-format=json", "--rootless=false"]
        return self.runtime(*flags, *words, **how)

    def log(self) -> list[dict[str, str]]:
        """The entries; every line must be JSON."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def engine(runtime: Runtime) -> Engine:
    return Engine(runtime)


def test_the_lifecycle_of_a_podman_container(engine, bundle):
    made, id = (
        bundle("trap 'exit 143' TERM; echo up; while :; do sleep .01; done"),
        engine.runtime.new_id(),
    )
    pid_file = made.path / "pid"
    done = engine(
        "create", "--bundle", made.path, "--pid-file", pid_file, "--no-new-keyring", id, name=id
    )
    assert done.status == 0, done
    pid = int(pid_file.read_text())
    assert json.loads(engine("state", id).out)["pid"] == pid
    assert engine("start", id).status == 0
    engine.runtime.wait_for_text(id, "up")
    assert engine("pause", id).status == engine("resume", id).status == 0
    assert engine("kill", id, "15").status == 0
    engine.runtime.wait_for_status(id, "stopped")
    assert engine("delete", "--force", id).status == 0
    assert engine.log() == []


def test_the_pid_file_is_written_atomically_and_kept_after_the_end(runtime, bundle):
    made = bundle("true")
    file = made.path / "pid"
    file.write_text("of an earlier container")
    runtime.output(made, "--pid-file", file)
    assert file.read_text().isdecimal()
    assert sorted(path.name for path in made.path.iterdir()) == ["config.json", "pid", "rootfs"]


def test_a_create_that_fails_leaves_no_pid_file(runtime, bundle):
    made = bundle(SLEEP, {"hooks": {"prestart": [{"path": "/bin/false"}]}})
    runtime.refuses("create", "-b", made.path, "--pid-file", made.path / "pid", runtime.new_id())
    assert not (made.path / "pid").exists()


def test_a_pid_file_that_cannot_be_written_is_named(runtime, bundle):
    line = runtime.fails(bundle(SLEEP), "--pid-file", "/does/not/exist/pid")
    assert "/does/not/exist/pid does not exist" in line


def test_a_pidfd_of_the_process_is_sent(runtime, bundle):
    path = runtime.folder / "pidfd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(LIMIT)
        id = runtime.started(bundle(SLEEP), "--pidfd-socket", path)
        connection, _ = listener.accept()
    with connection:
        fds = array.array("i")
        _, [(_, _, data)], _, _ = connection.recvmsg(10, socket.CMSG_SPACE(fds.itemsize))
        fds.frombytes(data)
    pid = runtime.state(id)["pid"]
    assert f"Pid:\t{pid}\n" in Path(f"/proc/self/fdinfo/{fds[0]}").read_text()
    runtime.ok("kill", id, "KILL")
    assert select.select([fds[0]], [], [], LIMIT)[0]
    os.close(fds[0])


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_run_and_exec_send_a_pidfd_too(runtime, bundle, verb):
    path = runtime.folder / "pidfd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(LIMIT)
        flags = ("--detach", "--pid-file", runtime.folder / "pid", "--pidfd-socket", path)
        if verb == "run":
            id = runtime.new_id()
            runtime.ok("run", *flags, "-b", bundle(SLEEP).path, id, name=id)
        else:
            id = runtime.started(bundle(SLEEP))
            runtime.ok("exec", *flags, id, "sleep", "100", name=f"{id}-exec")
        connection, _ = listener.accept()
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 10, 2)
    pid = (runtime.folder / "pid").read_text()
    assert f"Pid:\t{pid}\n" in Path(f"/proc/self/fdinfo/{fds[0]}").read_text()
    os.close(fds[0])


ORPHAN = """
mkfifo /tmp/go /tmp/done
(sh -c 'read x </tmp/go; cut -d" " -f4 /proc/$$/stat; echo >/tmp/done' &)
echo >/tmp/go
read x </tmp/done
"""


@pytest.mark.parametrize("flags", [(), ("--no-subreaper",)], ids=["subreaper", "none"])
def test_orphans_become_children_of_run_unless_it_is_told_otherwise(runtime, bundle, flags):
    """In a container without a pid namespace; in one with, its first process gets them."""
    spaces = [{"type": kind} for kind in ("mount", "ipc", "uts", "network")]
    made = bundle(ORPHAN, {"linux.namespaces": spaces})
    words = runtime.command("run", *flags, "--bundle", made.path, runtime.new_id())
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as run:
        parent = int(run.stdout.read())
    assert run.returncode == 0
    assert (parent == run.pid) is (flags == ())


# --- the log -------------------------------------------------------------------------------------


def broken(bundle, kind: str):
    """A bundle that fails, and text from the reason."""
    if kind == "spec":
        return bundle("", {"process.cwd": "x"}), "process.cwd"
    if kind == "hook":
        made = bundle("")
        hook = made.script("hook", "printf 'two\\nlines \"quoted\" \\377\\n' >&2; exit 1")
        made.edit({"hooks": {"createRuntime": [{"path": str(hook)}]}})
        return made, 'two | lines "quoted"'
    if kind == "mount":
        return bundle("", {"mounts": [{"destination": "/x", "type": "none"}]}), "mounts[0]"
    return bundle("", {"process.args": ["not\nthere"]}), "executable file not found in $PATH"


@pytest.mark.parametrize("kind", ["spec", "hook", "mount", "program"])
def test_an_error_is_one_line_of_json_in_the_log(engine, bundle, kind):
    made, words = broken(bundle, kind)
    done = engine("create", "--bundle", made.path, engine.runtime.new_id())
    assert done.status != 0
    [entry] = engine.log()
    assert entry["level"] == "error"
    assert words in entry["msg"]
    assert "\n" not in entry["msg"]
    assert datetime.fromisoformat(entry["time"]).tzinfo
    assert entry["msg"] in done.err


def test_errors_of_several_commands_are_appended(engine):
    for _ in range(3):
        engine("state", "nobody")
    messages = [entry["msg"] for entry in engine.log()]
    assert [text.partition(";")[0] for text in messages] == [NOBODY] * 3


def test_warnings_are_written_to_the_log(engine, bundle):
    made = bundle("true", {"hooks": {"poststop": [{"path": "/bin/false"}]}})
    sets = dict.fromkeys(("bounding", "effective", "permitted"), ["CAP_MADE_UP"])
    made.edit({"process.capabilities": sets})
    done = engine("run", "--bundle", made.path, engine.runtime.new_id())
    assert done.status == 0
    entries = engine.log()
    assert [entry["level"] for entry in entries] == ["warning", "warning"]
    assert "CAP_MADE_UP" in entries[0]["msg"]
    assert "error running poststop hook #0: /bin/false" in entries[1]["msg"]


def test_without_a_file_json_goes_to_standard_error(runtime):
    done = runtime("--log-format", "json", "state", "nobody")
    assert json.loads(done.err)["msg"].partition(";")[0] == NOBODY


@pytest.mark.parametrize(
    ("args", "status"),
    [(["nothing"], 127), (["/bin/nothing"], 127), (["/etc/plain"], 126), (["/etc"], 126)],
)
def test_podman_recognizes_why_the_program_cannot_be_executed(engine, bundle, args, status):
    made = bundle("", {"process.args": args})
    (made.rootfs / "etc/plain").touch()
    engine("create", "--bundle", made.path, engine.runtime.new_id())
    [entry] = engine.log()
    pattern = TO_PODMAN_NOT_FOUND if status == 127 else TO_PODMAN_NOT_PERMITTED
    assert pattern.search(entry["msg"])


MISSING = [
    {"root.path": "/does/not/exist"},
    {"mounts[0].source": "/does/not/exist", "mounts[0].options": ["bind"]},
    {"linux.namespaces[0].path": "/does/not/exist"},
    {"hooks": {"createRuntime": [{"path": "/does/not/exist"}]}},
    {"linux.sysctl": {"net.ipv4.none": "1"}},
    {"linux.resources.unified": {"memory.nothing": "1"}},
]


@pytest.mark.parametrize("changes", MISSING, ids=lambda changes: next(iter(changes)))
def test_no_other_missing_file_is_taken_for_the_program(engine, bundle, changes):
    made = bundle("", changes)
    engine("create", "--bundle", made.path, engine.runtime.new_id())
    [entry] = engine.log()
    assert not TO_PODMAN_NOT_FOUND.search(entry["msg"]), entry["msg"]


def test_engines_can_read_version_and_features(runtime):
    assert re.match(r"pycontain version \S+\nspec: 1\.\d+\.\d+", runtime.ok("--version").out)
    features = json.loads(runtime.ok("features").out)
    assert {"ociVersionMin", "ociVersionMax", "hooks", "mountOptions"} <= features.keys()
    assert "rro" in features["mountOptions"]


# --- descriptors ---------------------------------------------------------------------------------


@pytest.mark.property("life-cycle 18")
def test_only_the_standard_streams_are_open(runtime, bundle):
    shell = ["sh", "-c", 'exec "$@" 3>three 4>four 9>nine', "sh"]
    made = bundle("ls /proc/self/fd")
    command = runtime.command("run", "-b", made.path, runtime.new_id())
    done = subprocess.run(
        [*shell, *command], cwd=made.path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "1", "2", "3"], "3 is the listing itself"


def test_preserved_descriptors_are_open_and_no_more(runtime, bundle):
    shell = ["sh", "-c", 'exec "$@" 3>three 4>four 5>five 9>nine', "sh"]
    made = bundle("ls /proc/self/fd; echo hello >&3; echo hello >&4")
    command = runtime.command("run", "-b", made.path, "--preserve-fds", "2", runtime.new_id())
    done = subprocess.run(
        [*shell, *command], cwd=made.path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "1", "2", "3", "4", "5"]
    assert [(made.path / name).read_text() for name in ("three", "four")] == ["hello\n"] * 2


def test_sockets_of_systemd_are_passed_on(runtime, bundle):
    """sd_listen_fds(3): the sockets come first, then what --preserve-fds adds."""
    made = bundle("echo $LISTEN_FDS $LISTEN_PID $$; readlink /proc/$$/fd/3; cat <&4")
    (made.path / "extra").write_text("extra\n")
    command = runtime.command("run", "-b", made.path, "--preserve-fds", "1", runtime.new_id())
    activate = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh", *command]
    with socket.socket(socket.AF_UNIX) as listener, (made.path / "extra").open() as extra:
        at_three = f'exec 3<&{listener.fileno()} 4<&{extra.fileno()}; exec "$@"'
        done = subprocess.run(
            ["bash", "-c", at_three, "bash", *activate],
            pass_fds=[listener.fileno(), extra.fileno()],
            capture_output=True, text=True, check=False, timeout=LIMIT,
        )  # fmt: skip
    assert re.fullmatch(r"1 1 1\nsocket:\[\d+\]\nextra\n", done.stdout), done


def test_sockets_that_are_not_open_are_named(runtime, bundle):
    command = runtime.command("run", "-b", bundle().path, runtime.new_id())
    activate = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh", *command]
    done = subprocess.run(activate, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.returncode == 1
    assert done.stderr == "pycontain: LISTEN_FDS = 1 includes descriptor 3, which is not open\n"


def test_sockets_for_another_process_are_not_passed_on(runtime, bundle):
    made = bundle("echo $LISTEN_FDS$LISTEN_PID; ls /proc/self/fd | wc -l")
    environment = {**os.environ, "LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert runtime.output(made, env=environment).words == ["4"]


def test_preserved_descriptors_survive_create_and_start(runtime, bundle):
    made = bundle("echo hello >&3; echo up; sleep 100")
    id = runtime.new_id()
    shell = ["sh", "-c", 'exec "$@" 3>three >out', "sh"]
    command = runtime.command("create", "-b", made.path, "--preserve-fds", "1", id)
    subprocess.run([*shell, *command], cwd=made.path, check=True)
    runtime.ok("start", id)
    while (made.path / "out").read_text() != "up\n":
        assert runtime.state(id)["status"] == "running"
    assert (made.path / "three").read_text() == "hello\n"


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_give_no_access_to_other_files(runtime, bundle, streams):
    """A descriptor that the runtime opens must not end up as the program's 0, 1 or 2."""
    made = bundle("ls -l /proc/self/fd >/out")
    command = runtime.command("run", "-b", made.path, runtime.new_id())
    shell = ["sh", "-c", f'"$@" {streams}', "sh", *command]
    subprocess.run(shell, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    links = dict(re.findall(r"(\d+) -> (\S+)", (made.rootfs / "out").read_text()))
    links.pop("1")
    for number in {"0", "2"} & links.keys():
        assert links[number] == "/dev/null" or links[number].startswith("pipe:"), links


def test_standard_input_reaches_the_program(runtime, bundle):
    command = runtime.command("run", "-b", bundle("cat").path, runtime.new_id())
    done = subprocess.run(command, input=b"in" * 100_000, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"in" * 100_000


# --- special cases -------------------------------------------------------------------------------


def test_our_own_descriptors_are_not_preserved(runtime, bundle):
    """If the caller has no descriptor 3, it is one of ours: code that root runs."""
    made = bundle("echo EVIL >>/proc/self/fd/3")
    for count in ("1", "-1"):
        assert "--preserve-fds" in runtime.fails(made, "--preserve-fds", count)


def test_with_a_closed_stream_no_file_of_ours_is_given_to_the_user(runtime, bundle):
    code = Path(archive.file())
    owner = code.stat().st_uid
    made = bundle("true", {"process.user": {"uid": 1234, "gid": 0}})
    command = runtime.command("run", "-b", made.path, runtime.new_id())
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], check=True)
    assert code.stat().st_uid == owner


def test_a_foreground_run_survives_the_deletion_of_its_container(runtime, bundle):
    id = runtime.new_id()
    made = bundle("", {"process.args": ["sleep", "100"]})
    made.script("stop", f"echo stopped >> {made.path}/seen")
    made.edit({"hooks.poststop": [{"path": f"{made.path}/stop"}]})
    with subprocess.Popen(
        runtime.command("run", "-b", made.path, id), stderr=subprocess.PIPE, text=True
    ) as running:
        wait_until(lambda: id in runtime.ids() and runtime.state(id)["status"] == "running", id)
        runtime.ok("delete", "--force", id)
        assert (running.wait(LIMIT), running.stderr.read()) == (137, "")
    assert (made.path / "seen").read_text() == "stopped\n"


def test_a_signal_for_a_stopped_container_fails_in_terms_containerd_knows(runtime, bundle):
    id = runtime.started(bundle("true"))
    runtime.wait_for_status(id, "stopped")
    assert "container not running" in runtime.refuses("kill", id, "TERM")


def test_a_poststart_hook_may_use_the_container(runtime, bundle):
    made = bundle("", {"process.args": ["sleep", "100"]})
    id = runtime.new_id()
    made.script("pause", shlex.join(map(str, runtime.command("pause", id))))
    made.edit({"hooks.poststart": [{"path": f"{made.path}/pause", "timeout": 20}]})
    runtime.ok("create", "-b", made.path, id, name=id)
    runtime.ok("start", id)
    assert runtime.state(id)["status"] == "paused"


def test_a_pid_file_that_cannot_be_written_leaves_nothing(runtime, bundle):
    made = bundle("true")
    before = sorted(os.listdir(made.path))
    (made.path / "taken").mkdir()
    assert "taken" in runtime.fails(made, "--pid-file", made.path / "taken")
    assert sorted(os.listdir(made.path)) == sorted([*before, "taken"])


@pytest.mark.parametrize("new_privileges", [True, False])
def test_a_filter_need_not_allow_what_the_runtime_uses(runtime, bundle, new_privileges):
    """A profile from before openat2 and close_range, as old engines still write it."""
    refused = {"names": ["openat2", "close_range"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}
    changes = {"linux.seccomp": profile, "process.noNewPrivileges": not new_privileges}
    assert runtime.output(bundle("echo up $HOME", changes)).out == "up /\n"


def test_exec_enters_a_container_that_subdivides_its_cgroup(runtime, bundle):
    mounts = [*CONFIG["mounts"],
              {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]  # fmt: skip
    made = bundle(
        "cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs &&"
        " echo +hugetlb >cgroup.subtree_control && echo up; sleep 100",
        {
            "mounts": mounts,
            "linux.namespaces": [*CONFIG["linux"]["namespaces"], {"type": "cgroup"}],
        },
    )
    id = runtime.started(made)
    runtime.wait_for_text(id, "up")
    assert runtime.ok("exec", id, "grep", "0::", "/proc/self/cgroup").out == "0::/init\n"
