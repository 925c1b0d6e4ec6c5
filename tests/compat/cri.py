"""
A client of the Container Runtime Interface, as a kubelet is one: gRPC over a Unix socket.

Only the messages and fields that the tests use are here, with the numbers of runtime.v1.
"""

from __future__ import annotations

import base64
import http.client
import os
import struct
import urllib.parse
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

LIMIT = 180.0
POD, CONTAINER, NODE = range(3)  # NamespaceMode
CREATED, RUNNING, EXITED = range(3)  # ContainerState

# message: field number, type and name; * before a type means "repeated"
MESSAGES = """
Int64Value: 1 int64 value
UInt64Value: 1 uint64 value
NamespaceOption: 1 int32 network, 2 int32 pid, 3 int32 ipc
LinuxSandboxSecurityContext: 1 NamespaceOption namespace_options
LinuxContainerResources: 1 int64 cpu_period, 2 int64 cpu_quota, 4 int64 memory_limit_in_bytes
LinuxPodSandboxConfig: 1 string cgroup_parent, 2 LinuxSandboxSecurityContext security_context
PodSandboxMetadata: 1 string name, 2 string uid, 3 string namespace, 4 uint32 attempt
DNSConfig: 1 *string servers
PodSandboxConfig: 1 PodSandboxMetadata metadata, 2 string hostname, 3 string log_directory, \
4 DNSConfig dns_config, 8 LinuxPodSandboxConfig linux
RunPodSandboxRequest: 1 PodSandboxConfig config, 2 string runtime_handler
RunPodSandboxResponse: 1 string pod_sandbox_id
StopPodSandboxRequest: 1 string pod_sandbox_id
StopPodSandboxResponse:
RemovePodSandboxRequest: 1 string pod_sandbox_id
RemovePodSandboxResponse:
PodSandboxNetworkStatus: 1 string ip
PodSandboxStatus: 1 string id, 3 int32 state, 5 PodSandboxNetworkStatus network
PodSandboxStatusRequest: 1 string pod_sandbox_id
PodSandboxStatusResponse: 1 PodSandboxStatus status
ImageSpec: 1 string image
Mount: 1 string container_path, 2 string host_path, 3 bool readonly
KeyValue: 1 string key, 2 string value
Capability: 1 *string add_capabilities, 2 *string drop_capabilities
LinuxContainerSecurityContext: 1 Capability capabilities, 3 NamespaceOption namespace_options, \
5 Int64Value run_as_user
LinuxContainerConfig: 1 LinuxContainerResources resources, \
2 LinuxContainerSecurityContext security_context
ContainerMetadata: 1 string name, 2 uint32 attempt
ContainerConfig: 1 ContainerMetadata metadata, 2 ImageSpec image, 3 *string command, \
4 *string args, 6 *KeyValue envs, 7 *Mount mounts, 11 string log_path, 15 LinuxContainerConfig linux
CreateContainerRequest: 1 string pod_sandbox_id, 2 ContainerConfig config, \
3 PodSandboxConfig sandbox_config
CreateContainerResponse: 1 string container_id
StartContainerRequest: 1 string container_id
StartContainerResponse:
StopContainerRequest: 1 string container_id, 2 int64 timeout
StopContainerResponse:
RemoveContainerRequest: 1 string container_id
RemoveContainerResponse:
ContainerStatus: 1 string id, 3 int32 state, 7 int32 exit_code, 10 string reason
ContainerStatusRequest: 1 string container_id
ContainerStatusResponse: 1 ContainerStatus status
UpdateContainerResourcesRequest: 1 string container_id, 2 LinuxContainerResources linux
UpdateContainerResourcesResponse:
ExecSyncRequest: 1 string container_id, 2 *string cmd, 3 int64 timeout
ExecSyncResponse: 1 bytes stdout, 2 bytes stderr, 3 int32 exit_code
ExecRequest: 1 string container_id, 2 *string cmd, 3 bool tty, 4 bool stdin, 5 bool stdout, \
6 bool stderr
ExecResponse: 1 string url
CpuUsage: 2 UInt64Value usage_core_nano_seconds
MemoryUsage: 2 UInt64Value working_set_bytes
ContainerStats: 2 CpuUsage cpu, 3 MemoryUsage memory
ContainerStatsRequest: 1 string container_id
ContainerStatsResponse: 1 ContainerStats stats
"""


def _classes() -> dict[str, Any]:
    """The class of each message."""
    file = descriptor_pb2.FileDescriptorProto(
        name="cri.proto", package="runtime.v1", syntax="proto3"
    )
    for line in MESSAGES.strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field in filter(None, map(str.strip, fields.split(","))):
            _add(message, *field.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        each.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"runtime.v1.{each.name}")
        )
        for each in file.message_type
    }


def _add(message: Any, number: str, kind: str, name: str) -> None:
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
    kind = kind.lstrip("*")
    if kind[0].isupper():
        field.type, field.type_name = field.TYPE_MESSAGE, f".runtime.v1.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")


CLASSES = _classes()


class Client:
    """The runtime service of a CRI at a socket."""

    def __init__(self, socket: str) -> None:
        self.channel = grpc.insecure_channel(f"unix://{socket}")
        grpc.channel_ready_future(self.channel).result(LIMIT)

    def __call__(self, method: str, **fields: Any) -> Any:
        """Call a method; nested messages are given as dictionaries. Raises grpc.RpcError."""
        call = self.channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=CLASSES[f"{method}Response"].FromString,
        )
        return call(CLASSES[f"{method}Request"](**fields), timeout=LIMIT)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()


def stream(url: str, written: bytes = b"") -> dict[int, bytes]:
    """
    What a streaming endpoint sends: channel -> bytes; 1 and 2 are the standard streams.

    A WebSocket (RFC 6455) with the kubelet's subprotocol: the first byte of a message is its
    channel, and 0 is standard input.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=LIMIT)
    connection.request("GET", f"{parts.path}?{parts.query}", headers={
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": "v4.channel.k8s.io", "Origin": f"http://{parts.netloc}",
    })  # fmt: skip
    socket = connection.sock
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += socket.recv(1)
    assert b" 101 " in answer.partition(b"\r\n")[0], answer
    if written:
        body = b"\0" + written
        socket.sendall(bytes([0x82, 0x80 | len(body)]) + bytes(4) + body)  # masked by zeros
    found: dict[int, bytes] = {}
    for message in _frames(socket.makefile("rb")):
        found[message[0]] = found.get(message[0], b"") + message[1:]
    connection.close()
    return found


def _frames(file: Any) -> Iterator[bytes]:
    """The messages until the other side closes the connection."""
    while len(head := file.read(2)) == 2:
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", file.read(2))
        body = file.read(length)
        if head[0] & 0x0F == 8:  # close
            return
        if body:
            yield body
