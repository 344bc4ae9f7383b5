"""Gets the OCI runtime-tools suite: its source from Debian 13, built with this Debian's Go and Go libraries.

Debian's library package leaves the programs out (cmd/, validation/), but the source package has them; it is
upstream commit e931285 of March 2023. tap/tap.go stands in for the one library that Debian lacks.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUITE = HERE.parent / "build/conformance/suite"
WORK = HERE.parent / "build/conformance/work"

SOURCE = "golang-github-opencontainers-runtime-tools"
VERSION = "0.9.0.109.ge931285"
SHA256 = "203989a1ea98cf2aaced79155bbda09270b20db19b03376dde91ab12e5e6a0fe"
RELEASE = "trixie"
TOOLS = "github.com/opencontainers/runtime-tools"
SPECS = Path("/usr/share/gocode/src/github.com/opencontainers/runtime-spec")
SPEC_VERSION = "spec-version.go"


class SuiteError(Exception):
    """The suite cannot be had; the message says what to do."""


def find() -> Path:
    """The folder of a built suite: $RUNTIME_TOOLS, or our own, which is built when it is not there yet."""
    chosen = os.environ.get("RUNTIME_TOOLS")
    if chosen:
        folder = Path(chosen).resolve()
        if not programs(folder):
            raise SuiteError(f"{folder}: no built runtime-tools; there, run: make runtimetest validation-executables")
        return folder
    if len(programs(SUITE)) == 0 or not (SUITE / "runtimetest").exists():
        build()
    return SUITE


def programs(folder: Path) -> dict[str, Path]:
    """Name -> executable of every program in the suite FOLDER."""
    return {path.parent.name: path for path in sorted(folder.glob("validation/*/*.t"))}


def spec_version(folder: Path) -> tuple[int, ...]:
    """Major and minor version of the specification that the suite in FOLDER was built with; 1.0 if that is unknown."""
    file = folder / SPEC_VERSION
    text = file.read_text() if file.exists() else ""
    numbers = [re.search(rf"^\s*Version{part} = (\d+)", text, re.M) for part in ("Major", "Minor")]
    return tuple(int(number[1]) for number in numbers if number) or (1, 0)


def build() -> None:
    """Install what is missing, fetch the source and build everything into SUITE (half a minute)."""
    install_packages()
    WORK.mkdir(parents=True, exist_ok=True)
    tarball = fetch_source()
    gopath = WORK / "go"
    tools = gopath / "src" / TOOLS
    tap = gopath / "src/github.com/mndrix/tap-go"
    shutil.rmtree(gopath, ignore_errors=True)
    tools.mkdir(parents=True)
    run("tar", "-xf", str(tarball), "--strip-components=1", "-C", str(tools))
    shutil.copytree(HERE / "tap", tap)

    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "GOPATH": f"{gopath}:/usr/share/gocode",
        "GOCACHE": str(WORK / "cache"),
    }
    go_list = ["go", "list", "./validation/..."]
    listed = subprocess.run(go_list, cwd=tools, env=environment, check=True, capture_output=True, text=True)
    names = [name for name in listed.stdout.split() if not name.endswith("/validation/util")]
    fresh = WORK / "suite"
    shutil.rmtree(fresh, ignore_errors=True)
    (WORK / "bin").mkdir(exist_ok=True)
    print(f"building {len(names)} programs", file=sys.stderr)
    # runtimetest runs inside the containers: nothing of the host's name services may be linked in.
    tags = ["-tags", "netgo osusergo"]
    version = ["-ldflags", f"-X main.version={VERSION}"]
    run(
        "go",
        "build",
        *tags,
        *version,
        "-o",
        str(fresh / "runtimetest"),
        "./cmd/runtimetest",
        cwd=tools,
        env=environment,
    )
    run("go", "build", "-o", str(WORK / "bin") + "/", *names, cwd=tools, env=environment)
    for program in sorted((WORK / "bin").iterdir()):
        folder = fresh / "validation" / program.name
        folder.mkdir(parents=True)
        program.rename(folder / f"{program.name}.t")
    shutil.copy(tools / "rootfs-amd64.tar.gz", fresh)
    shutil.copy(SPECS / "specs-go/version.go", fresh / SPEC_VERSION)
    shutil.rmtree(SUITE, ignore_errors=True)
    fresh.rename(SUITE)
    for leftover in ("cache", "bin", "apt"):
        shutil.rmtree(WORK / leftover, ignore_errors=True)


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Run COMMAND with its output on our stderr; SuiteError if it fails."""
    try:
        subprocess.run(command, cwd=cwd, env=env, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as e:
        raise SuiteError(f"{command[0]}: {e}") from e


def install_packages() -> None:
    """Install what is missing to fetch and build the suite; SuiteError if we may not."""
    run(str(HERE.parent / "tools/packages.sh"), "conformance")


def fetch_source() -> Path:
    """Download the source and return the checked tarball.

    apt gets a configuration of its own: the machine's sources may have no deb-src, and are not changed.
    """
    tarball = WORK / f"{SOURCE}_{VERSION}.orig.tar.xz"
    if not is_good(tarball):
        apt = WORK / "apt"
        for folder in ("lists/partial", "cache/archives/partial"):
            (apt / folder).mkdir(parents=True, exist_ok=True)
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (apt / "sources.list").write_text(f"deb-src [signed-by={keyring}] {mirror()} {RELEASE} main\n")
        (apt / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{apt}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
            f'Dir::State::lists "{apt}/lists";\nDir::Cache "{apt}/cache";\n'
            'Acquire::Languages "none";\nAPT::Sandbox::User "root";\n'
        )
        environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
        run("apt-get", "update", "-q", env=environment)
        wanted = f"{SOURCE}={VERSION}-1"
        run("apt-get", "source", "-q", "--tar-only", "--download-only", wanted, cwd=WORK, env=environment)
    if not is_good(tarball):
        raise SuiteError(f"{tarball}: not the file with SHA-256 {SHA256}")
    return tarball


def is_good(tarball: Path) -> bool:
    return tarball.exists() and hashlib.sha256(tarball.read_bytes()).hexdigest() == SHA256


def mirror() -> str:
    """The Debian mirror that this machine's apt uses."""
    targets = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    lines = subprocess.run(targets, capture_output=True, text=True, check=False).stdout.splitlines()
    for line in lines:
        site, _, release = line.partition(" ")
        if "security" not in line and release:
            return site
    raise SuiteError("no Debian mirror in this machine's apt sources")
