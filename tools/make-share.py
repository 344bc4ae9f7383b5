"""Writes what shells and man(1) look for below PREFIX/share: completion, and the manual page.

python tools/make-share.py SHARE            the directory; its own are made
python tools/make-share.py --list           the files' names below it
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pyruntime.cli import completions, manual

FILES = {
    "bash-completion/completions/pyruntime": completions.bash,
    "zsh/site-functions/_pyruntime": completions.zsh,
    "fish/vendor_completions.d/pyruntime.fish": completions.fish,
    "man/man8/pyruntime.8": manual.page,
}


def main() -> None:
    if sys.argv[1] == "--list":
        print("\n".join(FILES))
        return
    for name, make in FILES.items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make())
        path.chmod(0o644)


main()
