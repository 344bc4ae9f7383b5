"""Makes the snapshot of a pyruntime that stands in another place than this one (pyruntime/boot/snapshot/make.py).

    python tools/make-snapshot.py [--no-practice] [--shared] PYTHON ARCHIVE LIBRARY [SITE]

The arguments are those of tools/compile-launcher.sh. The snapshot is written beside ARCHIVE, where a copy of the
launcher must be, too. `pyruntime snapshot make` does the same for the pyruntime that it belongs to.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pyruntime.boot.snapshot import make
from pyruntime.errors import PyruntimeError


def main() -> None:
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    python, archive, library, *site = (argument for argument in sys.argv[1:] if not argument.startswith("--"))
    place = make.Place(Path(python), Path(archive), Path(library), *site)
    try:
        make.make(place, practice="--no-practice" not in options, shared="--shared" in options)
    except (PyruntimeError, OSError) as error:
        sys.exit(f"{__file__}: {error}")


main()
