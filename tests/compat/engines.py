"""The engines' command lines."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

from tests.lab.users import User

LIMIT = 180.0
IMAGE = "localhost/lab"


def output(*argv: str, status: int = 0) -> str:
    """What a command prints; its exit status must be the given one."""
    done = subprocess.run(
        argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == status, f"{argv}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


class Podman:
    """Podman with a runtime and a cgroup manager, of root or of a user, and an image."""

    def __init__(self, runtime: str, manager: str, archive: Path, user: User | None = None) -> None:
        self.user = user
        self.manager = manager
        words = ("podman", "--runtime", runtime, "--cgroup-manager", manager)
        self.command = user.words(*words) if user else list(words)
        self("import", str(archive), IMAGE)

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """One command's output, stripped."""
        return output(*self.command, *arguments, status=status).strip()

    def run(self, script: str, *options: str, status: int = 0) -> str:
        """What a shell script in a new container prints."""
        return self(*self._run(options), "sh", "-c", script, status=status)

    def start(self, script: str, *options: str) -> str:
        """The id of a container that runs a shell script in the background."""
        return self(*self._run(("--detach", *options)), "sh", "-c", script)

    def _run(self, options: tuple[str, ...]) -> list[str]:
        network = () if any("--network" in word for word in options) else ("--network", "none")
        kept = () if "--detach" in options else ("--rm",)
        return ["run", *kept, *network, *options, IMAGE]

    def in_terminal(self, script: str, *options: str) -> str:
        """What a script prints on a terminal of its own."""
        master, slave = pty.openpty()
        words = [*self._run(("--tty", *options)), "sh", "-c", script]
        with subprocess.Popen(
            [*self.command, *words], stdin=slave, stdout=slave, stderr=subprocess.PIPE
        ) as child:
            os.close(slave)
            printed = b""
            try:
                while data := os.read(master, 4096):
                    printed += data
            except OSError:  # EIO: the last one has closed it
                pass
            assert child.stderr
            assert child.wait(LIMIT) == 0, child.stderr.read()
        os.close(master)
        return printed.decode().replace("\r", "").strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """What Podman knows of a container."""
        found: dict[str, Any] = json.loads(self("inspect", name))[0]
        return found

    def remove(self, name: str) -> None:
        """Kill and remove a container."""
        self("rm", "--force", "--time", "0", name)

    def close(self) -> None:
        """Remove pods, containers and the image."""
        for words in (["pod", "rm", "--all", "--force"], ["rm", "--all", "--force", "--time", "0"]):
            subprocess.run([*self.command, *words], check=False, capture_output=True, timeout=LIMIT)


class Docker:
    """Docker's client."""

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """One command's output, stripped."""
        return output("docker", *arguments, status=status).strip()
