"""`-info`: name, version and features of the shim, for containerd 2 (RuntimeInfo)."""

from __future__ import annotations

import posix

from pyruntime.commands.features import features
from pyruntime.shim import wire
from pyruntime.util import fastjson
from pyruntime.version import VERSION

_FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


def write() -> int:
    """Write RuntimeInfo to standard output."""
    info = {
        "name": "io.containerd.pyruntime.v1",
        "version": {"version": VERSION},
        "features": {"type_url": _FEATURES, "value": fastjson.dumps(features()).encode()},
    }
    posix.write(1, wire.encode("RuntimeInfo", info))
    return 0
