"""The runtime options that containerd passes to our shim, in the three forms that it has for them."""

from __future__ import annotations

import pytest

from pyruntime.shim import runtime_options, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.shim.message_types import AnyMessage

GENERIC = "runtimeoptions.v1.Options"


def generic(toml: str) -> AnyMessage:
    """What containerd makes of a [...runtimes.pyruntime.options] whose type it does not know."""
    return {"type_url": GENERIC, "value": wire.encode("GenericOptions", {"config_body": toml.encode()})}


def test_a_table_sets_fields() -> None:
    found = runtime_options.options(generic('Root = "/run/x"\nSystemdCgroup = true\nIoUid = 7\n'))
    assert (found["root"], found["systemd_cgroup"], found["io_uid"], found["io_gid"]) == ("/run/x", True, 7, 0)


def test_without_options_there_are_defaults() -> None:
    assert runtime_options.options(None) == wire.decode("Options", b"")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("Root = 5", "Root is not of type str: 5"),
        ('SystemdCgroup = "true"', "SystemdCgroup is not of type bool: 'true'"),
        ("IoUid = true", "IoUid is not of type int: True"),
        ('Root = "relative"', "Root is not an absolute path"),
        ('Rooot = "/x"', "unknown Rooot"),
        ("Root =", "Invalid value"),
    ],
)
def test_a_wrong_table_is_refused(toml: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        runtime_options.options(generic(toml))
