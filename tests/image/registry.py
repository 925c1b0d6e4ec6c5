"""A registry on the loopback device: the reading half of the OCI distribution specification 1.1."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BLOB = "application/octet-stream"


class Registry:
    """
    Serves blobs of OCI layouts, and the tags that it was told, until it is closed.

    login     "user:password" that it wants, "" for none
    requests  the paths that were asked for
    before    called with a path before it is answered
    """

    def __init__(self) -> None:
        self.login = ""
        self.requests: list[str] = []
        self.before: Callable[[str], None] = lambda _: None
        self._blobs: dict[str, bytes] = {}
        self._tags: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def host(self) -> str:
        """HOST:PORT, as in names of images."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def name(self, reference: str = "box:test") -> str:
        """The name of an image here."""
        return f"docker://{self.host}/{reference}"

    def put(self, layout: Path, tag: str = "test") -> str:
        """Serve the only image of a layout under a tag; returns the digest of its manifest."""
        for path in (layout / "blobs/sha256").iterdir():
            self._blobs[f"sha256:{path.name}"] = path.read_bytes()
        digest: str = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
        self._tags[tag] = digest
        return digest

    def put_index(self, digest: str, tag: str) -> None:
        """Serve an index of that image and one for another machine under a tag."""
        config = json.loads(self._blobs[digest])["config"]["digest"]
        ours = json.loads(self._blobs[config])["architecture"]
        entries = [
            {
                "mediaType": MANIFEST, "digest": each, "size": len(self._blobs[digest]),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for each, architecture in (("sha256:" + "0" * 64, "s390x"), (digest, ours))
        ]  # fmt: skip
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        data = json.dumps(index).encode()
        self._tags[tag] = "sha256:" + hashlib.sha256(data).hexdigest()
        self._blobs[self._tags[tag]] = data

    def found(self, kind: str, reference: str) -> tuple[str, str, bytes] | None:
        """(media type, digest, content) of a manifest or a blob."""
        digest = self._tags.get(reference, reference)
        data = self._blobs.get(digest)
        if data is None:
            return None
        if kind == "blobs":
            return BLOB, digest, data
        return json.loads(data).get("mediaType", MANIFEST), digest, data

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.requests.append(self.path)
            registry.before(self.path)
            if registry.login and not self._is_allowed():
                self.answer(401, b"{}", {"WWW-Authenticate": 'Basic realm="test"'})
                return
            parts = self.path.strip("/").split("/")
            if parts == ["v2"]:
                self.answer(200, b"{}", {})
            elif found := registry.found(parts[-2], parts[-1]):
                kind, digest, data = found
                self.answer(200, data, {"Content-Type": kind, "Docker-Content-Digest": digest})
            else:
                error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
                self.answer(404, json.dumps(error).encode(), {"Content-Type": "application/json"})

        do_HEAD = do_GET  # noqa: N815

        def _is_allowed(self) -> bool:
            wanted = base64.b64encode(registry.login.encode()).decode()
            return self.headers["Authorization"] == f"Basic {wanted}"

        def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return Handler
