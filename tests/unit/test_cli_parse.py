from __future__ import annotations

import pytest

from pycontain.cli import fast, table
from pycontain.errors import UsageError

# The command lines of engines, verbatim, and the values in them that are not the default:
# conmon's src/conmon.c, Podman's libpod/oci_conmon_common.go, containerd's go-runc runc.go.
CONMON = [
    (
        ("--log-format=json --log=/run/b/oci-log --root=/run/r create --bundle /b --pid-file /p"
        " --no-pivot --no-new-keyring --preserve-fds 2 --console-socket /s c1"),
        "create",
        {
            "id": "c1", "bundle": "/b", "pid_file": "/p", "no_pivot": True, "no_new_keyring": True,
            "preserve_fds": 2, "console_socket": "/s",
        },
    ),
    (
        "--root=/run/r exec --pid-file /p --process /f --detach --tty --console-socket /s c1",
        "exec",
        {
            "id": "c1", "pid_file": "/p", "process": "/f", "detach": True, "tty": True,
            "console_socket": "/s",
        },
    ),
    (
        "exec --pid-file /p --process /f --detach c1",
        "exec",
        {"id": "c1", "pid_file": "/p", "process": "/f", "detach": True},
    ),
]  # fmt: skip
PODMAN = [
    ("start c1", "start", {"id": "c1"}),
    ("kill c1 15", "kill", {"id": "c1", "signal": "15"}),
    ("kill --all c1 9", "kill", {"id": "c1", "signal": "9", "all": True}),
    ("delete --force c1", "delete", {"id": "c1", "force": True}),
    ("pause c1", "pause", {"id": "c1"}),
    ("resume c1", "resume", {"id": "c1"}),
    ("update --resources=/f c1", "update", {"id": "c1", "resources": "/f"}),
    ("state c1", "state", {"id": "c1"}),
    ("features", "features", {}),
]
GO_RUNC = [
    (
        ("--root /r --debug --log /l --log-format json --rootless=false create --bundle /b"
        " --console-socket /s --pidfd-socket /d --pid-file /p --no-pivot --no-new-keyring"
        " --preserve-fds 3 c1"),
        "create",
        {
            "id": "c1", "bundle": "/b", "console_socket": "/s", "pidfd_socket": "/d",
            "pid_file": "/p", "no_pivot": True, "no_new_keyring": True, "preserve_fds": 3,
        },
    ),
    (
        "run --bundle /b --pid-file /p --detach --no-pivot c1",
        "run",
        {"id": "c1", "bundle": "/b", "pid_file": "/p", "detach": True, "no_pivot": True},
    ),
    (
        "exec --process /f --console-socket /s --detach --pid-file /p c1",
        "exec",
        {"id": "c1", "process": "/f", "console_socket": "/s", "detach": True, "pid_file": "/p"},
    ),
    ("delete c1", "delete", {"id": "c1"}),
    ("delete --force c1", "delete", {"id": "c1", "force": True}),
    ("kill --all c1 9", "kill", {"id": "c1", "signal": "9", "all": True}),
    ("events --stats c1", "events", {"id": "c1", "stats": True}),
    ("events --interval=5s c1", "events", {"id": "c1"}),
    ("list --format=json", "list", {"format": "json"}),
    ("ps --format json c1", "ps", {"id": "c1", "format": "json"}),
    ("update --resources=- c1", "update", {"id": "c1", "resources": "-"}),
    ("update --resources - c1", "update", {"id": "c1", "resources": "-"}),
]  # fmt: skip


def parsed(line: str | list[str]) -> tuple[str, dict[str, object]]:
    """The command and those of its values that are not the default."""
    words = line.split() if isinstance(line, str) else line
    rest = fast.take_flags(table.GLOBALS, words, fast.defaults(table.GLOBALS), prefix=True)
    command = fast.find(rest[0])
    values = fast.parse(command, rest[1:])
    assert values is not None
    usual = fast.defaults(command.flags)
    usual |= {argument.name: argument.default for argument in command.arguments}
    rests = {argument.name for argument in command.arguments if argument.rest}
    return command.name, {
        key: value
        for key, value in values.items()
        if value != usual[key] and not (key in rests and value == ())
    }


@pytest.mark.parametrize(("line", "command", "values"), CONMON + PODMAN + GO_RUNC)
def test_a_line_that_engines_write_is_understood(line, command, values):
    assert parsed(line) == (command, values)


def test_the_global_flags_of_engines_are_understood():
    settings = fast.defaults(table.GLOBALS)
    line = "--root=/r --log /l --log-format=json --debug --rootless=auto state c1"
    rest = fast.take_flags(table.GLOBALS, line.split(), settings, prefix=True)
    assert rest == ["state", "c1"]
    assert settings["root"] == "/r"
    assert settings["log"] == "/l"
    assert settings["log_format"] == "json"
    assert settings["debug"] is True


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("delete -force c1", {"force": True}),  # Go accepts one dash for two
        ("delete -f c1", {"force": True}),
        ("delete --f c1", {"force": True}),
        ("delete c1 --force", {"force": True}),  # runc accepts flags after the arguments
        ("delete --force=true c1", {"force": True}),
        ("delete --force=1 c1", {"force": True}),
        ("delete --force=false c1", {}),
        ("delete --force=F c1", {}),
        ("create -b /b c1", {"bundle": "/b"}),
        ("create -b=/b c1", {"bundle": "/b"}),
        ("create --bundle= c1", {"bundle": ""}),
        ("create --bundle a --bundle b c1", {"bundle": "b"}),
        ("update --memory-swap -1 c1", {"memory_swap": "-1"}),
        ("update --pids-limit -1 c1", {"pids_limit": -1}),
        ("update --pids-limit 0 c1", {"pids_limit": 0}),
        ("kill --all -- c1 9", {"all": True, "signal": "9"}),
    ],
)
def test_a_flag_is_read_as_by_go(line, values):
    assert parsed(line)[1] == {"id": "c1", **values}


def test_arguments_after_two_dashes_are_not_flags():
    assert parsed("delete -- --force")[1] == {"id": "--force"}


def test_arguments_after_the_id_of_exec_belong_to_the_program():
    words = ["exec", "-e", "A=1", "--env", "B=x=y", "c1", "sh", "-c", "ls --tty -- x", "--detach"]
    assert parsed(words)[1] == {
        "id": "c1",
        "env": ("A=1", "B=x=y"),
        "args": ("sh", "-c", "ls --tty -- x", "--detach"),
    }


def test_list_flags_keep_the_order_of_the_line():
    words = ["exec", "-c", "CAP_KILL", "-g", "5", "--cap=CAP_CHOWN", "-g=7", "c1", "true"]
    values = parsed(words)[1]
    assert values["cap"] == ("CAP_KILL", "CAP_CHOWN")
    assert values["additional_gids"] == (5, 7)


def test_arguments_after_the_id_of_ps_are_passed_to_ps():
    assert parsed("ps c1 -o pid,args --forest")[1]["ps_options"] == ("-o", "pid,args", "--forest")


@pytest.mark.parametrize("command", [one.name for one in table.COMMANDS.values() if one.calls])
def test_help_needs_no_arguments_of_the_command(command):
    assert fast.parse(table.COMMANDS[command], ["--help"]) is None
    assert fast.parse(table.COMMANDS[command], ["-h"]) is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("creat c1", "creat is not a command; did you mean create?"),
        ("create --bundel x c1", "--bundel is not a flag; did you mean --bundle?"),
        ("state --qqqq c1", "--qqqq is not a flag; see pycontain state --help"),
        ("create", "create needs ID; see pycontain create --help"),
        ("state a b", "b is one argument too many; see pycontain state --help"),
        ("exec c1", "exec needs ARGS; see pycontain exec --help"),
        ("create --bundle", "--bundle needs a DIR"),
        ("create --preserve-fds x c1", "--preserve-fds = x is not a whole number"),
        ("create --preserve-fds 1_0 c1", "--preserve-fds = 1_0 is not a whole number"),
        ("delete --force=maybe c1", "--force = maybe is neither true nor false"),
        ("list --format xml", "--format = xml is not one of table, json"),
        ("--log-format=xml list", "--log-format = xml is not one of text, json"),
        ("exec -g five c1 x", "--additional-gids = five is not a whole number"),
    ],
)
def test_an_invalid_line_is_refused_with_a_reason(line, sentence):
    with pytest.raises(UsageError) as caught:
        parsed(line)
    assert str(caught.value) == sentence
    assert caught.value.fault.status == 1


@pytest.mark.parametrize(
    "line",
    [
        "--systemd-cgroup=false list",
        "--rootless=false list",
        "--rootless auto list",
        "--cgroup-manager=disabled list",
    ],
)
def test_a_global_flag_may_be_switched_off(line):
    parsed(line)


@pytest.mark.parametrize("command", table.COMMANDS.values(), ids=lambda command: command.name)
def test_a_command_has_each_flag_and_short_name_once(command):
    flags = (*command.flags, table.HELP)
    names = [name for flag in flags for name in (flag.name, flag.short) if name]
    assert sorted(names) == sorted(set(names))
    assert command.calls
