"""--help: from the same tables that parse the command line."""

from __future__ import annotations

from pyruntime.cli import main
from pyruntime.cli.flags import HELP, Flag
from pyruntime.errors import UsageError


def show_all() -> int:
    """Print what there is."""
    lines = [
        "pyruntime runs containers as the OCI runtime specification describes them.",
        "",
        "Usage: pyruntime [flags] COMMAND [flags] [ID] ...",
        "",
        "Commands:",
    ]
    width = max(len(name) for name in main.COMMANDS)
    lines += [f"  {name.ljust(width)}  {text}" for name, text in main.COMMANDS.items() if _served(name)]
    lines += ["", "Flags (before the command):", *_flags(main.GLOBAL), "", "See also: pyruntime COMMAND --help"]
    main.write_output("\n".join(lines) + "\n")
    return 0


def show(name: str) -> int:
    """Print how a command is used."""
    if name not in main.COMMANDS:
        raise unknown(name)
    module = __import__(f"pyruntime.cli.{name}", None, None, ("FLAGS",))
    usage = f"Usage: pyruntime [flags] {name} [flags] {module.USAGE}".rstrip()
    lines = [f"pyruntime {name}: {main.COMMANDS[name]}", "", usage, "", "Flags:", *_flags((*module.FLAGS, HELP))]
    main.write_output("\n".join(lines) + "\n")
    return 0


def unknown(name: str) -> UsageError:
    """Return the error for a command that is none."""
    import difflib

    close = difflib.get_close_matches(name, list(main.COMMANDS), n=1)
    hint = f"did you mean {close[0]}?" if close else "pyruntime --help lists the commands"
    return UsageError(f"no such command: {name!r}", hint=hint)


def _served(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"pyruntime.cli.{name}") is not None


def _flags(flags: tuple[Flag, ...]) -> list[str]:
    heads = []
    for flag in flags:
        head = f"--{flag.name}" + (f" {flag.value}" if flag.value else "")
        heads.append(f"-{flag.short}, {head}" if flag.short else f"    {head}")
    width = max((len(head) for head in heads), default=0)
    return [f"  {head.ljust(width)}  {flag.help}" for head, flag in zip(heads, flags, strict=True)]
