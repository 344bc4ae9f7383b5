"""tools/engines/try: a shell beside a private engine, with its client in PATH."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import leaks
from support.runtime import DEFAULT

from engines import image, machine
from engines.buildah import Buildah
from engines.candidate import Candidate, program
from engines.command import ENVIRONMENT
from engines.containerd import Containerd
from engines.docker import Docker
from engines.podman import Podman

RECORD = Path(__file__).resolve().parents[2] / "tools/engines/record"


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/engines/try", description="A shell with a private engine.")
    parser.add_argument("engine", choices=("containerd", "docker", "podman", "buildah"))
    parser.add_argument("--runtime", default=str(DEFAULT), help="name or path (default: that of the checkout)")
    parser.add_argument("--record", metavar="LOG", help="write to LOG how the engine calls the runtime")
    wanted = parser.parse_args()
    path = program(wanted.runtime)
    machine.cover()
    folder = Path(tempfile.mkdtemp(prefix=leaks.PREFIX, dir="/tmp"))
    folder.chmod(0o711)
    (folder / "bin").mkdir()
    if wanted.record:
        path = _script(folder / "bin" / Path(path).name, [str(RECORD), os.path.abspath(wanted.record), path])
    candidate = Candidate(Path(path).name, path)
    engine = {"containerd": Containerd, "docker": Docker, "podman": Podman, "buildah": Buildah}[wanted.engine](
        folder / wanted.engine, candidate
    )
    try:
        if isinstance(engine, Containerd | Docker):
            engine.start()
        engine.load(image.write(folder / "image.tar"))
        client = "ctr" if wanted.engine == "containerd" else wanted.engine
        _script(folder / "bin" / client, engine.client, engine.env)
        env = {**os.environ, "PATH": f"{folder}/bin:{ENVIRONMENT['PATH']}"}
        print(f"{engine.hint}\n(`exit` ends all of it)")
        subprocess.run([os.environ.get("SHELL") or "/bin/sh"], env=env, check=False)
    finally:
        engine.stop()
        machine.clear(folder)


def _script(path: Path, words: list[str], env: dict[str, str] | None = None) -> str:
    """Write a script that runs a command with the arguments it gets; returns its path."""
    variables = [f"{name}={value}" for name, value in (env or {}).items()]
    path.write_text(f'#!/bin/sh\nexec env {shlex.join([*variables, *words])} "$@"\n')
    path.chmod(0o755)
    return str(path)


if __name__ == "__main__":
    main()
