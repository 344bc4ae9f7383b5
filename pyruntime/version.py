"""Versions: ours, the specification's, and that of a config."""

from __future__ import annotations

VERSION = "0.2.0"
SPEC_VERSION = "1.3.0"


def of_spec(text: str) -> tuple[int, int]:
    """ociVersion as (major, minor): where versions of the specification differ, the config's own decides."""
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int(minor[:9] or 0)  # the check allows any number of digits
