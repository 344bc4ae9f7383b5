"""Files of Debian's packages in a directory, without the packages' scripts.

A package comes from apt's cache of archives, from this system when it is installed here, or from the mirror."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

ARCHIVES = Path("/var/cache/apt/archives")
# Depended on by scripts of packages, or by what the tests do not use (PostgreSQL's compiler).
LEFT_OUT = (
    "cdebconf",
    "libdebian-installer",
    "libelogind",
    "libnewt",
    "libtextwrap",
    "lsb-base",
    "usrmerge",
    "adduser",
    "debconf",
    "libllvm",
    "libperl",
    "perl",
    "locales",
    "libc-l10n",
    "systemd",
    "ucf",
    "iproute2",
)


def unpack(root: Path, names: list[str]) -> None:
    """Unpack packages and what they depend on. Raises CalledProcessError when one cannot be had."""
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "dev", "sys", "tmp", "run", "srv", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "tmp").chmod(0o1777)
    for name in closure([*names, "dash", "coreutils"]):
        archives = sorted(ARCHIVES.glob(f"{name}_*.deb"), key=os.path.getmtime)
        if archives:
            extract(archives[-1], root)
        elif files := installed(name):
            copy(files, root)
        else:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(["apt-get", "-qq", "download", name], cwd=folder, check=True, timeout=300)
                extract(next(Path(folder).glob("*.deb")), root)


def closure(names: list[str]) -> list[str]:
    """Packages with all that they depend on, without virtual ones."""
    kinds = "recommends suggests conflicts breaks replaces enhances".split()
    command = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in kinds), *names]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {line for line in output.splitlines() if line[:1].isalnum() and ":" not in line}
    return sorted(name for name in found if not name.startswith(LEFT_OUT))


def extract(archive: Path, root: Path) -> None:
    """Unpack an archive; links of the root filesystem for /lib and /bin are kept."""
    contents = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, capture_output=True).stdout
    untar(contents, root)


def installed(name: str) -> list[str]:
    """The files and links of a package that is installed here."""
    done = subprocess.run(["dpkg", "-L", name], capture_output=True, text=True)
    paths = [path for path in done.stdout.splitlines() if path.startswith("/") and path != "/."]
    return [path for path in paths if os.path.islink(path) or os.path.isfile(path)]


def copy(files: list[str], root: Path) -> None:
    """Copy files of this system."""
    command = ["tar", "--create", "--directory=/", "--verbatim-files-from", "--files-from=-"]
    words = "".join(f"{path[1:]}\n" for path in files).encode()
    untar(subprocess.run(command, input=words, check=True, capture_output=True).stdout, root)


def untar(contents: bytes, root: Path) -> None:
    """Unpack an archive of tar."""
    command = ["tar", "--extract", "--keep-directory-symlink", "--directory", root, "--exclude=./usr/share/doc"]
    subprocess.run(command, input=contents, check=True, stderr=subprocess.DEVNULL)
