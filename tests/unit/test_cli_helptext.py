from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from pycontain.cli import fast, helptext, table

APPLICATION = get_command(helptext.application())
NUMBERED = {"integer", "integers"}
REPEATED = {"list", "integers"}


def options_of(command):
    made = [one for one in command.params if one.param_type_name == "option"]
    return {one.name: one for one in made if one.name != "help"}


def assert_same_flags(command, flags):
    options = options_of(command)
    assert list(options) == [flag.key for flag in flags]
    for flag in flags:
        option = options[flag.key]
        short = [f"-{flag.short}"] if flag.short else []
        assert option.opts == [f"--{flag.name}", *short]
        assert option.is_flag == (flag.kind == "switch")
        assert option.multiple == (flag.kind in REPEATED)
        default = option.default
        assert (tuple(default) if isinstance(default, list) else default) == flag.default
        assert not option.required


def test_both_parsers_know_the_same_commands():
    assert list(APPLICATION.commands) == list(table.COMMANDS)


def test_both_parsers_know_the_same_global_flags():
    assert_same_flags(APPLICATION, [flag for flag in table.GLOBALS if flag is not table.HELP])


@pytest.mark.parametrize("command", table.COMMANDS.values(), ids=lambda command: command.name)
def test_both_parsers_know_the_same_flags_and_arguments(command):
    made = APPLICATION.commands[command.name]
    assert_same_flags(made, command.flags)
    arguments = [one for one in made.params if one.param_type_name == "argument"]
    assert [one.name for one in arguments] == [one.name for one in command.arguments]
    for one, wanted in zip(arguments, command.arguments, strict=True):
        assert (one.nargs == -1) == wanted.rest
        assert one.required == (wanted.default is None and not wanted.unless)


def values_of(flag):
    if flag.choices:
        return st.sampled_from(flag.choices)
    if flag.kind in NUMBERED:
        return st.integers(0, 2**31).map(str)
    return st.text("abz019/.=,", min_size=1, max_size=9)


@st.composite
def lines(draw):
    command = draw(st.sampled_from([one for one in table.COMMANDS.values() if one.calls]))
    words = []
    for flag in draw(
        st.lists(st.sampled_from(command.flags), max_size=5) if command.flags else st.just([])
    ):
        dashed = draw(st.sampled_from([f"--{flag.name}"] + [f"-{flag.short}"] * bool(flag.short)))
        if flag.kind == "switch":
            words.append(dashed)
        elif dashed.startswith("--") and draw(st.booleans()):
            words.append(f"{dashed}={draw(values_of(flag))}")
        else:
            words += [dashed, draw(values_of(flag))]
    for argument in command.arguments:
        words += draw(
            st.lists(
                st.sampled_from(["a", "x1", "-"]), min_size=1, max_size=3 if argument.rest else 1
            )
        )
    return command, words


@settings(deadline=None)  # the first example also imports typer's help
@given(lines())
def test_both_parsers_read_the_same_from_a_line(line):
    command, words = line
    context = APPLICATION.commands[command.name].make_context(command.name, list(words))
    theirs = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in context.params.items()
    }
    assert fast.parse(command, words) == theirs


WAYS = {
    "--help": lambda name: [name, "--help"],
    "-h": lambda name: [name, "-h"],
    "help": lambda name: ["help", name],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("command", table.COMMANDS.values(), ids=lambda command: command.name)
def test_every_command_has_help(capfd, monkeypatch, command, way):
    monkeypatch.setenv("COLUMNS", "100")
    assert fast.main(WAYS[way](command.name)) == 0
    shown, errors = capfd.readouterr()
    assert errors == ""
    assert "<" not in shown, "Python's names of types"
    assert " ".join(command.help.split()) in " ".join(shown.split())
    for flag in command.flags:
        assert f"--{flag.name}" in shown
    for argument in command.arguments:
        assert argument.name.upper() in shown


@pytest.mark.parametrize("columns", [30, 60, 69, 70, 200])
@pytest.mark.parametrize("name", ["", *table.COMMANDS])
def test_help_of_any_width_has_every_flag_whole(capfd, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert fast.main([name, "--help"] if name else ["--help"]) == 0
    shown = capfd.readouterr().out
    flags = table.COMMANDS[name].flags if name else table.GLOBALS
    assert [flag.name for flag in flags if f"--{flag.name}" not in shown] == []
    assert max(map(len, shown.splitlines())) <= max(columns, 80)


def test_help_names_every_command(capfd):
    assert fast.main([]) == 0
    shown = capfd.readouterr().out
    assert all(name in shown for name in table.COMMANDS)
    assert fast.main(["help", "kill"]) == 0
    assert "SIGTERM" in capfd.readouterr().out
