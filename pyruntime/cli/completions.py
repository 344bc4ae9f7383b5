"""Completion for bash, zsh and fish, made from the tables that parse the command line.

What completes a value follows from its name in a table: DIR, FILE, ID, SIGNAL, CAP, or `one|another`.
"""

from __future__ import annotations

import re

from pyruntime.cli import main
from pyruntime.cli.flags import HELP, Flag
from pyruntime.features.process.capabilities import NUMBERS
from pyruntime.util import signals

# What a value is called in --help -> what is offered for it.
_KINDS = {
    "BUNDLE": "DIR",
    "CAP": "CAP",
    "COMMAND": "FILE",
    "DIR": "DIR",
    "FILE": "FILE",
    "ID": "ID",
    "KIND": "",
    "PATH": "FILE",
    "SIGNAL": "SIGNAL",
    "SOCKET": "FILE",
}
_MAKES_A_NEW_ID = ("create", "run", "restore", "learn")
_LISTS = {"CAP": " ".join(NUMBERS), "SIGNAL": " ".join(signals.NUMBERS)}


class Command:
    """A command as a shell sees it.

    flags: with --help. usage: its words, as --help shows them. kinds: what is offered for each of them."""

    def __init__(self, name: str) -> None:
        module = __import__(f"pyruntime.cli.{name}", None, None, ("FLAGS",))
        self.name = name
        self.help = main.COMMANDS[name]
        self.flags: tuple[Flag, ...] = (*module.FLAGS, HELP)
        self.usage: str = module.USAGE
        words = re.findall(r"[^\s\[\]]+", self.usage.partition(",")[0])
        self.kinds = [kind(word) for word in words]
        if name in _MAKES_A_NEW_ID:
            self.kinds[0] = ""


def kind(value: str) -> str:
    """Return what is offered for a value of this name: DIR, FILE, ID, SIGNAL, CAP, `one|another`, or "" for nothing."""
    word = value.split("|")[0]
    if word.isupper():
        return _KINDS.get(word, "")
    return value if "|" in value else ""


def commands() -> list[Command]:
    """Return all commands, in the order of --help."""
    return [Command(name) for name in main.COMMANDS]


def spelled(flag: Flag) -> list[str]:
    """Return a flag as it is written: `--bundle`, `-b`."""
    return [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]


def bash() -> str:
    """Return the script for bash."""
    known = commands()
    lines = []
    for name, flags in [("", (*main.GLOBAL, HELP)), *((one.name, one.flags) for one in known)]:
        for flag in flags:
            if flag.value:
                patterns = "|".join(f'"{name} {word}"' for word in spelled(flag))
                lines.append(f'    {patterns}) kind="{kind(flag.value)}" ;;')
    of_flags = "\n".join(lines)
    of_words = "\n".join(
        f'    "{one.name} {at}") kind="{what}" ;;' for one in known for at, what in enumerate(one.kinds) if what
    )
    flags_of = "\n".join(
        f'    "{name}") flags="{" ".join(word for flag in flags for word in spelled(flag))}" ;;'
        for name, flags in [("", (*main.GLOBAL, HELP)), *((one.name, one.flags) for one in known)]
    )
    return _BASH.format(
        of_flags=of_flags,
        of_words=of_words,
        flags_of=flags_of,
        commands=" ".join(main.COMMANDS),
        capabilities=_LISTS["CAP"],
        signals=_LISTS["SIGNAL"],
    )


_BASH = """\
# Completion of pyruntime for bash, made by `pyruntime completion bash`.

# What the value of a flag is: `COMMAND FLAG`, with no command for the global ones; - for a switch.
_pyruntime_of_flag() {{
    case $1 in
{of_flags}
    *) kind=- ;;
    esac
}}

# What the word at a place after the command is.
_pyruntime_of_word() {{
    case $1 in
{of_words}
    *) kind= ;;
    esac
}}

_pyruntime_flags() {{
    case $1 in
{flags_of}
    *) flags= ;;
    esac
}}

_pyruntime_offer() {{
    case $1 in
    DIR) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    FILE) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    ID) mapfile -t COMPREPLY < <(compgen -W "$(pyruntime "${{root[@]}}" list --quiet 2>/dev/null)" -- "$cur") ;;
    CAP) mapfile -t COMPREPLY < <(compgen -W "{capabilities}" -- "$cur") ;;
    SIGNAL) mapfile -t COMPREPLY < <(compgen -W "{signals}" -- "${{cur^^}}") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "${{1//|/ }}" -- "$cur") ;;
    esac
}}

_pyruntime() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} command= kind= flags= word at=1 place=0
    local -a root=()
    COMPREPLY=()
    while ((at < COMP_CWORD)); do
        word=${{COMP_WORDS[at]}}
        if [[ $word == -* ]]; then
            _pyruntime_of_flag "$command $word"
            if [[ $kind != - ]]; then
                at=$((at + 1))
                # bash takes the = of --flag=value for a word of its own
                [[ ${{COMP_WORDS[at]}} != = ]] || at=$((at + 1))
                if ((at >= COMP_CWORD)); then
                    [[ $cur != = ]] || cur=
                    _pyruntime_offer "$kind"
                    return
                fi
                [[ $word != --root ]] || root=(--root "${{COMP_WORDS[at]}}")
            fi
        elif [[ ! $command ]]; then
            command=$word
        else
            place=$((place + 1))
        fi
        at=$((at + 1))
    done
    if [[ $cur == -* ]]; then
        _pyruntime_flags "$command"
        _pyruntime_offer "$flags"
    elif [[ ! $command ]]; then
        _pyruntime_offer "{commands}"
    else
        _pyruntime_of_word "$command $place"
        _pyruntime_offer "$kind"
    fi
}}

complete -F _pyruntime pyruntime
"""

_ZSH_ACTIONS = {
    "": " ",
    "CAP": f"({_LISTS['CAP']})",
    "DIR": "_files -/",
    "FILE": "_files",
    "ID": "_pyruntime_ids",
    "SIGNAL": f"({_LISTS['SIGNAL']})",
}


def zsh() -> str:
    """Return the script for zsh."""
    known = commands()
    described = "\n".join(f"        {_quoted(f'{one.name}:{one.help}')}" for one in known)
    cases = []
    for one in known:
        words = [_zsh_flag(flag) for flag in one.flags]
        words += [f"'{at}:{what}:{_zsh_action(what)}'" for at, what in enumerate(one.kinds, 1) if what]
        cases.append(f"    {one.name})\n        _arguments \\\n            " + " \\\n            ".join(words) + " ;;")
    flags = " \\\n        ".join(_zsh_flag(flag) for flag in (*main.GLOBAL, HELP))
    return _ZSH.format(described=described, cases="\n".join(cases), flags=flags)


def _zsh_action(what: str) -> str:
    return _ZSH_ACTIONS[what] if what in _ZSH_ACTIONS else f"({what.replace('|', ' ')})"


def _zsh_flag(flag: Flag) -> str:
    text = re.sub(r"([\[\]:])", r"\\\1", flag.help)
    words = spelled(flag)
    value = f":{flag.value.split('|')[0].replace(':', '')}:{_zsh_action(kind(flag.value))}" if flag.value else ""
    first = "*" if flag.many else f"({' '.join(words)})"
    specs = []
    for word in words:
        equals = "=" if flag.value and word.startswith("--") else ""
        specs.append(_quoted(f"{first}{word}{equals}[{text}]{value}"))
    return " ".join(specs)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_ZSH = """\
#compdef pyruntime
# Completion of pyruntime for zsh, made by `pyruntime completion zsh`.

_pyruntime_ids() {{
    local -a ids
    ids=(${{(f)"$(pyruntime ${{_pyruntime_root:+--root $_pyruntime_root}} list --quiet 2>/dev/null)"}})
    compadd -a ids
}}

_pyruntime_commands() {{
    local -a known=(
{described}
    )
    _describe command known
}}

_pyruntime() {{
    local curcontext=$curcontext state line _pyruntime_root
    typeset -A opt_args
    _arguments -C \\
        {flags} \\
        '1:command:_pyruntime_commands' \\
        '*::argument:->rest'
    [[ $state == rest ]] || return
    _pyruntime_root=${{opt_args[--root]}}
    case $words[1] in
{cases}
    esac
}}

if [[ $funcstack[1] == _pyruntime ]]; then
    _pyruntime "$@"
else
    compdef _pyruntime pyruntime
fi
"""

_FISH_ACTIONS = {
    "CAP": f'"{_LISTS["CAP"]}"',
    "DIR": '"(__fish_complete_directories)"',
    "ID": '"(__pyruntime_ids)"',
    "SIGNAL": f'"{_LISTS["SIGNAL"]}"',
}


def fish() -> str:
    """Return the script for fish."""
    known = commands()
    of_global = " ".join(word for flag in main.GLOBAL if flag.value for word in spelled(flag))
    valued = "\n".join(
        f"        case {one.name}\n            set valued {' '.join(words)}"
        for one in known
        if (words := [word for flag in one.flags if flag.value for word in spelled(flag)])
    )
    lines = [_fish_flag('"__pyruntime_at"', flag) for flag in (*main.GLOBAL, HELP)]
    for one in known:
        lines.append(f'complete -c pyruntime -n "__pyruntime_at" -a {one.name} -d {_fish_quoted(one.help)}')
        lines += [_fish_flag(f'"__pyruntime_in {one.name}"', flag) for flag in one.flags]
        for place, what in enumerate(one.kinds):
            if what:
                lines.append(f'complete -c pyruntime -n "__pyruntime_at {one.name} {place}" {_fish_action(what)}')
    return _FISH.format(of_global=of_global, valued=valued, lines="\n".join(lines))


def _fish_action(what: str) -> str:
    if what == "FILE":
        return "-F"
    words = _FISH_ACTIONS[what] if what in _FISH_ACTIONS else f'"{what.replace("|", " ")}"'
    return f"-a {words}"


def _fish_flag(condition: str, flag: Flag) -> str:
    words = [f"complete -c pyruntime -n {condition} -l {flag.name}"]
    if flag.short:
        words.append(f"-s {flag.short}")
    if flag.value:
        what = kind(flag.value)
        words.append("-r" if what == "FILE" else "-x")  # -x: a value, and no file
        if what:
            words.append(_fish_action(what))
    return " ".join([*words, "-d", _fish_quoted(flag.help)])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_FISH = """\
# Completion of pyruntime for fish, made by `pyruntime completion fish`.

# The words before the cursor that are no flags, nor values of flags: the command first.
function __pyruntime_words
    set -l words (commandline -opc)
    set -l valued {of_global}
    set -l skip 0
    set -l found
    for word in $words[2..]
        if test $skip = 1
            set skip 0
            continue
        end
        if string match -q -- '-*' $word
            contains -- $word $valued; and set skip 1
            continue
        end
        set -a found $word
        test (count $found) = 1; or continue
        set valued
        switch $word
{valued}
        end
    end
    string join \\n -- $found
end

# Whether the command is $argv[1].
function __pyruntime_in
    set -l words (__pyruntime_words)
    test "$words[1]" = $argv[1]
end

# Whether the word at the cursor is number $argv[2] after the command $argv[1]; without them, the command.
function __pyruntime_at
    set -l words (__pyruntime_words)
    if test (count $argv) = 0
        test (count $words) = 0
        return
    end
    test "$words[1]" = $argv[1]; and test (count $words) = (math $argv[2] + 1)
end

function __pyruntime_ids
    set -l words (commandline -opc)
    set -l root
    set -l at (contains -i -- --root $words); and set root --root $words[(math $at + 1)]
    pyruntime $root list --quiet 2>/dev/null
end

complete -c pyruntime -f
{lines}
"""

SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
