"""From the command line to a command: global flags, the command's module, and the edge at which errors are printed."""

from __future__ import annotations

import gc
import posix
import sys

from pyruntime.cli import flags
from pyruntime.cli.flags import Flag
from pyruntime.commands.settings import Settings, is_rootless
from pyruntime.errors import NO_MEMORY, PyruntimeError, UsageError, errno_name, from_oserror, strerror
from pyruntime.kernel.constants import EMFILE, SIGPIPE
from pyruntime.util.ids import ContainerId
from pyruntime.util.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values

GLOBAL = (
    Flag("root", "directory of the state of containers", value="DIR"),
    Flag("log", "write the log to FILE", value="FILE"),
    Flag("log-format", "form of the log", value="text|json", default="text"),
    Flag("debug", "log debug messages"),
    flags.TRACE,
    Flag("systemd-cgroup", "make the cgroups by systemd (cgroupsPath is then slice:prefix:name)"),
    Flag("cgroup-manager", "cgroup manager, like crun's flag", value="cgroupfs|systemd"),
    Flag("rootless", "skip what only root may do", value="true|false|auto", default="auto"),
    Flag("criu", "accepted for compatibility, ignored", value="PATH"),
    Flag("version", "show the version", short="v"),
)

# command -> what it does, in the order of --help; the module is pyruntime.cli.NAME
COMMANDS = {
    "create": "Create a container; its init waits for start",
    "start": "Start the process of a created container",
    "run": "Create and start a container, and wait for it",
    "state": "Show the state of a container as JSON",
    "list": "List containers",
    "kill": "Send a signal to a container",
    "delete": "Delete a container",
    "exec": "Run another process in a container",
    "ps": "List the processes of a container",
    "pause": "Freeze all processes of a container",
    "resume": "Resume a paused container",
    "update": "Change the resource limits of a container",
    "mounts": "Add, remove or list mounts of a running container",
    "events": "Show resource usage and OOM events",
    "checkpoint": "Checkpoint a container to images",
    "restore": "Restore a container from a checkpoint",
    "spec": "Write a sample config.json",
    "validate": "Check a config.json, and the host for it",
    "explain": "Show the steps for a bundle without running them",
    "trace": "Show or draw what --trace recorded",
    "audit": "Compare a running container with its config.json",
    "learn": "Run a container and write the least privileges it needs",
    "features": "Show the features of this runtime as JSON",
    "completion": "Print the completion script for a shell",
    "doctor": "Check whether this host can run containers",
    "snapshot": "Make, remove or describe the snapshot of the interpreter",
}


# Called by programs only.
UNLISTED = ("callhook", "serve", "shim")


def main() -> int:
    """Run the command of sys.argv. Does not return: the interpreter's own teardown would only cost time."""
    # A command runs for milliseconds: what it allocates need not be searched for cycles.
    gc.disable()
    status = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            status = status or 1
    posix._exit(status)


def run(arguments: list[str]) -> int:
    """Run a command: its exit status. Errors are printed here and nowhere else."""
    log = Log()
    name = ""
    try:
        options, rest = flags.parse(arguments, GLOBAL)
        if options["log-format"] not in ("text", "json"):
            raise UsageError(f"invalid log-format: {options['log-format']!r}", hint="use text or json")
        if options["cgroup-manager"] not in ("", "cgroupfs", "systemd"):
            raise UsageError(f"invalid cgroup-manager: {options['cgroup-manager']!r}", hint="use cgroupfs or systemd")
        wanted = Log(options["log"], options["log-format"], options["debug"])
        if wanted.path:
            _require_log(wanted)
        log = wanted
        if options["version"]:
            from pyruntime.cli import version

            return version.show()
        if options["help"] or not rest or rest[0] in ("help", "h"):
            from pyruntime.cli import help

            return help.show_all() if len(rest) < 2 else help.show(rest[1])
        name = rest[0]
        if name not in COMMANDS and name not in UNLISTED:
            from pyruntime.cli import help

            raise help.unknown(name)
        module = __import__(f"pyruntime.cli.{name}", None, None, ("FLAGS",))
        values, words = flags.parse(rest[1:], module.FLAGS, mixed=getattr(module, "MIXED", True))
        if values["help"]:
            from pyruntime.cli import help

            return help.show(name)
        path = values.get("trace") or ("trace" in values and options["trace"])
        if path:
            from pyruntime.trace import recorder

            return recorder.traced(path, module, name, _settings(options, log), values, words)
        return int(module.run(_settings(options, log), values, words))
    except PyruntimeError as error:
        if error.errno == "EMFILE":
            posix.closerange(3, 1 << 30)  # the modules that words come from are opened
        if error.errno and not error.why:
            from pyruntime.diagnose import hints

            hints.add(error)
        log.error(f"{name} failed: {error}" if name else str(error), _for_person(name, error, arguments))
        return error.exit_code
    except MemoryError:
        log.error(f"{name} failed: out of memory: {NO_MEMORY}")
        return 1
    except OSError as error:
        if error.errno == EMFILE:
            posix.closerange(3, 1 << 30)
        failure = from_oserror(error, doing=name)
        log.error(f"{name} failed: {failure}", _for_person(name, failure, arguments))
        return 1
    except Exception as error:
        if log.debugging:
            raise
        log.error(
            f"{name} failed: bug in pyruntime: {type(error).__name__}: {error}; please report it, with the "
            "output of the same command with --debug"
        )
        return 1


def _settings(options: Values, log: Log) -> Settings:
    return Settings(
        options["root"],
        rootless=is_rootless(options["rootless"]),
        systemd_cgroup=options["systemd-cgroup"] or options["cgroup-manager"] == "systemd",
        log=log,
    )


def _require_log(log: Log) -> None:
    """Raise UsageError unless the log can be written."""
    try:
        log.require()
    except OSError as error:
        reason = f"{strerror(error.errno)} ({errno_name(error.errno)})"
        raise UsageError(f"--log {log.path}: {reason}", hint="name a file that can be written") from None


def _for_person(name: str, error: PyruntimeError, arguments: list[str]) -> str:
    """Return the error as a terminal shows it, "" when standard error is none: then it is one line."""
    if not posix.isatty(2):
        return ""
    from pyruntime.cli import error_text
    from pyruntime.util import colour

    return error_text.lines(name, error, colour.of(2), arguments)


def write_output(text: str) -> None:
    """Write to standard output. When the reader has closed its end (`| head`), end by SIGPIPE, like runc and crun."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[posix.write(1, data) :]
    except BrokenPipeError:
        from pyruntime.kernel import process

        process.reset_signals()
        posix.kill(posix.getpid(), SIGPIPE)
        posix._exit(128 + SIGPIPE)  # the first process of a pid namespace does not get it


def one_id(words: list[str], command: str) -> ContainerId:
    """Return the container's id, which must be the only word. Raises UsageError, and StateError for what is not an
    id."""
    if len(words) != 1:
        problem = "needs the container's id" if not words else f"takes one id, got {len(words)} words"
        raise UsageError(f"{command} {problem}", hint=f"see: pyruntime {command} --help")
    return ContainerId(words[0])
