"""containerd's CRI plugin, driven over gRPC as a kubelet drives it."""

import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.compat.cri import EXITED, NODE, POD, RUNNING, Client, stream
from tests.compat.engines import LIMIT, output
from tests.lab.containers import until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroup2,
    pytest.mark.needs_systemd,
    pytest.mark.needs_containerd,
]

IMAGE = "localhost/lab:latest"
MIB = 1 << 20
CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/run"
disabled_plugins = []

[grpc]
address = "{folder}/socket"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "tested"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
BinaryName = "{runtime}"
SystemdCgroup = {systemd}
"""
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "lab",
    "plugins": [
        {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.88.77.0/24"}},
    ],
}


def image(archive: Path) -> bytes:
    """An image as `docker save` writes it; it sleeps, as the image of a pod's sandbox does."""
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sleep", "100000"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(archive)}"]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
        "layer.tar": archive.read_bytes(),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _digest(path: Path) -> str:
    return output("sha256sum", str(path)).split()[0]


@pytest.fixture(scope="module", params=["cgroupfs", "systemd"])
def manager(request: pytest.FixtureRequest) -> str:
    """The cgroup manager of the node."""
    return str(request.param)


@pytest.fixture(scope="module")
def cri(runtime: str, manager: str, archive: Path) -> Iterator[Client]:
    """A containerd of its own, with the image."""
    with tempfile.TemporaryDirectory(prefix="containerd-", dir="/var/tmp") as name:
        folder = Path(name)
        (folder / "cni").mkdir()
        (folder / "cni" / "lab.conflist").write_text(json.dumps(NETWORK))
        systemd = str(manager == "systemd").lower()
        config = folder / "config.toml"
        config.write_text(
            CONFIG.format(folder=folder, image=IMAGE, runtime=runtime, systemd=systemd)
        )
        with (folder / "log").open("w") as log:
            command = ["containerd", "--config", str(config)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            socket = folder / "socket"
            until(socket.exists, "containerd's socket")
            (folder / "image.tar").write_bytes(image(archive))
            ctr = ("ctr", "--address", str(socket), "--namespace", "k8s.io")
            output(*ctr, "images", "import", str(folder / "image.tar"))
            plugins = output(*ctr, "plugins", "ls")
            assert re.search(r" cri +\S+ +ok", plugins), _problems(folder / "log")
            client = Client(str(socket))
            yield client
            client.close()
        finally:
            process.terminate()
            process.wait(LIMIT)


def _problems(log: Path) -> list[str]:
    """What containerd has complained about."""
    return [
        line for line in log.read_text().splitlines() if re.search("level=(err|warn|fat)", line)
    ]


class Pod:
    """A pod, and its containers."""

    def __init__(self, cri: Client, manager: str, logs: Path, network: int) -> None:
        self.cri = cri
        parent = "lab.slice" if manager == "systemd" else "/lab-pod"
        self.config = {
            "metadata": {"name": "pod", "uid": f"uid-{logs.name}", "namespace": "lab"},
            "hostname": "" if network == NODE else "pod",
            "log_directory": str(logs),
            "dns_config": {"servers": ["192.0.2.53"]},
            "linux": {
                "cgroup_parent": parent,
                "security_context": {"namespace_options": {"network": network, "pid": 1}},
            },
        }
        made = cri("RunPodSandbox", config=self.config, runtime_handler="tested")
        self.id = made.pod_sandbox_id

    def start(self, script: str, attempt: int = 0, **more: Any) -> str:
        """The id of a new container that runs a shell script."""
        options = {"pid": 1, "network": self.network}
        linux = {"security_context": {"namespace_options": options}}
        config = {
            "metadata": {"name": "main", "attempt": attempt}, "image": {"image": IMAGE},
            "command": ["sh", "-c", script], "log_path": f"main.{attempt}", "linux": linux, **more,
        }  # fmt: skip
        made = self.cri("CreateContainer", pod_sandbox_id=self.id, config=config,
                        sandbox_config=self.config)  # fmt: skip
        self.cri("StartContainer", container_id=made.container_id)
        return str(made.container_id)

    @property
    def network(self) -> int:
        """The mode of its network namespace."""
        options = self.config["linux"]["security_context"]["namespace_options"]  # type: ignore[index]
        return int(options["network"])

    def status(self, container: str) -> Any:
        """What the plugin knows of a container."""
        return self.cri("ContainerStatus", container_id=container).status

    def close(self) -> None:
        """Stop and remove it, with its containers."""
        self.cri("StopPodSandbox", pod_sandbox_id=self.id)
        self.cri("RemovePodSandbox", pod_sandbox_id=self.id)


@pytest.fixture
def pod(cri: Client, manager: str, tmp_path: Path) -> Iterator[Pod]:
    """A pod on the host's network."""
    made = Pod(cri, manager, tmp_path, NODE)
    yield made
    made.close()


def test_a_pod_has_a_network_that_its_containers_share(
    cri: Client, manager: str, tmp_path: Path
) -> None:
    pod = Pod(cri, manager, tmp_path, POD)
    try:
        status = cri("PodSandboxStatus", pod_sandbox_id=pod.id).status
        assert status.network.ip.startswith("10.88.77.")
        container = pod.start("sleep 300")
        shown = cri("ExecSync", container_id=container, cmd=["hostname"], timeout=60)
        assert shown.stdout == b"pod\n"
        address = cri("ExecSync", container_id=container, cmd=["cat", "/proc/net/fib_trie"],
                      timeout=60)  # fmt: skip
        assert status.network.ip.encode() in address.stdout
    finally:
        pod.close()


def test_a_container_is_executed_into_measured_updated_and_stopped(cri: Client, pod: Pod) -> None:
    container = pod.start("trap 'exit 5' TERM; while :; do sleep 0.1; done")
    assert pod.status(container).state == RUNNING
    done = cri("ExecSync", container_id=container, timeout=60,
               cmd=["sh", "-c", "echo out; echo err >&2; exit 3"])  # fmt: skip
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 3)
    stats = cri("ContainerStats", container_id=container).stats
    assert stats.memory.working_set_bytes.value > 0
    assert stats.cpu.usage_core_nano_seconds.value > 0
    cri("UpdateContainerResources", container_id=container,
        linux={"memory_limit_in_bytes": 64 * MIB})  # fmt: skip
    limit = cri("ExecSync", container_id=container, timeout=60,
                cmd=["cat", "/sys/fs/cgroup/memory.max"])  # fmt: skip
    assert limit.stdout == f"{64 * MIB}\n".encode()
    cri("StopContainer", container_id=container, timeout=30)
    assert (pod.status(container).state, pod.status(container).exit_code) == (EXITED, 5)


def test_a_command_that_takes_too_long_is_ended(cri: Client, pod: Pod) -> None:
    container = pod.start("sleep 300")
    with pytest.raises(grpc.RpcError) as caught:
        cri("ExecSync", container_id=container, cmd=["sleep", "200"], timeout=2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert pod.status(container).state == RUNNING


def test_a_command_is_executed_over_a_stream(cri: Client, pod: Pod) -> None:
    container = pod.start("sleep 300")
    url = cri("Exec", container_id=container, cmd=["sh", "-c", "read word; echo got $word"],
              stdin=True, stdout=True, stderr=True).url  # fmt: skip
    found = stream(url, b"hello\n")
    assert found[1] == b"got hello\n"
    assert json.loads(found[3])["status"] == "Success"


def test_a_container_that_ends_is_restarted(cri: Client, pod: Pod, tmp_path: Path) -> None:
    first = pod.start("echo first; exit 7")
    until(lambda: pod.status(first).state == EXITED, "the end of the container")
    assert pod.status(first).exit_code == 7
    assert "stdout F first" in (tmp_path / "main.0").read_text()
    cri("RemoveContainer", container_id=first)
    second = pod.start("echo second; sleep 300", attempt=1)
    assert pod.status(second).state == RUNNING
    until(lambda: "second" in (tmp_path / "main.1").read_text(), "its output")


def test_a_container_that_uses_too_much_memory_says_so(pod: Pod, manager: str) -> None:
    """systemd may remove the cgroup before the shim has read its events, with runc as well."""
    limited = {
        "resources": {"memory_limit_in_bytes": 16 * MIB},
        "security_context": {"namespace_options": {"pid": 1, "network": NODE}},
    }
    container = pod.start("exec dd if=/dev/zero of=/dev/null bs=64M", linux=limited)
    until(lambda: pod.status(container).state == EXITED, "the end of the container")
    assert pod.status(container).exit_code == 137
    if manager == "cgroupfs":
        assert pod.status(container).reason == "OOMKilled"
