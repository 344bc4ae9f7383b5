"""--version: ours, and the version of the specification."""

from __future__ import annotations

from pyruntime.cli.main import write_output
from pyruntime.version import SPEC_VERSION, VERSION


def show() -> int:
    """Print the versions, in the form that dockerd parses."""
    write_output(f"pyruntime version {VERSION}\nspec: {SPEC_VERSION}\n")
    return 0
