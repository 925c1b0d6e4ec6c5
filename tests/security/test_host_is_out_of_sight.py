"""What a container sees of its host: nothing that it was not given."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess

import pytest

from pycontain.init import pivot
from tests.bundles import wait_until
from tests.security.attack import (
    PYTHON,
    bind_by_path,
    give_python,
    in_a_child,
    mount_by_path,
    python,
)

pytestmark = pytest.mark.needs_root

SECRET = {"env": {**os.environ, "SECRET": "of-the-host"}}


# --- mounts and environment ----------------------------------------------------------------------


def test_no_mount_of_the_host_is_left(runtime, bundle):
    """The old root is detached: only the configured mounts are left."""
    made = bundle("cat /proc/self/mountinfo")
    lines = runtime.output(made).lines
    assert [line.split(" ")[4] for line in lines] == ["/", "/proc", "/dev", "/dev/pts", "/dev/shm"]
    assert [line for line in lines if " shared:" in line] == []


@pytest.mark.control
def test_a_naive_change_of_root_leaves_all_mounts_of_the_host(bundle):
    made = bundle("")

    def run():
        fd = os.open("/proc/self/mountinfo", os.O_RDONLY)
        os.chroot(made.rootfs)
        return os.read(fd, 1 << 16).decode()

    assert "/" in [line.split()[4] for line in in_a_child(run).splitlines()]


@pytest.mark.parametrize("flag", [(), ("--no-pivot",)])
def test_there_is_no_way_up_to_the_host(runtime, bundle, flag):
    up = "cd /; for n in 1 2 3 4 5 6 7 8; do cd ..; done; [ -e container ] && echo inside"
    made = bundle(up)
    (made.rootfs / "container").touch()
    assert runtime.output(made, *flag).out == "inside\n"


def exploit(kind):
    """A shell command that mounts a kernel file system with the rights of a user namespace."""
    others = "--net" if kind == "sysfs" else "--pid --fork"
    return (
        f"busybox unshare --user --map-root-user --mount {others} busybox mount -t {kind} none /tmp"
    )


@pytest.mark.parametrize("flag", [(), ("--no-pivot",)])
@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_a_user_namespace_of_the_program_gets_no_unmasked_kernel_mount(runtime, bundle, flag, kind):
    """It may do so where one is fully visible already: the host's must not be left behind."""
    made = bundle(f"{exploit(kind)}; id")
    sets = made.config["process"]["capabilities"]
    for names in sets.values():
        names.append("CAP_SETFCAP")  # to be root in a user namespace: user_namespaces(7)
    made.edit({"process.capabilities": sets})
    sys = {"destination": "/sys", "type": "sysfs", "options": ["ro"]}
    made.edit({"mounts": [*made.config["mounts"], sys]})
    made.edit({"linux.maskedPaths": ["/proc/keys", "/sys/firmware"]})
    done = runtime.run(made, *flag)
    assert "mount: permission denied" in done.err
    assert done.status == 0


@pytest.mark.control
@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_a_naive_move_of_the_root_lets_a_user_namespace_mount_an_unmasked_one(
    bundle, tmp_path, kind, monkeypatch
):
    """What is covered by the new root still counts as visible."""
    monkeypatch.setattr(pivot, "_detach_kernel_mounts", lambda rootfs: None)
    made = bundle("")
    (tmp_path / "host").mkdir()

    def run():
        mount_by_path(kind, tmp_path / "host")
        bind_by_path(made.rootfs, made.rootfs)
        mount_by_path("proc", made.rootfs / "proc")
        bind_by_path("/dev/null", made.rootfs / "proc/keys")
        pivot._move(os.open(made.rootfs, os.O_PATH))
        return subprocess.run(["/bin/sh", "-c", exploit(kind)], check=False).returncode

    assert in_a_child(run) == 0


SHARED_MOUNTS = """
set -e
mount --make-rshared /
mkdir -p "$1"
mount -t tmpfs own "$1"
cp -a "$2/." "$1"
shift 2
before=$(cut -d' ' -f5 /proc/self/mountinfo)
"$@"
[ "$(cut -d' ' -f5 /proc/self/mountinfo)" = "$before" ]
echo unchanged
"""


@pytest.mark.parametrize("kind", ["shared", "rshared", "slave", ""])
def test_without_pivot_the_hosts_kernel_mounts_stay(runtime, bundle, tmp_path, kind):
    """Unmounting propagates to the peers of the mount that holds the mount point."""
    made = bundle("echo inside")
    if kind:
        made.edit({"linux.rootfsPropagation": kind})
    copy = tmp_path / "copy"
    run = runtime.command("run", "--no-pivot", "--bundle", copy, runtime.new_id())
    own = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SHARED_MOUNTS, "sh"]
    done = subprocess.run(
        [*own, copy, made.path, *run], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.split(), done.stderr) == (["inside", "unchanged"], "")


def test_the_environment_is_that_of_the_configuration(runtime, bundle):
    made = bundle("env; cat /proc/1/environ | tr '\\0' '\\n'")
    assert "of-the-host" not in runtime.output(made, **SECRET).out
    made.edit({"process.args": ["sleep", "100"]})
    container = runtime.started(made, **SECRET)
    assert "of-the-host" not in runtime.ok("exec", container, "env", **SECRET).out


def test_a_hook_in_the_container_sees_no_environment_of_the_host(runtime, bundle):
    """Its program is the container's: the specification resolves its path there."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "env > /tmp/env"]}
    made = bundle("cat /tmp/env", {"hooks.startContainer": [hook]})
    assert "of-the-host" not in runtime.output(made, **SECRET).out
    container = runtime.started(made, **SECRET)
    assert "of-the-host" not in runtime.printed(container)


@pytest.mark.control
def test_a_naive_hook_inherits_the_environment_of_the_host():
    done = subprocess.run(["env"], capture_output=True, text=True, check=True, **SECRET)
    assert "of-the-host" in done.stdout


# --- signals -------------------------------------------------------------------------------------

SIGNALS = ["grep", "-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status"]
CLEAR = [f"Sig{kind}:\t{0:016x}" for kind in ("Blk", "Ign", "Cgt")]


def test_no_signal_is_ignored_or_blocked(runtime, bundle):
    made = bundle("", {"process.args": SIGNALS})
    assert runtime.output(made).lines == CLEAR
    made.edit({"process.args": ["sleep", "100"]})
    container = runtime.started(made)
    assert runtime.ok("exec", container, *SIGNALS).lines == CLEAR


@pytest.mark.control
def test_programs_of_a_naive_python_inherit_two_ignored_signals():
    code = f"import os; os.execvp('grep', {SIGNALS!r})"
    done = subprocess.run([PYTHON, "-ISc", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() != CLEAR


# --- keys ----------------------------------------------------------------------------------------

KEYS = """
import ctypes
libc = ctypes.CDLL(None)
text = ctypes.create_string_buffer(100)
libc.syscall(250, 6, -3, text, 100)  # KEYCTL_DESCRIBE of the session's
print(libc.syscall(250, 0, -3, 0), text.value.decode())  # KEYCTL_GET_KEYRING_ID
"""


def session_keyring():
    """The serial number of this process's session keyring. keyctl(2)."""
    return ctypes.CDLL(None).syscall(250, 0, -3, 0)


@pytest.fixture
def with_keys(bundle):
    if os.uname().machine != "x86_64":
        pytest.skip("needs x86-64: the number of keyctl")
    made = bundle("", {"process.args": python(KEYS)})
    give_python(made)
    return made


def test_the_session_keyring_is_not_the_callers(runtime, with_keys):
    """It has no name of its own: those without one are all called _ses."""
    serial, description = runtime.output(with_keys).words
    assert int(serial) != session_keyring()
    assert description.endswith(";_ses")


def test_the_session_keyring_is_not_one_that_was_planted(runtime, with_keys):
    """Another root process has named a keyring after the container and opened it to all."""
    container = runtime.new_id()
    own, found = planted(
        f"_ses.{container}", lambda: runtime("run", "--bundle", with_keys.path, container).out
    )
    assert int(found.split()[0]) != own


def test_with_no_new_keyring_it_is_the_callers(runtime, with_keys):
    """Which the caller has to have: the kernel shows another one, its user's, to who has none."""
    made = runtime.command("run", "--no-new-keyring", "--bundle", with_keys.path, runtime.new_id())

    def work():
        own = joined(None)
        return own, int(subprocess.check_output(made, stdin=subprocess.DEVNULL).split()[0])

    own, seen = in_a_child(work)
    assert own == seen


@pytest.mark.parametrize("flag", [(), ("--no-new-keyring",)])
def test_exec_has_neither_the_callers_keyring_nor_the_containers(runtime, with_keys, flag):
    """Whatever create was told: the caller of exec is another one."""
    code = made_to_stay(with_keys)
    container = runtime.started(with_keys, *flag)
    shown = with_keys.rootfs / "tmp/k"
    wait_until(lambda: shown.exists() and shown.read_text().endswith("\n"), "it is shown")
    first = int(shown.read_text().split()[0])
    serial, description = runtime.ok("exec", container, *code).words
    assert int(serial) not in (session_keyring(), first)
    assert description.endswith(";_ses")


def made_to_stay(made):
    """The command that shows the keyring; the bundle runs it, and then stays."""
    code = made.config["process"]["args"]
    made.edit({"process.args": ["sh", "-c", f"{shlex.join(code)} >/tmp/k; exec sleep 100"]})
    return code


def test_exec_of_peers_has_the_keyring_of_the_container_or_of_the_caller(peer, with_keys):
    code = made_to_stay(with_keys)
    with_keys.edit({"ociVersion": "1.0.2"})
    container = peer.started(with_keys)
    shown = with_keys.rootfs / "tmp/k"
    wait_until(lambda: shown.exists() and shown.read_text().endswith("\n"), "it is shown")
    serial = int(peer("exec", container, *code).words[0])
    containers = int(shown.read_text().split()[0])
    assert serial == (containers if peer.name == "runc" else session_keyring())


@pytest.mark.control
def test_a_naive_keyring_with_a_name_is_the_one_that_was_planted():
    own, found = planted("_ses.naive", lambda: in_a_child(lambda: joined("_ses.naive")))
    assert own == found


def joined(name):
    """The session keyring of this name: an existing one that others may join, or a new one."""
    return ctypes.CDLL(None).syscall(250, 1, name and name.encode())


def planted(name, work):
    """(the serial of a planted keyring, the result of `work` while it exists)."""

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        serial = joined(name)
        ctypes.CDLL(None).syscall(250, 5, serial, 0x3F3F0000)  # KEYCTL_SETPERM: search for all
        os.write(writer, str(serial).encode())
        os.close(writer)
        os.kill(os.getpid(), 19)  # SIGSTOP
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    serial = int(os.read(reader, 100))
    try:
        return serial, work()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


# --- devices -------------------------------------------------------------------------------------

NODES = """
for device in 'b 254 0' 'b 8 0' 'c 1 1' 'c 1 2' 'c 1 11' 'c 4 0'; do
    mknod /tmp/x $device
    (exec 9</tmp/x) && echo OPENED $device
    rm -f /tmp/x
done
"""


def test_only_the_containers_devices_can_be_opened(runtime, bundle):
    """Creating nodes is allowed (CAP_MKNOD), but the device filter refuses to open them."""
    made = bundle(f"{NODES}cat /dev/null; head -c 9 /dev/zero > /dev/full")
    done = runtime.run(made)
    assert "OPENED" not in done.out
    assert done.err.count("Operation not permitted") == 6
    assert "No space left on device" in done.err
    made.edit({"process.args": ["sleep", "100"]})
    container = runtime.started(made)
    assert "OPENED" not in runtime("exec", container, "sh", "-c", NODES).out


@pytest.mark.control
def test_a_naive_container_opens_the_hosts_log(tmp_path):
    """Without a device filter, a process that can create a node can open it."""
    os.mknod(tmp_path / "kmsg", 0o20666, os.makedev(1, 11))
    os.close(os.open(tmp_path / "kmsg", os.O_RDONLY))
