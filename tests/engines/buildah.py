"""A private buildah with the candidate for its `run --isolation oci`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support import leaks

from engines import command
from engines.candidate import Candidate
from engines.command import ENVIRONMENT, Result
from engines.daemon import Network

# buildah's own limits are above what root may set where CAP_SYS_RESOURCE is missing.
CONFIG = '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]\n'


class Buildah:
    """buildah with its storage in `folder` and a network namespace of its own."""

    def __init__(self, folder: Path, candidate: Candidate) -> None:
        (folder / "tmp").mkdir(parents=True)
        self.folder = folder
        self.candidate = candidate
        self.network = Network()
        config = folder / "containers.conf"
        config.write_text(CONFIG)
        self.env = {**ENVIRONMENT, "CONTAINERS_CONF": str(config), "TMPDIR": f"{folder}/tmp"}
        storage = [f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=overlay"]
        self.client = [*self.network.enter, "buildah", *storage]
        self.hint = f"buildah run --isolation oci --runtime {candidate.path} $(buildah from busybox) sh"

    def load(self, archive: Path) -> None:
        self("pull", f"docker-archive:{archive}")

    def __call__(self, *words: str, check: int | None = 0) -> Result:
        """Run a buildah command."""
        return command.run([*self.client, *words], check=check, env=self.env)

    def container(self, *flags: str) -> str:
        """Make a working container of the image: its name."""
        parent = f"--cgroup-parent=/{leaks.PREFIX}-buildah"
        return self("from", "--pull-never", parent, *flags, "busybox:latest").stdout.strip()

    def words(self, name: str, words: Sequence[str], flags: Sequence[str] = ()) -> list[str]:
        """The arguments of `run` in a working container."""
        return ["run", "--isolation=oci", f"--runtime={self.candidate.path}", *flags, name, "--", *words]

    def run(self, name: str, *words: str, flags: Sequence[str] = (), check: int | None = 0) -> Result:
        return self(*self.words(name, words, flags), check=check)

    def on_terminal(
        self, name: str, *words: str, talk: Sequence[tuple[str, str]] = (), check: int | None = 0
    ) -> Result:
        words = [*self.client, *self.words(name, words, ["--terminal"])]
        return command.run_on_terminal(words, talk, check=check, env=self.env)

    def stop(self) -> None:
        """Remove all working containers and give the network up."""
        self("rm", "--all", check=None)
        self.network.close()
