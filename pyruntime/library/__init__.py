"""Classes of the library. `import pyruntime` exports all of them, and imports each on first use."""

from __future__ import annotations

import os
import sys

# `make install` keeps its own copies of the dependencies beside the package, outside of the directory that a program
# puts into PYTHONPATH. They come last: what the program has installed itself is used before them.
_package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_dependencies = os.path.join(os.path.dirname(_package), "dependencies")
if os.path.isdir(_dependencies) and _dependencies not in sys.path:
    sys.path.append(_dependencies)
