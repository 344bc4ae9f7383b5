"""Containers of runc and crun, for what works on those too."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from support import kernel, proc
from support.bundle import Bundle

# crun refuses cgroup v1 while a cgroup2 mount with controllers is beside it; it gets a mount namespace without.
_CRUN = 'umount -l /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"'


def installed(kind: str) -> bool:
    """Whether the runtime is there."""
    return shutil.which(kind) is not None


class Other:
    """A running container of runc or crun; `pid` is its init's. kind: "runc" or "crun"."""

    def __init__(self, kind: str, bundle: Bundle, name: str, root: Path) -> None:
        self.kind = kind
        self.name = name
        self.root = root
        bundle.save()
        kernel.become_subreaper()
        file = root.parent / f"{name}.pid"
        self._run("run", "--detach", "--bundle", str(bundle.path), "--pid-file", str(file), name)
        self.pid = int(file.read_text())

    def _run(self, *words: str) -> None:
        command = [self.kind, "--root", str(self.root), *words]
        if self.kind == "crun":
            command = ["unshare", "-m", "sh", "-c", _CRUN, *command]
        # A file: the container would hold a pipe open.
        said = self.root.parent / f"{self.name}.said"
        with said.open("wb") as file:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=30 * proc.SLOW)
        assert result.returncode == 0, f"{' '.join(words)}: {said.read_text(errors='replace')}"

    def end(self) -> None:
        """Delete it, and reap its init."""
        self._run("delete", "--force", self.name)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass
        shutil.rmtree(self.root, ignore_errors=True)
