"""
Completion for bash, zsh and fish, as a script generated from the table: `pycontain completion`.

The scripts know commands, flags and values. They start pycontain only to list containers.
"""

from __future__ import annotations

import shlex

from ..errors import UsageError
from . import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..options import Options
    from .table import Argument, Command, Flag

_DIRECTORIES, _FILES = ("DIR",), ("FILE", "SOCKET")  # placeholders of values that are paths
_GLOBAL = ""  # in place of a command


def completion(_: Options, shell: str) -> str:
    """The script for a shell. Raises UsageError if there is none for it."""
    if shell not in SHELLS:
        raise UsageError(f"is not one of {', '.join(SHELLS)}", value=shell)
    return SHELLS[shell]().rstrip("\n")


def _flags(command: str) -> tuple[Flag, ...]:
    """The flags of a command, or those before it."""
    if command == _GLOBAL:
        return table.GLOBALS
    return (*table.COMMANDS[command].flags, table.HELP)


def _names(flag: Flag) -> list[str]:
    return [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]


# --- bash ----------------------------------------------------------------------------------------

_BASH = """\
# bash completion for pycontain, generated from its command table

_pycontain()
{{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command= root=/run/pycontain count=0 index word
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        case $command:$word in
        :--root) root=${{COMP_WORDS[++index]}} ;;
        {taking}) ((index++)) ;;
        *:-*) ;;
        :*) command=$word ;;
        *) ((count++)) ;;
        esac
    done
    case $command:$previous in
{values}
    esac
    case $command:$current in
{flags}
    esac
    case $command:$count in
    :*) COMPREPLY=($(compgen -W "{commands}" -- "$current")) ;;
{arguments}
    esac
}}

complete -F _pycontain pycontain
"""

_BASH_WORDS = {
    "directories": 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$current")',
    "files": 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current")',
    "containers": (
        'COMPREPLY=($(compgen -W "$(pycontain --root "$root" list --quiet 2>/dev/null)" '
        '-- "$current"))'
    ),
    # without the pseudo-signals of trap, such as EXIT
    "signals": "COMPREPLY=($(compgen -A signal -X '!SIG*' -- \"$current\"))",
    "nothing": ":",
}


def _bash() -> str:
    return _BASH.format(
        taking="|".join(_taking()),
        values="\n".join(_bash_values()),
        flags="\n".join(
            f"    {command}:-*) {_bash_choices([f'--{flag.name}' for flag in _flags(command)])}; "
            "return ;;"
            for command in (_GLOBAL, *table.COMMANDS)
        ),
        commands=" ".join(table.COMMANDS),
        arguments="\n".join(_bash_arguments()),
    )


def _taking() -> Iterator[str]:
    """Each flag that takes a value, except --root, as a pattern of command and flag."""
    for command in (_GLOBAL, *table.COMMANDS):
        for flag in _flags(command):
            if flag.kind != "switch" and (command, flag.name) != (_GLOBAL, "root"):
                yield from (f"{command}:{name}" for name in _names(flag))


def _bash_choices(words: Iterable[str]) -> str:
    return f'COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$current"))'


def _bash_values() -> Iterator[str]:
    for command in (_GLOBAL, *table.COMMANDS):
        for flag in _flags(command):
            if flag.kind != "switch":
                pattern = "|".join(f"{command}:{name}" for name in _names(flag))
                words = _bash_choices(flag.choices) if flag.choices else _BASH_WORDS[_kind(flag)]
                yield f"    {pattern}) {words}; return ;;"


def _bash_arguments() -> Iterator[str]:
    for command in table.COMMANDS.values():
        for position, argument in enumerate(command.arguments):
            if _offered(argument):
                yield f"    {command.name}:{position}) {_bash_offer(argument)} ;;"


def _bash_offer(argument: Argument) -> str:
    if argument.choices:
        return _bash_choices(argument.choices)
    return _BASH_WORDS[_offered(argument)]


def _kind(flag: Flag) -> str:
    if flag.value in _DIRECTORIES:
        return "directories"
    return "files" if flag.value in _FILES else "nothing"


def _offered(argument: Argument) -> str:
    """What is offered for an argument, "" for nothing."""
    named = {"id": "containers", "signal": "signals", "bundle": "directories"}
    return "choices" if argument.choices else named.get(argument.name, "")


# --- zsh -----------------------------------------------------------------------------------------

_ZSH = """\
#compdef pycontain
# zsh completion for pycontain, generated from its command table

_pycontain_containers() {{
    local -a ids=(${{(f)"$(pycontain --root $root list --quiet 2>/dev/null)"}})
    compadd -a ids
}}

_pycontain() {{
    local context state line
    local -A opt_args
    local -a commands=(
{commands}
    )
    _arguments -C -S \\
{globals} \\
        '1:command:->command' '*::argument:->argument'
    local root=${{opt_args[--root]:-/run/pycontain}}  # for _pycontain_containers
    case $state in
    command) _describe command commands ;;
    argument)
        case $line[1] in
{cases}
        esac ;;
    esac
}}

if [[ $funcstack[1] = _pycontain ]]; then  # loaded from a directory of fpath
    _pycontain "$@"
else
    compdef _pycontain pycontain
fi
"""

_ZSH_ACTIONS = {
    "directories": "_files -/",
    "files": "_files",
    "containers": "_pycontain_containers",
    "signals": "_signals -s",
    "nothing": " ",
}


def _zsh() -> str:
    return _ZSH.format(
        commands="\n".join(
            f"        {_quoted(f'{one.name}:{one.help}')}" for one in table.COMMANDS.values()
        ),
        globals=" \\\n".join(f"        {spec}" for spec in _zsh_flags(_GLOBAL)),
        cases="\n".join(
            f"        {one.name}) _arguments -S {' '.join(_zsh_words(one))} ;;"
            for one in table.COMMANDS.values()
        ),
    )


def _zsh_flags(command: str) -> Iterator[str]:
    for flag in _flags(command):
        star = "*" if flag.kind in ("list", "integers") else ""
        about = f"[{_zsh_escaped(flag.help)}]"
        for name in _names(flag):
            equals = "=" if name.startswith("--") and flag.kind != "switch" else ""
            yield _quoted(f"{star}{name}{equals}{about}{_zsh_value(flag)}")


def _zsh_value(flag: Flag) -> str:
    if flag.kind == "switch":
        return ""
    action = f"({' '.join(flag.choices)})" if flag.choices else _ZSH_ACTIONS[_kind(flag)]
    return f":{_zsh_escaped(flag.value)}:{action}"


def _zsh_words(command: Command) -> Iterator[str]:
    yield from _zsh_flags(command.name)
    for argument in command.arguments:
        action = " "
        if argument.choices:
            action = f"({' '.join(argument.choices)})"
        elif _offered(argument):
            action = _ZSH_ACTIONS[_offered(argument)]
        place = "*" if argument.rest else ""
        yield _quoted(f"{place}:{_zsh_escaped(argument.name)}:{action}")


def _zsh_escaped(text: str) -> str:
    for special in "\\:[]":
        text = text.replace(special, f"\\{special}")
    return text


def _quoted(text: str) -> str:
    return shlex.quote(text)


# --- fish ----------------------------------------------------------------------------------------

_FISH = """\
# fish completion for pycontain, generated from its command table

function __pycontain_command
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case {taking}
                set -e words[1]
            case '-*'
            case '*'
                echo $words[1]
                return
        end
        set -e words[1]
    end
end

function __pycontain_root
    set -l words (commandline -opc)
    set -l place (contains -i -- --root $words)
    and echo $words[(math $place + 1)]
    or echo /run/pycontain
end

complete -c pycontain -f
{lines}
"""

_FISH_WORDS = {
    "directories": "(__fish_complete_directories)",
    "files": "(__fish_complete_path)",
    "containers": "(pycontain --root (__pycontain_root) list --quiet 2>/dev/null)",
    "signals": "(kill -l | string split ' ')",
    "nothing": "",
}


def _fish() -> str:
    taking = [name for flag in table.GLOBALS if flag.kind != "switch" for name in _names(flag)]
    return _FISH.format(taking=" ".join(taking), lines="\n".join(_fish_lines()))


def _fish_lines() -> Iterator[str]:
    yield from (_fish_flag(_GLOBAL, flag) for flag in table.GLOBALS)
    for command in table.COMMANDS.values():
        about = shlex.quote(command.help)
        yield f"complete -c pycontain -n {_fish_in(_GLOBAL)} -a {command.name} -d {about}"
        yield from (_fish_flag(command.name, flag) for flag in _flags(command.name))
        for argument in command.arguments:
            if _offered(argument):
                words = " ".join(argument.choices) or _FISH_WORDS[_offered(argument)]
                yield f"complete -c pycontain -n {_fish_in(command.name)} -a {_fish_quoted(words)}"


def _fish_in(command: str) -> str:
    """The condition that this is the command given; the global flags are for before it."""
    test = f"test (__pycontain_command) = {command}" if command else "test -z (__pycontain_command)"
    return _fish_quoted(test.replace("(__pycontain_command)", '"$(__pycontain_command)"'))


def _fish_flag(command: str, flag: Flag) -> str:
    line = f"complete -c pycontain -n {_fish_in(command)} -l {flag.name}"
    if flag.short:
        line += f" -s {flag.short}"
    if flag.kind != "switch":
        words = " ".join(flag.choices) or _FISH_WORDS[_kind(flag)]
        line += f" -x -a {_fish_quoted(words)}" if words else " -x"
    return f"{line} -d {_fish_quoted(flag.help)}"


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
