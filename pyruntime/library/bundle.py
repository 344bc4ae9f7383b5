"""A bundle: a directory with config.json and the root filesystem it names (runtime-spec bundle.md)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pyruntime.library.hooks import Hook, entry
from pyruntime.spec import check, load
from pyruntime.spec.problem import Problem
from pyruntime.spec.sample import sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.spec.sections import Config


class Bundle:
    """The bundle in a directory.

    path:   its absolute path.
    config: config.json as a dict; change it, then `save()`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._config: Config | None = None

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r})"

    @classmethod
    def make(
        cls, path: str | os.PathLike[str], rootfs: str | os.PathLike[str], args: list[str], **process: Any
    ) -> Bundle:
        """Write a new bundle: a container of its own namespaces that runs args without a terminal.

        rootfs:  its root filesystem, relative to the bundle or absolute.
        process: members of config.json's `process` in place of the sample's, such as env=["A=1"], cwd="/tmp".
        Raises FileExistsError when there is a config.json already."""
        bundle = cls(path)
        bundle.path.mkdir(parents=True, exist_ok=True)
        if (bundle.path / "config.json").exists():
            raise FileExistsError(bundle.path / "config.json")
        config = sample(rootless=os.geteuid() != 0)
        given: Any = {"args": list(args), "terminal": False, **process}
        config["process"].update(given)
        config["root"] = {"path": os.fspath(rootfs), "readonly": False}
        bundle._config = config
        bundle.save()
        return bundle

    @property
    def config(self) -> Config:
        """config.json, read at the first use. Raises ConfigError when it cannot be read."""
        if self._config is None:
            self._config = load.load_config(str(self.path))
        return self._config

    def save(self) -> None:
        """Write config.json: readers see the old one or the new one."""
        temporary = self.path / f".config.json.{os.getpid()}"
        temporary.write_text(json.dumps(self.config, indent=2) + "\n")
        temporary.rename(self.path / "config.json")

    def add_hook(self, kind: str, function: Hook, timeout: int | None = None) -> None:
        """Let a function be a hook. A thread of this program calls it with the container's state (runtime-spec
        runtime.md, "State"), and what it raises fails the hook. Save the bundle afterwards; this program must be there
        when the hook's time comes.

        kind: prestart, createRuntime, poststart or poststop; the others run in the container. timeout: seconds.
        Raises UsageError for another kind."""
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(entry(kind, function, timeout))

    def problems(self) -> list[Problem]:
        """Everything that is wrong with the config, errors before warnings; needs no root and asks no host."""
        return check.check(self.config)
