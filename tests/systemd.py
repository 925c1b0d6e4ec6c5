"""A stand-in for systemd's manager: it answers on a socket, and creates real cgroups."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

from jeepney import HeaderFields, Message, MessageType, Parser, new_error, new_method_return
from jeepney.low_level import Endianness, Header

_JOB = "/org/freedesktop/systemd1/job/1"
_INTERFACE = "org.freedesktop.systemd1.Manager"
_ERROR = "org.freedesktop.systemd1."


class StandIn:
    """
    The manager of one user's units, at RUNTIME/systemd/private.

    units     name -> properties, of those that are started
    calls     the methods that were called
    results   the results of the next jobs, then "done"; "" for a job that never ends
    refusals  the D-Bus errors of the next calls of StartTransientUnit
    """

    def __init__(self, runtime: Path, mount: str, above: str) -> None:
        self.mount = mount
        self.above = above
        self.units: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.results: list[str] = []
        self.refusals: list[str] = []
        self._serial = 0
        self._connection: socket.socket | None = None
        folder = runtime / "systemd"
        folder.mkdir(parents=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "private"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and remove the cgroups of units that are left."""
        for each in (self._listener, self._connection):
            if each is not None and each.fileno() >= 0:
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for name in list(self.units):
            self._stop(name)
        top = Path(self.mount + self.above)
        for path in sorted((top, *top.rglob("*/")), reverse=True):
            if path.is_dir():
                path.rmdir()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connection = connection
            with connection:
                try:
                    self._talk(connection)
                except ConnectionError:
                    pass

    def _talk(self, connection: socket.socket) -> None:
        greeting = b""
        while not greeting.endswith(b"BEGIN\r\n"):
            greeting += connection.recv(4096)
        assert greeting == b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
        connection.sendall(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n")
        parser = Parser()
        while data := connection.recv(1 << 16):
            for message in parser.feed(data):
                for reply in self._answer(message):
                    self._serial += 1
                    connection.sendall(reply.serialise(serial=self._serial))

    def _answer(self, message: Message) -> list[Message]:
        method = message.header.fields[HeaderFields.member]
        self.calls.append(method)
        try:
            signature, body = getattr(self, f"_{_snake(method)}")(*message.body)
        except LookupError as error:
            return [new_error(message, _ERROR + error.args[0], "s", ("refused by the stand-in",))]
        reply = new_method_return(message, signature, body)
        if signature != "o":
            return [reply]
        result = self.results.pop(0) if self.results else "done"
        return [reply, _job_removed(result)] if result else [reply]

    # --- methods -------------------------------------------------------------------------------

    def _subscribe(self) -> tuple[str | None, tuple[Any, ...]]:
        return None, ()

    def _get(self, interface: str, name: str) -> tuple[str, tuple[Any, ...]]:
        values = {"ControlGroup": self.above, "ActiveState": "active"}
        return "v", (("s", values[name]),)

    def _get_unit(self, unit: str) -> tuple[str, tuple[Any, ...]]:
        if unit not in self.units:
            raise LookupError("NoSuchUnit")
        return "s", ("/org/freedesktop/systemd1/unit/x",)

    def _start_transient_unit(
        self, unit: str, mode: str, properties: list[Any], others: list[Any]
    ) -> tuple[str, tuple[Any, ...]]:
        assert (mode, others) == ("fail", [])
        if self.refusals:
            raise LookupError(self.refusals.pop(0))
        if unit in self.units:
            raise LookupError("UnitExists")
        self.units[unit] = {name: value for name, (_, value) in properties}
        folder = self.folder(unit)
        folder.mkdir(parents=True)
        for pid in self.units[unit].get("PIDs", ()):
            (folder / "cgroup.procs").write_text(str(pid))
        return "o", (_JOB,)

    def _attach_processes_to_unit(
        self, unit: str, below: str, pids: list[int]
    ) -> tuple[None, tuple[Any, ...]]:
        assert below == ""
        for pid in pids:
            (self.folder(unit) / "cgroup.procs").write_text(str(pid))
        return None, ()

    def _set_unit_properties(
        self, unit: str, runtime: bool, properties: list[Any]
    ) -> tuple[None, tuple[Any, ...]]:
        assert runtime
        self.units[unit] |= {name: value for name, (_, value) in properties}
        return None, ()

    def _stop_unit(self, unit: str, mode: str) -> tuple[str, tuple[Any, ...]]:
        if unit not in self.units:
            raise LookupError("NoSuchUnit")
        self._stop(unit)
        return "o", (_JOB,)

    def _reset_failed_unit(self, unit: str) -> tuple[None, tuple[Any, ...]]:
        raise LookupError("NoSuchUnit")

    def _stop(self, unit: str) -> None:
        folder = self.folder(unit)
        if folder.is_dir():
            folder.rmdir()
        del self.units[unit]

    def folder(self, unit: str) -> Path:
        """The cgroup of a unit; here no slice is within another."""
        within = "" if unit.endswith(".slice") else self.units[unit]["Slice"] + "/"
        return Path(f"{self.mount}{self.above}/{within}{unit}")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def _job_removed(result: str) -> Message:
    fields = {
        HeaderFields.path: "/org/freedesktop/systemd1",
        HeaderFields.interface: _INTERFACE,
        HeaderFields.member: "JobRemoved",
        HeaderFields.signature: "uoss",
    }
    header = Header(Endianness.little, MessageType.signal, 0, 1, -1, -1, fields)
    return Message(header, (1, _JOB, "unit", result))
