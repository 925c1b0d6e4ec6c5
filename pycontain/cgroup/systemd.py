"""
The manager of systemd's units, over its own socket. org.freedesktop.systemd1(5), D-Bus.

Loaded only for the cgroup manager "systemd": importing jeepney, which encodes the messages, takes
15 ms. The connection leads directly to the manager, as systemctl's does, not through a bus daemon.
Every wait has a time limit, and its error names what was waited for.
"""

from __future__ import annotations

import _socket
import time

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call

from ..errors import HostError, KernelError, Timeout
from ..kernel.descriptors import close_owned
from ..kernel.wait import Until
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    Property: TypeAlias = tuple[str, tuple[str, object]]  # name, (D-Bus signature, value)

_NAME = "org.freedesktop.systemd1"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", _NAME, f"{_NAME}.Manager")
_PROPERTIES = DBusAddress("/org/freedesktop/systemd1", _NAME, "org.freedesktop.DBus.Properties")
_GONE = f"{_NAME}.NoSuchUnit"
_EXISTS = f"{_NAME}.UnitExists"
_PATIENCE = 30.0  # seconds for an answer, or for the end of a job
_PAUSE = 0.05  # seconds between attempts, while the last unit of that name is removed


class Refusal(HostError):
    """An error that the manager answers with; `name` is its D-Bus name."""

    name = ""


class Manager:
    """
    A connection to the manager of the system's units, or of the user's.

    user   whether it is the user's
    until  what ends a wait early
    """

    def __init__(self, *, user: bool, until: Until) -> None:
        """Connect. Raises HostError if there is none."""
        self._until = until
        self._path = _socket_of(user)
        self._serial = 0
        self._parser = Parser()
        self._ended: dict[str, str] = {}  # job -> result
        self.fd = self._connect()
        try:
            self._authenticate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        close_owned(self, "fd")

    @property
    def control_group(self) -> str:
        """The path of the cgroup that the manager's units are below, "" for the root."""
        body = self._call(_PROPERTIES, "Get", "ss", f"{_NAME}.Manager", "ControlGroup")
        return str(body[0][1]).rstrip("/")

    def start(self, unit: str, properties: Iterable[Property]) -> None:
        """
        Create and start a transient unit. Raises HostError and Timeout.

        A failed unit of that name is unloaded; one that is stopping is waited for.
        """
        listed = list(properties)
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                job = self._call(
                    _MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", listed, []
                )
                return self._finish(str(job[0]), f"the start of {unit}")
            except Refusal as error:
                if error.name != _EXISTS or time.monotonic() > end or not self._is_ending(unit):
                    raise
            self.forget(unit)
            time.sleep(_PAUSE)

    def stop(self, unit: str) -> None:
        """Stop a unit, and unload it if it failed; one that does not exist is not an error."""
        try:
            job = self._call(_MANAGER, "StopUnit", "ss", unit, "replace")
            self._finish(str(job[0]), f"the stop of {unit}")
        except Refusal as error:
            if error.name != _GONE:
                raise
        self.forget(unit)

    def change(self, unit: str, properties: Iterable[Property]) -> None:
        """Change properties of a unit, until it is removed. Raises HostError."""
        self._call(_MANAGER, "SetUnitProperties", "sba(sv)", unit, True, list(properties))

    def attach(self, unit: str, pid: int) -> None:
        """Move a process into a unit's cgroup. Raises HostError."""
        self._call(_MANAGER, "AttachProcessesToUnit", "ssau", unit, "", [pid])

    def forget(self, unit: str) -> None:
        """Unload a unit that has failed."""
        try:
            self._call(_MANAGER, "ResetFailedUnit", "s", unit)
        except Refusal as error:
            if error.name != _GONE:
                raise

    def _is_ending(self, unit: str) -> bool:
        """Whether a unit has ended or is about to end, so that its name becomes free."""
        try:
            path = self._call(_MANAGER, "GetUnit", "s", unit)[0]
            object_ = DBusAddress(str(path), _NAME, _PROPERTIES.interface)
            state = self._call(object_, "Get", "ss", f"{_NAME}.Unit", "ActiveState")[0]
        except Refusal:
            return True
        return state[1] in ("inactive", "failed", "deactivating")

    # --- messages ------------------------------------------------------------------------------

    def _connect(self) -> int:
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            socket.connect(self._path)
        except OSError as error:
            raise HostError(
                f"cannot be connected to: {KernelError.of('', error.errno or 0).fault.why}",
                at=f"systemd's manager, {self._path}",
                remedy="use another cgroup manager: --cgroup-manager cgroupfs",
            ) from None
        finally:
            fd = socket.detach()
        return fd

    def _authenticate(self) -> None:
        """
        Authenticate by the socket's credentials: a uid would be another one in a user namespace.

        D-Bus specification, EXTERNAL: the server requests the empty initial response.
        """
        os.write(self.fd, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        lines, end, accepted = b"", time.monotonic() + _PATIENCE, False
        while not accepted:
            line, ended, rest = lines.partition(b"\r\n")
            if not ended:
                lines += self._read("its greeting", end)
                continue
            if line.startswith((b"REJECTED", b"ERROR")):
                raise HostError("does not accept us", at=f"systemd's manager, {self._path}")
            lines, accepted = rest, line.startswith(b"OK ")
        self._parser.add_data(lines)
        self._call(_MANAGER, "Subscribe", "")

    def _call(self, to: DBusAddress, method: str, signature: str, *body: object) -> tuple:  # type: ignore[type-arg]
        """The body of the answer. Raises Refusal and Timeout."""
        self._serial += 1
        sent = new_method_call(to, method, signature or None, body)
        self._send(sent.serialise(serial=self._serial))
        end = time.monotonic() + _PATIENCE
        while True:
            for message in self._messages(f"the answer to {method}", end):
                fields = message.header.fields
                if fields.get(HeaderFields.reply_serial) == self._serial:
                    return _answer(message, method, body)

    def _finish(self, job: str, what: str) -> None:
        """Wait until a job has ended. Raises Timeout, and HostError unless it is done."""
        end = time.monotonic() + _PATIENCE
        while job not in self._ended:
            self._messages(what, end)
        result = self._ended.pop(job)
        if result not in ("done", "skipped"):
            raise HostError(
                f"ended with the result {result!r}",
                at=what,
                remedy="see journalctl for the reason",
            )

    def _messages(self, what: str, end: float) -> list[Message]:
        """The messages that have arrived; the results of jobs are stored."""
        messages: list[Message] = self._parser.feed(self._read(what, end))
        for message in messages:
            fields = message.header.fields
            if fields.get(HeaderFields.member) == "JobRemoved":
                _, job, _, result = message.body
                self._ended[job] = result
        return messages

    def _send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.fd, data) :]

    def _read(self, what: str, end: float) -> bytes:
        left = end - time.monotonic()
        if left <= 0 or not self._until.wait(self.fd, left):
            raise Timeout(
                f"has not come within {_PATIENCE:g} s: {what}",
                at=f"systemd's manager, {self._path}",
                remedy="see systemctl list-jobs for what it is busy with",
            )
        data = os.read(self.fd, 1 << 16)
        if not data:
            raise HostError("has closed the connection", at=f"systemd's manager, {self._path}")
        return data


def _answer(message: Message, method: str, body: tuple[object, ...]) -> tuple:  # type: ignore[type-arg]
    if message.header.message_type != MessageType.error:
        return message.body  # type: ignore[no-any-return]
    name = message.header.fields.get(HeaderFields.error_name, "")
    about = body[0] if body and isinstance(body[0], str) else ""
    text = message.body[0] if message.body else name
    error = Refusal(f"systemd refuses: {text}", call=method, at=about)
    error.name = name
    raise error


def _socket_of(user: bool) -> str:
    """Where the manager listens. Raises HostError if the user's session cannot be found."""
    if not user:
        return "/run/systemd/private"
    runtime = os.fsdecode(os.environ.get(b"XDG_RUNTIME_DIR", b""))
    if not runtime:
        raise HostError(
            "is not set, but is needed to find the user's systemd",
            at="XDG_RUNTIME_DIR",
            remedy="log in through PAM, with loginctl enable-linger for a user without a session",
        )
    return os.path.join(runtime, "systemd/private")
