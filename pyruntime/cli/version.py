"""--version: ours, and the version of the specification."""

from __future__ import annotations

import posix

from pyruntime.version import SPEC_VERSION, VERSION


def show() -> int:
    """Print the versions, in the form that dockerd parses."""
    posix.write(1, f"pyruntime version {VERSION}\nspec: {SPEC_VERSION}\n".encode())
    return 0
