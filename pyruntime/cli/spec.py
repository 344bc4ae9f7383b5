"""spec: write a sample config.json."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import layout
from pyruntime.cli.flags import Flag
from pyruntime.commands.settings import Settings
from pyruntime.errors import ConfigError, UsageError
from pyruntime.spec.sample import sample
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values

USAGE = ""
FLAGS = (
    Flag("bundle", "directory to write config.json to (default: the working directory)", short="b", value="DIR"),
    Flag("rootless", "write a config for an ordinary user"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Write the sample; never over a config.json that is there."""
    if words:
        raise UsageError(f"spec takes no words, got {words[0]!r}", hint="see: pyruntime spec --help")
    path = f"{values['bundle'] or '.'}/config.json"
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise ConfigError(f"file {path} exists", hint="remove it first") from None
    text = fastjson.dumps(sample(rootless=values["rootless"], unified=layout.find().kind == "v2"), indent=4) + "\n"
    posix.write(fd, text.encode())
    posix.close(fd)
    return 0
