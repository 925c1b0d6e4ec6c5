"""`pycontain run IMAGE`: the image's configuration, its transports, and the cache."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.bundles import LIMIT, Done, Runtime
from tests.image.conftest import Made, configure

pytestmark = pytest.mark.needs_root


def run(runtime: Runtime, *words: str, **how: object) -> Done:
    """Run an image; nothing must be on standard error."""
    id = runtime.new_id()
    done = runtime("run", "--name", id, *words, name=id, **how)
    assert done.err == "", done
    return done


def images(runtime: Runtime) -> list[dict]:
    return json.loads(runtime.ok("images", "--format", "json", name="images").out)


@pytest.mark.parametrize(
    ("config", "words", "printed"),
    [
        ({"cmd": ["echo", "c"]}, (), "c"),
        ({"cmd": ["echo", "c"]}, ("echo", "w"), "w"),
        ({"entrypoint": ["echo", "e"], "cmd": "c"}, (), "e c"),
        ({"entrypoint": ["echo", "e"], "cmd": "c"}, ("w",), "e w"),
    ],
)
def test_the_command_is_entrypoint_and_arguments(runtime, image: Made, config, words, printed):
    assert run(runtime, image(**config), *words).out == f"{printed}\n"


def test_entrypoint_replaces_the_images_and_drops_its_arguments(runtime, image: Made) -> None:
    name = image(entrypoint=["false"], cmd="c")
    assert run(runtime, "--entrypoint", "echo", name).out == "\n"
    assert run(runtime, "--entrypoint", "echo", name, "w").out == "w\n"
    assert run(runtime, "--entrypoint", "", name, "echo", "w").out == "w\n"


def test_an_image_without_a_command_needs_one(runtime: Runtime, image: Made) -> None:
    assert "the image does not name one" in runtime.refuses("run", image())


def test_the_user_directory_and_environment_are_those_of_the_image(runtime, image: Made) -> None:
    name = image(user="ann:wheel", workingdir="/data", env=["A=1", "B=2"])
    script = "id -u; id -g; pwd; echo $A $B $HOME"
    printed = run(runtime, name, "sh", "-c", script).words
    assert printed == ["1000", "10", "/data", "1", "2", "/home/ann"]
    printed = run(runtime, "-u", "0", "-w", "/", "-e", "B=3", name, "sh", "-c", script).words
    assert printed == ["0", "0", "/", "1", "3", "/root"]


def test_properties_and_labels_become_annotations(runtime, image: Made) -> None:
    labels = ["org.example.team=red", "run.pycontain.isolation=none"]
    name = image(stopsignal="SIGINT", exposedports=["80/tcp"], label=labels)
    id = runtime.new_id()
    runtime.ok("run", "-d", "--name", id, name, "sleep", "100")
    found = runtime.state(id)["annotations"]
    prefix = "org.opencontainers.image."
    assert found[f"{prefix}stopSignal"] == "SIGINT"
    assert found[f"{prefix}exposedPorts"] == "80/tcp"
    assert found[f"{prefix}os"] == "linux"
    assert found["org.example.team"] == "red"
    assert not [key for key in found if key.startswith("run.pycontain.")]  # it is not the image's


def test_a_volume_of_the_image_can_be_written_to_even_if_the_root_cannot(runtime, image: Made):
    name = image(volume="/data")
    done = run(
        runtime, "--ro", name, "sh", "-c", "cat /data/given; echo x >/data/new && cat /data/new"
    )
    assert done.out == "from the image\nx\n"
    assert runtime("run", "--ro", name, "touch", "/etc/x").status == 1


def test_a_volume_is_not_part_of_the_root(runtime: Runtime, image: Made, storage: Path) -> None:
    name = image(volume="/data")
    show = "grep -c ' /data ' /proc/self/mounts; stat -c '%a %u' /data; echo x >/data/new; cat /data/given"
    assert run(runtime, name, "sh", "-c", show).out == "1\n755 0\nfrom the image\n"
    assert run(runtime, name, "ls", "/data").out == "given\n", "each container has its own"
    assert list((storage / "containers").iterdir()) == []


def test_volumes_are_part_of_what_is_limited(runtime: Runtime, image: Made) -> None:
    fill = ("dd", "if=/dev/zero", "of=/data/big", "bs=64k", "count=64")
    done = runtime("run", "--disk", "2m", image(volume="/data"), *fill)
    assert "No space left on device" in done.err


def test_each_container_has_files_of_its_own(runtime: Runtime, image: Made, storage: Path) -> None:
    name = image()
    change = "echo changed >/data/given; rm /bin/ls; cat /data/given"
    assert run(runtime, name, "sh", "-c", change).out == "changed\n"
    assert run(runtime, name, "sh", "-c", "cat /data/given; ls /data").words[-1] == "given"
    assert list((storage / "containers").iterdir()) == []


def test_the_root_has_the_images_owner_and_mode(runtime: Runtime, image: Made) -> None:
    assert run(runtime, image(), "stat", "-c", "%a %u", "/").out == "755 0\n"
    assert run(runtime, "--disk", "1m", image(), "stat", "-c", "%a %u", "/").out == "755 0\n"


def test_what_is_written_is_limited(runtime: Runtime, image: Made) -> None:
    done = runtime(
        "run", "--disk", "1m", image(), "dd", "if=/dev/zero", "of=/big", "bs=64k", "count=32"
    )
    assert done.status == 1
    assert "No space left on device" in done.err


def test_a_limited_layer_is_on_disk_and_its_device_is_released(runtime, image, storage) -> None:
    before = loop_devices()
    name = image()
    id = runtime.new_id()
    runtime.ok("run", "-d", "--disk", "64m", "--name", id, name, "sleep", "100")
    (file,) = (storage / "containers").glob("*/layers.ext4")
    assert file.stat().st_size == 64 << 20
    assert loop_devices() - before == {file.parent.name}
    write = ("dd", "if=/dev/zero", "of=/big", "bs=1M", "count=20")
    runtime.ok("exec", id, *write)
    runtime.ok("exec", id, "sync")
    assert file.stat().st_blocks * 512 > 20 << 20
    runtime.ok("delete", "--force", id)
    end = time.monotonic() + 10
    while loop_devices() - before and time.monotonic() < end:
        time.sleep(0.05)
    assert loop_devices() <= before
    assert list((storage / "containers").iterdir()) == []


def test_without_loop_devices_the_limit_is_in_memory(runtime, image, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # which has no mkfs.ext4
    (tmp_path / "bin").mkdir()
    for name in ("skopeo", "umoci", "cp", "rm", "du", "python3"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name, path=os.defpath) or "/nothing")
    fill = ("dd", "if=/dev/zero", "of=/big", "bs=64k", "count=32")
    done = runtime("run", "--disk", "1m", image(), *fill)
    assert "No space left on device" in done.err
    assert "--disk limits a file system in memory" in done.err
    assert "apt-get install e2fsprogs" in done.err


@pytest.mark.parametrize("size", ["1k", "60k", "0", "-1", "x", "1e9"])
def test_a_limit_that_is_no_size_for_a_file_system_is_refused(runtime, image, size: str) -> None:
    done = runtime("run", "--disk", size, image(), "true")
    assert done.status == 125
    assert "--disk" in done.err
    assert done.err.count("\n") == 1


def loop_devices() -> set[str]:
    """The directories of the files on loop devices; the paths are those in the file's mount."""
    files = Path("/sys/block").glob("loop*/loop/backing_file")
    return {Path(file.read_text()).parent.name for file in files}


def test_devices_of_an_image_cannot_be_opened(runtime: Runtime, image: Made) -> None:
    done = runtime("--cgroup-manager", "disabled", "run", image(), "head", "-c", "1", "/etc/disk")
    assert "Permission denied" in done.err


def test_the_host_name_is_in_etc_hostname_and_etc_hosts(runtime: Runtime, image: Made) -> None:
    printed = run(
        runtime, "--hostname", "box", image(), "sh", "-c", "cat /etc/hostname /etc/hosts"
    ).lines
    assert printed[0] == "box"
    assert "127.0.0.1\tbox" in printed


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive", "dir"])
def test_an_image_can_be_read_by_every_transport_of_files(
    runtime, image: Made, tmp_path, transport
) -> None:
    place = f"{transport}:{tmp_path}/copy"
    tag = ":test:latest" if transport == "docker-archive" else ""
    subprocess.run(["skopeo", "copy", "--quiet", image(), place + tag], check=True)
    assert run(runtime, place, "cat", "/data/given").out == "from the image\n"


def test_a_relative_path_is_the_same_image(runtime: Runtime, image: Made, tmp_path: Path) -> None:
    name = image(cmd="true")
    run(runtime, name)
    relative = name.replace(f"{tmp_path}/", "")
    run(runtime, relative, cwd=tmp_path)
    assert [one["names"] for one in images(runtime)] == [[name]]


def test_an_image_is_copied_once_and_again_when_it_changes(runtime, image: Made, tmp_path) -> None:
    name = image(cmd=["echo", "old"])
    log = tmp_path / "calls"
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("skopeo", "umoci"):
        real = shutil.which(tool)
        (tools / tool).write_text(f'#!/bin/sh\necho {tool} "$1" >>{log}\nexec {real} "$@"\n')
        (tools / tool).chmod(0o755)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    first = ["skopeo inspect", "skopeo copy", "umoci raw"]
    assert run(runtime, name, env=env).out == "old\n"
    assert log.read_text().splitlines() == first
    assert run(runtime, name, env=env).out == "old\n"
    assert log.read_text().splitlines() == [*first, "skopeo inspect"]
    configure(Path(name.split(":")[1]), cmd=["echo", "new"])
    assert run(runtime, name, env=env).out == "new\n"
    assert {tuple(one["names"]) for one in images(runtime)} == {(), (name,)}


def test_images_are_listed_for_people_and_programs(runtime: Runtime, image: Made) -> None:
    name = image()
    digest = runtime.ok("image", "pull", name).out.strip()
    (found,) = images(runtime)
    assert found["digest"] == digest
    assert found["names"] == [name]
    assert found["size"] > 100_000
    assert found["containers"] == []
    assert f"{name}  {digest[:19]}" in runtime.ok("images").out
    assert run(runtime, digest[:19], "echo", "hi").out == "hi\n"


def test_an_image_in_use_is_not_removed(runtime: Runtime, image: Made) -> None:
    name, id = image(), runtime.new_id()
    runtime.ok("run", "-d", "--name", id, name, "sleep", "100")
    assert images(runtime)[0]["containers"] == [id]
    assert f"is used by container {id}" in runtime.refuses("image", "rm", name)
    assert runtime.ok("image", "prune", "--all").out == ""
    runtime.ok("delete", "--force", id)
    runtime.ok("image", "rm", name)
    assert images(runtime) == []
    assert "is not in the cache" in runtime.refuses("image", "rm", name)


def test_prune_removes_what_no_name_refers_to(runtime: Runtime, image: Made) -> None:
    name = image(cmd=["true"])
    old = runtime.ok("image", "pull", name).out.strip()
    configure(Path(name.split(":")[1]), cmd=["false"])
    new = runtime.ok("image", "pull", name).out.strip()
    assert runtime.ok("image", "prune").out == f"{old}\n"
    assert [one["digest"] for one in images(runtime)] == [new]


def test_two_commands_unpack_an_image_once(runtime: Runtime, image: Made, tmp_path: Path) -> None:
    name = image()
    log, env = slow_umoci(tmp_path, "sleep 1")
    command = runtime.command("run", name, "echo", "hi")
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=LIMIT)[0] for process in both] == [b"hi\n"] * 2
    assert len(log.read_text().splitlines()) == 1


def slow_umoci(tmp_path: Path, before: str) -> tuple[Path, dict[str, str]]:
    """A umoci that notes that it was called, and waits; the environment that has it."""
    tools, log = tmp_path / "slow", tmp_path / "unpacked"
    tools.mkdir()
    text = f'#!/bin/sh\necho called >>{log}\n{before}\nexec {shutil.which("umoci")} "$@"\n'
    (tools / "umoci").write_text(text)
    (tools / "umoci").chmod(0o755)
    return log, {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}


def test_an_unpacking_that_was_killed_leaves_nothing_that_is_used(
    runtime: Runtime, image: Made, tmp_path: Path, storage: Path
) -> None:
    name = image()
    log, env = slow_umoci(tmp_path, "mkdir -p $5/etc; sleep 100")
    command = runtime.command("run", name, "true")
    process = subprocess.Popen(command, env=env, start_new_session=True)
    end = time.monotonic() + LIMIT
    while not log.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(LIMIT)
    assert images(runtime) == []
    assert list((storage / "images").glob("new.*")) != []
    assert run(runtime, name, "cat", "/data/given").out == "from the image\n"
    assert "interrupted command had left" in runtime.ok("image", "prune").out
    assert list((storage / "images").glob("new.*")) == []
    assert run(runtime, name, "cat", "/data/given").out == "from the image\n"


def test_what_a_killed_command_leaves_of_a_container_is_pruned(
    runtime: Runtime, image: Made, storage: Path
) -> None:
    id = runtime.new_id()
    process = subprocess.Popen(runtime.command("run", "--name", id, image(), "sleep", "100"))
    end = time.monotonic() + LIMIT
    while id not in runtime.ids() or runtime.state(id)["status"] != "running":
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.wait(LIMIT)
    runtime.ok("image", "prune")
    assert len(list((storage / "containers").iterdir())) == 1  # it still runs
    runtime.ok("delete", "--force", id)
    runtime.ok("image", "prune")
    assert list((storage / "containers").iterdir()) == []


@pytest.mark.parametrize("missing", ["skopeo", "umoci"])
def test_a_missing_tool_is_named_with_the_remedy(runtime, image: Made, tmp_path, missing) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in {"skopeo", "umoci", "rm", "du"} - {missing}:
        (tools / tool).symlink_to(shutil.which(tool))
    line = runtime.refuses("run", image(), "true", env={**os.environ, "PATH": str(tools)})
    assert (
        line
        == f"pycontain: {missing} is not installed; install skopeo and umoci: apt-get install skopeo umoci\n"
    )


def test_a_missing_image_is_an_error_of_one_line(runtime: Runtime, tmp_path: Path) -> None:
    line = runtime.refuses("run", f"oci:{tmp_path}/nosuch:x", "true")
    assert line.startswith(f"pycontain: skopeo inspect: oci:{tmp_path}/nosuch:x ")
    assert "no such file" not in line.lower()  # engines take that for a missing program


def test_a_name_without_a_transport_is_answered_with_one(runtime: Runtime, tmp_path) -> None:
    line = runtime.refuses("run", "alpine", cwd=tmp_path)
    assert line.endswith(
        "/config.json does not exist; give --bundle, or for an image its transport: docker://alpine\n"
    )
    assert "such as docker://busybox" in runtime.refuses("run", "alpine", "true")


def test_an_image_for_another_machine_is_refused(runtime: Runtime, image: Made) -> None:
    name = image()
    path = name.split(":")[1]
    subprocess.run(
        ["umoci", "config", "--image", f"{path}:test", "--architecture", "s390x"], check=True
    )
    assert "is for linux/s390x, and this machine is linux/" in runtime.refuses("run", name, "true")


@pytest.mark.parametrize("flags", [("-u", "nobody"), ("--cap-add", "FLY"), ("-w", "relative")])
def test_a_container_that_cannot_be_created_leaves_nothing(
    runtime: Runtime, image: Made, storage: Path, flags: tuple[str, ...]
) -> None:
    assert runtime("run", *flags, image(), "true").status == 125
    assert list((storage / "containers").iterdir()) == []
    assert runtime.ids() == []
