"""Replays failures that users have reported of container runtimes, with ours, runc and crun, and shows what each says.

    python tools/replay-errors.py [--write docs/errors.md]

As root, with a busybox at /bin/busybox. Without --write the page's part goes to standard output; with it, it is put
between the two markers of the file. Paths of this run are shortened, nothing else is changed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests"))

from support import config as configs  # noqa: E402
from support.bundle import Bundle, make_base  # noqa: E402

RUNTIMES = {"pyruntime": str(CHECKOUT / "build/bin/pyruntime"), "runc": "runc", "crun": "crun"}
BEGIN, END = "<!-- replayed: begin -->", "<!-- replayed: end -->"
PREFIX = f"replay{os.getpid()}"
# crun 1.8 refuses cgroup v1 with a cgroup2 mount beside it that has controllers: all three run without that mount.
ALONE = "mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; "


class Failure:
    """One failure: how it was reported, and what makes it.

    prepare: changes the bundle. wrap: a shell's words before the runtime is called; user: in a user namespace."""

    def __init__(
        self,
        title: str,
        report: str,
        prepare: Callable[[Bundle], None],
        *,
        wrap: str = "",
        user: bool = False,
    ) -> None:
        self.title = title
        self.report = report
        self.prepare = prepare
        self.wrap = wrap
        self.user = user


def crlf(bundle: Bundle) -> None:
    """A script saved on Windows."""
    bundle.write("entrypoint.sh", "#!/bin/sh\r\necho hello\r\n", 0o755)
    bundle.config["process"]["args"] = ["/entrypoint.sh"]


def nothing(bundle: Bundle) -> None:
    """The bundle is right: it is the host."""


def little_memory(bundle: Bundle) -> None:
    """A limit below what any init needs."""
    bundle.config["linux"]["resources"] = {"memory": {"limit": 1 << 16, "swap": 1 << 16}}


def hook(bundle: Bundle) -> None:
    """A hook that says why it fails."""
    script = "echo 'no bridge br0: run setup-network first' >&2; exit 3"
    hooks: list[dict[str, Any]] = [{"path": "/bin/true"}, {"path": "/bin/sh", "args": ["sh", "-c", script]}]
    bundle.config["hooks"] = {"createRuntime": hooks}


def unmapped(bundle: Bundle) -> None:
    """A user that the maps do not cover."""
    configs.map_ids(bundle.config, size=1000)
    bundle.config["process"]["user"] = {"uid": 2000, "gid": 0}
    bundle.chown(200000, 200000)


def architecture(bundle: Bundle) -> None:
    """The image of another machine; 22 is s390x, the file's first 64 bytes are enough."""
    header = bytearray(Path("/bin/busybox").read_bytes()[:4096])
    header[18:20] = (22).to_bytes(2, "little")
    bundle.write("bin/app", bytes(header), 0o755)
    bundle.config["process"]["args"] = ["/bin/app"]


def typo(bundle: Bundle) -> None:
    """A fence that is not there, since its name is wrong: the container runs."""
    bundle.config["linux"]["maskedPath"] = ["/proc/kcore"]
    bundle.config["process"]["args"] = ["/bin/true"]


def sysctl(bundle: Bundle) -> None:
    """A parameter that the kernel has not."""
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forwards": "1"}


FAILURES = (
    Failure("A script saved on Windows", "the most often asked of all; crun#439, podman#10436", crlf),
    Failure(
        "A limit on namespaces is reached",
        "runc#4928, #4951, #5040: engines showed `can't get final child's PID from pipe: EOF`",
        nothing,
        wrap="echo 0 > /proc/sys/user/max_net_namespaces; ",
        user=True,
    ),
    Failure("A memory limit below what init needs", "runc#1980, moby#41167, crun#630, youki#10", little_memory),
    Failure("A hook fails", "runc#733, #1696, #3869, crun#132, #2248", hook),
    Failure("A user that the map does not cover", "podman's most frequent question about rootless", unmapped),
    Failure("An image for another machine", "`standard_init_linux.go: exec user process caused…`", architecture),
    Failure("A sysctl that is not there", "the path is named; which field, and why, is left to guess", sysctl),
    Failure("A typo in config.json", "runtime-tools#317, moby#32530: silently ignored", typo),
)


def replay(failure: Failure, folder: Path, base: Path) -> dict[str, str]:
    """Return what each runtime says: its name -> its standard error."""
    said = {}
    for name, program in RUNTIMES.items():
        place = folder / name
        place.mkdir()
        bundle = Bundle(place / "bundle", base, configs.default(["/bin/true"]))
        bundle.config["linux"]["cgroupsPath"] = f"/{PREFIX}/{name}"
        failure.prepare(bundle)
        bundle.save()
        call = f"{program} --root {place}/state run --bundle {bundle.path} {PREFIX}"
        command = ["unshare", "-m", "sh", "-c", ALONE + f"exec {call}"]
        if failure.user:
            command = ["unshare", "-Urm", "sh", "-c", failure.wrap + f"exec {call}"]
        with (place / "said").open("w+") as file:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=60).returncode
            file.seek(0)
            text = file.read()
        subprocess.run(
            ["unshare", "-m", "sh", "-c", f"{program} --root {place}/state delete --force {PREFIX}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        said[name] = shorten(text, place) + (f"\n(exit status {status})" if not text.strip() else "")
    return said


def shorten(text: str, place: Path) -> str:
    """Return the text without what differs from run to run."""
    text = text.replace(f"{place}/", "").replace(f"/{PREFIX}/", "/").replace(PREFIX, "box")
    text = re.sub(r'time="[^"]*" ', "", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z?: ", "", text)
    return re.sub(r"/proc/\d+/", "/proc/PID/", text).strip()


def section(failure: Failure, said: dict[str, str]) -> str:
    """Return a part of the page."""
    parts = [f"### {failure.title}\n\n{failure.report}\n"]
    for name, text in said.items():
        shown = "\n".join("    " + line for line in (text or "(nothing)").splitlines())
        parts.append(f"{name}:\n\n{shown}\n")
    return "\n".join(parts)


def versions() -> str:
    """Return the runtimes that were asked."""
    first = []
    for program in RUNTIMES.values():
        output = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        first.append(output.splitlines()[0].replace(" version ", " "))
    return ", ".join(first)


def remove_cgroups() -> None:
    """Take away the cgroup above those of the containers."""
    for top in ("/sys/fs/cgroup", *(str(path) for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir())):
        for name in (*(f"{PREFIX}/{one}" for one in RUNTIMES), PREFIX):
            try:
                os.rmdir(f"{top}/{name}")
            except OSError:
                continue


def main() -> None:
    """Replay everything, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: it runs containers")
    for name, program in list(RUNTIMES.items()):
        if shutil.which(program) is None:
            print(f"{name} is not installed, and left out", file=sys.stderr)
            del RUNTIMES[name]
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o711)
    try:
        base = make_base(folder / "base")
        sections = []
        for index, failure in enumerate(FAILURES):
            (folder / str(index)).mkdir(mode=0o711)
            sections.append(section(failure, replay(failure, folder / str(index), base)))
    finally:
        remove_cgroups()
        shutil.rmtree(folder, ignore_errors=True)
    text = f"{BEGIN}\nBy {versions()}.\n\n" + "\n".join(sections) + f"\n{END}"
    if options.write is None:
        print(text)
        return
    page = options.write.read_text()
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{options.write} has no lines {BEGIN} and {END}")
    options.write.write_text(before + text + after)


if __name__ == "__main__":
    main()
