"""
A user namespace whose root is hostile: it owns every capability there when the runtime enters it.

Three processes of the runtime enter: one that looks at the mappings, the intermediate process that
creates the child, and the child of `exec`. They are copies of the runtime, with its descriptors. Each
is stopped inside, and attacked by root of the namespace and by the user that this root is outside.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from pycontain.errors import PycontainError
from pycontain.kernel import calls, userns
from pycontain.kernel import const as c
from pycontain.kernel.wait import FOREVER
from tests.bundles import LIMIT, MOUNTS, look, wait_until
from tests.idmap import FIRST, KINDS, MAPPING, NAMESPACES, Mapped, bundle_with_user
from tests.security.attack import PYTHON, effective_uid_program, in_a_child
from tests.security.test_user_namespaces import NAIVE

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_userns]

PATHS = [path for path in sys.path if path]

# Stops one process of the runtime when it has just entered: the first, the second, ...
STOPS = """
import os, signal, sys
sys.path += {paths!r}
import prctl
from pycontain.cli import fast
from pycontain.init import joining
from pycontain.kernel import seal, userns
from pycontain.launch import intermediate
seal.ensure = lambda: None  # this interpreter is not replaced by another
enter, parent = userns.enter, os.getpid()
def stops(fd, kinds, uid, gid):
    enter(fd, kinds, uid, gid)
    if (uid == 65534) == {looks}:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        prctl.set_name("entered")
        signal.sigwait([signal.SIGUSR1])
userns.enter = intermediate.enter = stops
sys.exit(fast.main(sys.argv[1:]))
"""

ATTACK = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
buffer = ctypes.create_string_buffer(16)

def text(name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()

def call(*arguments):
    if libc.syscall(*map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "")

one, other = ((ctypes.c_long * 2)(at, 16) for at in (ctypes.addressof(buffer), 0x400000))

pidfd = os.pidfd_open(pid)
attempts = {
    "root": lambda: os.readlink(f"/proc/{pid}/root"),
    "enter root": lambda: os.listdir(f"/proc/{pid}/root/"),
    "cwd": lambda: os.readlink(f"/proc/{pid}/cwd"),
    "exe": lambda: os.open(f"/proc/{pid}/exe", os.O_RDONLY),
    "fd": lambda: os.listdir(f"/proc/{pid}/fd"),
    "open fd": lambda: os.open(f"/proc/{pid}/fd/0", os.O_RDONLY),
    "mnt": lambda: os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY),
    "environ": lambda: text("environ")[:1] or 1 / 0,
    "maps": lambda: text("maps"),
    "mem": lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR),
    "oom": lambda: os.close(os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY)),
    "getfd": lambda: call(438, pidfd, 0, 0),
    "readv": lambda: call(310, pid, ctypes.addressof(one), 1, ctypes.addressof(other), 1, 0),
    "setns": lambda: call(308, pidfd, 0x20000),
    "seize": lambda: call(101, 0x4206, pid, 0, 0),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, ZeroDivisionError) as error:
        if name == "readv" and error.errno == 14:  # EFAULT: it was allowed to look
            print(name, end=";")
    else:
        print(name, end=";")
"""
INSIDE = ("nsenter", "--user", "--target")


def found_by_root_inside(pid: int) -> set[str]:
    """What root of a process's user namespace gets at, with the host's /proc."""
    return found([*INSIDE, str(pid)], pid)


def found_by_its_user(pid: int) -> set[str]:
    """What a user of the host gets at who has the uid of the namespace's root, and no capability."""
    ids = ("--reuid", str(FIRST), "--regid", str(FIRST), "--clear-groups", "--bounding-set", "-all")
    return found(["setpriv", *ids], pid)


def found(become: list[str], pid: int) -> set[str]:
    command = [*become, "/usr/bin/python3", "-ISc", ATTACK, str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    return set(done.stdout.split(";")) - {""}


@pytest.fixture
def mapped(bundle) -> Mapped:
    return lambda script="", changes=None: bundle_with_user(bundle, script, changes)


@pytest.fixture
def hostile(runtime, mapped) -> str:
    """A container whose root has every capability in its namespace, as `nsenter` has there."""
    return runtime.started(mapped("sleep 100"))


def joins(runtime, mapped, hostile) -> list[str]:
    """The words of a `run` that joins its user namespace."""
    path = f"/proc/{runtime.state(hostile)['pid']}/ns/user"
    kinds = [*({"type": kind} for kind in KINDS), {"type": "user", "path": path}]
    made = mapped("true", {"linux.namespaces": kinds})
    return ["run", "-b", str(made.path), runtime.new_id()]


@contextmanager
def entered(runtime, words, *, looks):
    """(the command, the pid of its process inside), which is stopped."""
    code = STOPS.format(paths=PATHS, looks=looks)
    command = [PYTHON, "-ISc", code, "--root", str(runtime.root), *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as caller:
        try:
            wait_until(lambda: inside_of(caller.pid), "a process has entered")
            yield caller, inside_of(caller.pid)
        finally:
            if caller.poll() is None and (pid := inside_of(caller.pid)):
                os.kill(pid, signal.SIGKILL)
            caller.kill()


def inside_of(pid: int) -> int:
    """The process among the descendants of this one that has entered, 0 for none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text() == "entered\n":
                return int(child)
    except OSError:
        return 0
    return 0


def words_of(runtime, mapped, hostile, what: str) -> list[str]:
    return ["exec", hostile, "true"] if what == "exec" else joins(runtime, mapped, hostile)


WHO = pytest.mark.parametrize(
    ("what", "looks"),
    [("run", True), ("run", False), ("exec", False)],
    ids=["looks", "intermediate", "exec"],
)


@WHO
def test_nothing_of_a_process_that_enters_can_be_got_at(runtime, mapped, hostile, what, looks):
    words = words_of(runtime, mapped, hostile, what)
    with entered(runtime, words, looks=looks) as (caller, pid):
        assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
        assert found_by_root_inside(pid) == set()
        assert found_by_its_user(pid) == set()
        os.kill(pid, signal.SIGUSR1)
        assert caller.wait(LIMIT) == 0


@pytest.mark.control
def test_of_a_naive_process_that_enters_everything_can_be_got_at(runtime, hostile):
    pid = runtime.state(hostile)["pid"]
    pipe = subprocess.PIPE
    command = ["/usr/bin/python3", "-ISc", NAIVE, f"/proc/{pid}/ns/user"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as naive:
        assert naive.stdout
        assert naive.stdin
        naive.stdout.readline()
        by_root, by_user = found_by_root_inside(naive.pid), found_by_its_user(naive.pid)
        naive.stdin.close()
    wanted = {"root", "exe", "fd", "mem", "getfd", "readv", "seize"}
    assert wanted <= by_root
    assert {"mem", "seize"}.isdisjoint(by_user), "it has more capabilities than that user"


KILL = "import os, sys; os.kill(int(sys.argv[1]), int(sys.argv[2]))"


def signalled_from_inside(pid: int, number: int) -> None:
    command = [*INSIDE, str(pid), "/usr/bin/python3", "-ISc", KILL, str(pid), str(int(number))]
    subprocess.run(command, check=True, timeout=LIMIT)


@WHO
def test_a_process_that_enters_and_is_killed_there_is_an_error(
    runtime, mapped, hostile, what, looks
):
    words = words_of(runtime, mapped, hostile, what)
    before = look()
    with entered(runtime, words, looks=looks) as (caller, pid):
        signalled_from_inside(pid, signal.SIGKILL)
        _, err = caller.communicate(timeout=LIMIT)
        assert caller.returncode in (1, 255)
        assert len(err.splitlines()) == 1, err
        assert b"killed" in err or b"died" in err or b"ended" in err
    wait_until(lambda: look() == before, "nothing is left")


@WHO
def test_a_process_that_enters_and_is_stopped_there_is_not_waited_for(
    runtime, mapped, hostile, what, looks
):
    words = words_of(runtime, mapped, hostile, what)
    before = look()
    with entered(runtime, words, looks=looks) as (caller, pid):
        signalled_from_inside(pid, signal.SIGSTOP)
        caller.terminate()
        assert caller.wait(LIMIT) == 128 + signal.SIGTERM
    wait_until(lambda: look() == before, "nothing is left")


# --- the number of a process that was killed -----------------------------------------------------


def impostor(work):
    """
    What `work` returns if the process that looks at a namespace is killed once it has answered, its
    number is free, and another process of the attacker's choice gets it: here one of the host's ids.
    """

    def in_own_pids() -> object:
        subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as a program that does not wait
        ready = userns._Keeper.__enter__

        def replaced(keeper: userns._Keeper) -> str:
            directory = ready(keeper)
            [number] = Path("/proc/self/task/1/children").read_text().split()
            os.kill(int(number), signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{number}"), "its number is free")
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(int(number) - 1))
            pid = os.fork()
            if pid == 0:
                signal.pause()
            assert pid == int(number)
            return directory

        userns._Keeper.__enter__ = replaced  # type: ignore[method-assign]
        return work()

    def as_first() -> object:
        reader, writer = os.pipe()
        calls.unshare(c.CLONE_NEWPID)
        if (child := os.fork()) == 0:
            try:
                os.write(writer, json.dumps(in_own_pids()).encode())
            except BaseException as error:
                os.write(writer, json.dumps(repr(error)).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        return json.loads(os.read(reader, 65536))

    return in_a_child(as_first)


def test_mappings_are_not_those_of_a_process_that_has_got_the_number(runtime, hostile):
    namespace = os.open(f"/proc/{runtime.state(hostile)['pid']}/ns/user", os.O_RDONLY)

    def looked() -> object:
        try:
            return userns.mappings(namespace, FOREVER)
        except PycontainError as error:
            return str(error)

    told = impostor(looked)
    os.close(namespace)
    assert "no such process" in str(told)


@pytest.mark.control
def test_a_naive_look_by_number_finds_the_ids_of_the_hosts_root(runtime, hostile):
    namespace = os.open(f"/proc/{runtime.state(hostile)['pid']}/ns/user", os.O_RDONLY)

    def looked() -> object:
        with userns._Keeper(FOREVER, namespace) as directory:
            number = os.readlink(directory).split("/")[2].split()[0]
            return userns.mappings_of(f"/proc/{number}")

    told = impostor(looked)
    os.close(namespace)
    assert told == [[[0, 0, 4294967295]]] * 2


# --- id-mapped mounts ----------------------------------------------------------------------------

SHIFT = 7_000_000
OWN = {key: [{**MAPPING, "hostID": SHIFT}] for key in ("uidMappings", "gidMappings")}


def with_data(source: Path, **more: object) -> dict[str, object]:
    bind = {"destination": "/data", "source": str(source), "options": ["bind"], **more}
    return {"mounts": [*MOUNTS, bind]}


@pytest.fixture
def setuid(tmp_path, bundle) -> Path:
    """A folder with a program that runs as its owner, who is the host's root."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "id").write_bytes(effective_uid_program())
    (folder / "id").chmod(0o4755)
    return folder


def effective_uid(runtime, bundle, folder, **more: object) -> int:
    """The lowest byte of it, of that program."""
    user = {"process.user": {"uid": 1000, "gid": 1000}, "process.noNewPrivileges": False}
    made = bundle("", {**with_data(folder, **more), **user, "process.args": ["/data/id"]})
    return runtime.run(made).status


def test_a_setuid_program_of_the_hosts_root_runs_as_the_mapped_owner(runtime, bundle, setuid):
    assert effective_uid(runtime, bundle, setuid, **OWN) == SHIFT & 0xFF


@pytest.mark.control
def test_without_a_mapping_it_runs_as_the_hosts_root(runtime, bundle, setuid):
    assert effective_uid(runtime, bundle, setuid) == 0


@pytest.mark.parametrize("verb", ["create", "run"])
def test_the_descriptors_of_mapped_mounts_are_not_the_programs(runtime, bundle, setuid, verb):
    made = bundle("ls /proc/self/fd; ls /proc/1/fd", with_data(setuid, **OWN))
    if verb == "run":
        shown = runtime.output(made).words
    else:
        made.edit({"process.args": ["sleep", "100"]})
        pid = runtime.state(runtime.started(made))["pid"]
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it runs")
        shown = os.listdir(f"/proc/{pid}/fd")
    assert set(shown) <= {"0", "1", "2", "3"}  # 3: the directory that ls reads


@pytest.mark.parametrize("fails", [False, True])
def test_no_mount_and_no_namespace_is_left_on_the_host(runtime, mapped, setuid, fails):
    before, mounts = look(), Path("/proc/self/mountinfo").read_text()
    last = {"destination": "/x", "source": "/no/such", "options": ["bind"]}
    changes = with_data(setuid, options=["bind", "idmap"])
    if fails:
        changes["mounts"] = [*changes["mounts"], last]
    made = mapped("stat -c %u /data/id", changes)
    if fails:
        assert "/no/such" in runtime.fails(made)
    else:
        assert runtime.output(made).out == "0\n"
    assert Path("/proc/self/mountinfo").read_text() == mounts
    wait_until(lambda: look() == before, "nothing is left")


def test_a_mapping_that_wraps_around_to_the_hosts_root_is_refused(runtime, mapped):
    beyond = [{"containerID": 0, "hostID": 0xFFFF_FFFF, "size": 2}]
    made = mapped("id", {"linux.uidMappings": beyond, "linux.namespaces": NAMESPACES})
    assert "linux.uidMappings" in runtime.fails(made)
