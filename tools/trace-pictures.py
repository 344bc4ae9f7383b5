"""Draw the traces in docs/images/, of containers that are run for it. Needs root.

    python tools/trace-pictures.py [ROUNDS]

Of each command the fastest of ROUNDS (30) is drawn, which other load of the machine disturbed least.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
PICTURES = CHECKOUT / "docs/images"
RUNTIME = CHECKOUT / "build/bin/pyruntime"
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

from support.bundle import make_base  # noqa: E402

from pyruntime.spec.sample import sample  # noqa: E402
from pyruntime.trace import event_format, svg  # noqa: E402


def call(*words: str, check: bool = True) -> None:
    """Run the runtime."""
    with open(os.devnull, "r+b") as null:
        subprocess.run([RUNTIME, *words], check=check, stdin=null, stdout=null, stderr=null)


def one_round(folder: Path, number: int) -> list[Path]:
    """Run each command once for a container. Return the paths of their traces."""
    id, root = "box", str(folder / "state")
    found = []
    for command, words in (
        ("create", ("--bundle", str(folder / "box"))),
        ("start", ()),
        ("exec", ()),
        ("delete", ("--force",)),
    ):
        file = folder / f"{command}.{number}.json"
        program = ("/bin/true",) if command == "exec" else ()
        call("--root", root, command, "--trace", str(file), *words, id, *program)
        found.append(file)
    file = folder / f"failed.{number}.json"
    call("--root", root, "create", "--trace", str(file), "--bundle", str(folder / "wrong"), id, check=False)
    return [*found, file]


def draw(files: list[Path], name: str, folder: Path) -> None:
    """Draw the fastest of these traces."""
    traces = []
    for file in files:
        # A temporary directory's name says nothing to a reader.
        data: dict[str, Any] = json.loads(file.read_text().replace(str(folder), "/run/bundles"))
        traces.append(event_format.from_json(data))
    best = min(traces, key=lambda trace: trace.whole.duration)
    best.pids = {track: 1000 + at for at, track in enumerate(best.pids)}  # so that pids do not differ between pictures
    (PICTURES / f"{name}.svg").write_text(svg.draw(best))
    if name == "trace-create":
        init = min((trace.only(event_format.INIT) for trace in traces), key=lambda trace: trace.whole.duration)
        init.pids = {event_format.PARENT: 1001}
        (PICTURES / f"{name}-init.svg").write_text(svg.draw(init, event_format.INIT))
    print(f"{name}: {best.whole.duration / 1e6:.2f} ms")


def main() -> None:
    """Make docs/images/trace-*.svg."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory(prefix="traces-") as name:
        folder = Path(name)
        for bundle in ("box", "wrong"):
            (folder / bundle).mkdir()
            make_base(folder / bundle / "rootfs")
            config = sample(rootless=False)
            config["process"].update(args=["/bin/sleep", "1000"], terminal=False)
            config["linux"]["cgroupsPath"] = "/box"
            if bundle == "wrong":
                source = {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro"]}
                config["mounts"].append(source)
            (folder / bundle / "config.json").write_text(json.dumps(config))
        taken = [one_round(folder, number) for number in range(rounds)]
        for files in zip(*taken, strict=True):
            draw(list(files), f"trace-{files[0].name.partition('.')[0]}", folder)


if __name__ == "__main__":
    main()
