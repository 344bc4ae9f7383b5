"""Runtime options of a container, as containerd's Options message or as TOML."""

from __future__ import annotations

from pyruntime.commands import forked
from pyruntime.commands.settings import Settings
from pyruntime.shim import wire
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.shim.message_types import AnyMessage, CheckpointOptions, GenericOptions, Options
    from pyruntime.util.ids import Namespace

ROOT = "/run/containerd/pyruntime"
FILE = "pyruntime.json"  # in the bundle: what `delete` needs to know after a SIGKILL of the shim

_RUNC = "containerd.runc.v1.Options"
_CHECKPOINT = "containerd.runc.v1.CheckpointOptions"
_OLD_RUNC = "containerd.linux.runc.CreateOptions"
_GENERIC = ("runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options")
# The names that config.toml of containerd has for the runc shim.
_TOML = {
    "NoPivotRoot": "no_pivot_root",
    "NoNewKeyring": "no_new_keyring",
    "ShimCgroup": "shim_cgroup",
    "IoUid": "io_uid",
    "IoGid": "io_gid",
    "Root": "root",
    "SystemdCgroup": "systemd_cgroup",
}


def options(any: AnyMessage | None) -> Options:
    """Return the fields of Options, with defaults for unset ones. Raises ValueError."""
    found = _decoded(any)
    if found["root"] and not found["root"].startswith("/"):
        raise ValueError(f"runtime options: Root is not an absolute path: {found['root']!r}")
    return found


def _decoded(any: AnyMessage | None) -> Options:
    found: Options = wire.decode("Options", b"")
    if any is None:
        return found
    type = any["type_url"].rpartition("/")[2]
    if type == _RUNC:
        found.update(wire.decode("Options", any["value"]))
        return found
    if type == _OLD_RUNC:
        found.update(wire.decode("CreateOptions", any["value"]))
        return found
    if type in _GENERIC:
        given: GenericOptions = wire.decode("GenericOptions", any["value"])
        text = given["config_body"].decode() or (read_file(given["config_path"]) if given["config_path"] else "")
        import tomllib  # few callers give a file

        table = tomllib.loads(text)
        unknown = sorted(set(table) - set(_TOML))
        if unknown:
            raise ValueError(f"runtime options: unknown {', '.join(unknown)}; known are {', '.join(sorted(_TOML))}")
        named: Any = {_TOML[name]: value for name, value in table.items()}
        defaults: Any = found
        for name, field in _TOML.items():
            if name in table and table[name].__class__ is not defaults[field].__class__:
                wanted = defaults[field].__class__.__name__
                raise ValueError(f"runtime options: {name} is not of type {wanted}: {table[name]!r}")
        found.update(named)
        return found
    if type:
        raise ValueError(f"runtime options of type {type} are not known")
    return found


def checkpoint_options(any: AnyMessage | None) -> CheckpointOptions:
    """Return the fields of CheckpointOptions, with defaults for unset ones. Raises ValueError."""
    if any is not None and any["type_url"] and any["type_url"].rpartition("/")[2] != _CHECKPOINT:
        raise ValueError(f"checkpoint options of type {any['type_url']} are not known")
    found: CheckpointOptions = wire.decode("CheckpointOptions", any["value"] if any is not None else b"")
    return found


def settings(namespace: Namespace, chosen: Options) -> Settings:
    """Return the settings for a container of a containerd namespace."""
    root = (chosen["root"] or ROOT).rstrip("/")
    return forked.settings(f"{root}/{namespace}", systemd_cgroup=chosen["systemd_cgroup"])


def note(bundle: str, made: Settings, *, mounted: bool) -> None:
    """Save what `delete` needs to a file in the bundle."""
    text = fastjson.dumps({"root": made.root, "systemd_cgroup": made.systemd_cgroup, "mounted": mounted})
    write_atomically(bundle, FILE, text)


def noted(bundle: str) -> tuple[Settings, bool] | None:
    """Return what `note` saved: (settings, whether the root filesystem was mounted), None if nothing."""
    try:
        fields = fastjson.loads(read_file(f"{bundle}/{FILE}"))
        return forked.settings(fields["root"], systemd_cgroup=fields["systemd_cgroup"]), fields["mounted"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
