"""A user of the machine with a session of systemd, without root privileges."""

import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.containers import LIMIT, Runtime, until

NAME = "vagrant"


class User:
    """The user that the machine has; its systemd runs as long as the machine."""

    def __init__(self) -> None:
        entry = pwd.getpwnam(NAME)
        self.uid, self.gid, self.home = entry.pw_uid, entry.pw_gid, entry.pw_dir
        self.runtime = f"/run/user/{self.uid}"
        subprocess.run(["loginctl", "enable-linger", NAME], check=True, timeout=LIMIT)
        until(lambda: Path(self.runtime, "systemd/private").exists(), "the user's systemd")

    def words(self, *words: str) -> list[str]:
        """A command of the user's, outside of its systemd's cgroups."""
        return [
            "setpriv", "--reuid", NAME, "--regid", NAME, "--init-groups", "env", "-C", self.home,
            f"HOME={self.home}", f"USER={NAME}", f"XDG_RUNTIME_DIR={self.runtime}",
            f"DBUS_SESSION_BUS_ADDRESS=unix:path={self.runtime}/bus", *words,
        ]  # fmt: skip

    def scoped(self, *words: str) -> list[str]:
        """A command in a delegated scope of its systemd, as a service of the user's is."""
        scope = ("systemd-run", "--user", "--scope", "--quiet", "--property", "Delegate=yes")
        return self.words(*scope, *words)

    def output(self, *words: str, status: int = 0) -> str:
        """What one of its commands prints."""
        done = subprocess.run(
            self.words(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=LIMIT,
        )  # fmt: skip
        assert done.returncode == status, f"{words}: {done.returncode}: {done.stderr}"
        return done.stdout


class UserRuntime(Runtime):
    """The runtime under test, called by the user."""

    def __init__(
        self, folder: Path, rootfs: Path, user: User, options: Sequence[str], *, scope: bool = False
    ) -> None:
        super().__init__(folder, rootfs, options)
        program = [word for word in self.command if word not in ("--root", str(folder / "state"))]
        self.command = user.scoped(*program) if scope else user.words(*program)
