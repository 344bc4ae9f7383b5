"""Builds the sdist of a tree of the project's files, the same bytes each time.

    python packaging/make-sdist.py TREE OUTPUT

setuptools writes the archive; its owners, modes, times and order are replaced, those of its gzip header too. TREE is
changed by the build. Time: SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from setuptools import build_meta


def members(archive: Path, time: int) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The files of an sdist with what all of them have in common, in the order of their names."""
    found = []
    with tarfile.open(archive) as tar:
        for info in tar:
            if info.isdir():
                continue
            if not info.isfile():
                sys.exit(f"{sys.argv[0]}: not a regular file: {info.name}")
            file = tar.extractfile(info)
            assert file is not None
            entry = tarfile.TarInfo(info.name)
            entry.size, entry.mtime = info.size, time
            entry.mode = 0o755 if info.mode & 0o100 else 0o644
            found.append((entry, file.read()))
    return sorted(found, key=lambda member: member[0].name)


def main() -> None:
    tree, output = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    time = int(os.environ["SOURCE_DATE_EPOCH"])
    os.chdir(tree)
    with tempfile.TemporaryDirectory() as folder:
        wanted = {str(path) for path in Path(".").rglob("*") if path.is_file()}
        name = build_meta.build_sdist(folder)
        files = members(Path(folder, name), time)
    if missing := wanted - {entry.name.partition("/")[2] for entry, _ in files}:
        sys.exit(f"{sys.argv[0]}: MANIFEST.in leaves out {', '.join(sorted(missing))}")
    with (
        output.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, time) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entry, data in files:
            tar.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    main()
