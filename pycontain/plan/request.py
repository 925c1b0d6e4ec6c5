"""
What is asked for beside the configuration: the command line, filled in by its table's names.

`cli.table` names the record of a command, `cli.fast` fills it, and the verb, the plan and the
library pass it on. The fields under "found out" are the runtime's to fill.
"""

from __future__ import annotations

from ..lean.record import Record


class ProcessRequest(Record):
    """
    What create, run and exec have in common.

    console_socket  the Unix socket that is sent the terminal's master; "" for none
    pid_file        the file that the process id is written to
    pidfd_socket    the Unix socket that is sent a pidfd
    preserve_fds    how many descriptors, from 3 up, the program keeps
    detach          return as soon as the program runs

    Found out by the runtime:

    window       rows and columns of the terminal that it is served on, zeros without one
    plain        the terminal's output goes to a file or a pipe
    takes_files  files among its streams become its user's, as an engine's logs do
    """

    id: str
    console_socket: str = ""
    pid_file: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0
    detach: bool = False
    window: tuple[int, int] = (0, 0)
    plain: bool = False
    takes_files: bool = False


class Request(ProcessRequest):
    """
    What create and run are asked for.

    bundle          the folder of the bundle
    config          another file than its config.json
    no_pivot        change the root without pivot_root(2)
    no_new_keyring  keep the caller's session keyring
    keep            leave the container when it has ended
    no_subreaper    leave orphans of the container to the host's init
    timing          show how long each step took

    Found out by the runtime:

    separate_start  `start` comes as a command of its own
    listen_fds      how many of the preserved descriptors, the first, are activated sockets
    cgroup          whether the container has a cgroup of its own
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
    cgroup: bool = True


class ExecRequest(ProcessRequest):
    """
    What exec is asked for: a process of a file, or the container's own with these changes.

    process         the JSON file
    env             NAME=VALUE, added to the container's
    user            UID or UID:GID
    cap             more capabilities
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
    no_new_privs: bool = False
    cgroup: str = ""
    ignore_paused: bool = False
