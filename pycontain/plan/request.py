"""
What is requested beside the configuration: the command line as a record, one field per flag.

`cli.table` names the record of a command, `cli.fast` fills it, and the verb, the plan and the
library pass it on. The runtime itself fills the fields under "determined by the runtime".
"""

from __future__ import annotations

from ..lean.record import Record
from ..spec.annotations import ISOLATION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class ProcessRequest(Record):
    """
    What create, run and exec have in common.

    console_socket  the Unix socket that receives the terminal's master; "" for none
    pid_file        the file that the process id is written to
    pidfd_socket    the Unix socket that receives a pidfd
    preserve_fds    how many descriptors, from 3 up, the program keeps
    detach          return as soon as the program runs
    isolation       what the program runs in; "" for what the configuration says

    Determined by the runtime (isolation, too, for exec):

    window       rows and columns of the caller's terminal, zeros without one
    plain        the terminal's output goes to a file or a pipe
    takes_files  files among its streams, such as an engine's logs, are given to its user
    """

    id: str
    console_socket: str = ""
    pid_file: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0
    detach: bool = False
    isolation: str = ""
    window: tuple[int, int] = (0, 0)
    plain: bool = False
    takes_files: bool = False

    def engine(self, annotations: Mapping[str, str]) -> str:
        """
        The engine of the program's virtual machine, "" for none.

        Raises UsageError or SpecError for an isolation that does not exist.
        """
        if not self.isolation and ISOLATION not in annotations:
            return ""
        from . import isolation

        return isolation.of(self, annotations)


class Request(ProcessRequest):
    """
    What create and run take.

    bundle          the directory of the bundle
    config          another file than its config.json
    no_pivot        change the root without pivot_root(2)
    no_new_keyring  keep the caller's session keyring
    keep            do not delete the container when it has ended
    no_subreaper    leave orphans of the container to the host's init
    timing          show how long each step took

    Determined by the runtime:

    separate_start  `start` is a separate command
    listen_fds      how many of the preserved descriptors, the first, are activated sockets
    listen_names    the names of these sockets, separated by colons; "" if they have none
    cgroup          whether the container has a cgroup of its own
    systemd         whose systemd creates it, "system" or "user"; "" for none
    notify          the directory for the socket through which it notifies systemd, "" for none
    """

    bundle: str = "."
    config: str = ""
    no_pivot: bool = False
    no_new_keyring: bool = False
    keep: bool = False
    no_subreaper: bool = False
    timing: bool = False
    separate_start: bool = True
    listen_fds: int = 0
    listen_names: str = ""
    cgroup: bool = True
    systemd: str = ""
    notify: str = ""


class ExecRequest(ProcessRequest):
    """
    What exec takes: a process from a file, or the container's own with these changes.

    process         the JSON file
    env             NAME=VALUE, added to the container's
    user            UID or UID:GID
    cap             more capabilities
    process_label   SELinux label
    apparmor        AppArmor profile
    cgroup          the cgroup below the container's that it runs in
    ignore_paused   start it even if the container is paused
    """

    args: tuple[str, ...] = ()
    process: str = ""
    tty: bool = False
    cwd: str = ""
    env: tuple[str, ...] = ()
    user: str = ""
    additional_gids: tuple[int, ...] = ()
    cap: tuple[str, ...] = ()
    process_label: str = ""
    apparmor: str = ""
    no_new_privs: bool = False
    cgroup: str = ""
    ignore_paused: bool = False
