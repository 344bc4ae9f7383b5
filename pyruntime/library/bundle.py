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
    """A bundle in a directory.

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
        """Create a bundle that runs args in new namespaces, without a terminal. Write its config.json.

        rootfs:  path of the root filesystem, absolute or relative to the bundle.
        process: members of `process` that replace those of the sample, such as env=["A=1"], cwd="/tmp".
        Raises FileExistsError if config.json exists."""
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
        """config.json as a dict, read on first use. Raises ConfigError if it cannot be read."""
        if self._config is None:
            self._config = load.load_config(str(self.path))
        return self._config

    def save(self) -> None:
        """Write config.json atomically."""
        temporary = self.path / f".config.json.{os.getpid()}"
        temporary.write_text(json.dumps(self.config, indent=2) + "\n")
        temporary.rename(self.path / "config.json")

    def add_hook(self, kind: str, function: Hook, timeout: int | None = None) -> None:
        """Add a function as a hook. A thread of this program calls it with the container's state (runtime-spec
        runtime.md, "State"); the hook fails if it raises. Call `save` afterwards. This program must still run when the
        hook is called.

        kind: prestart, createRuntime, poststart or poststop; others run in the container's namespace.
        timeout: seconds. Raises UsageError for another kind."""
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(entry(kind, function, timeout))

    def problems(self) -> list[Problem]:
        """Return the findings of the config, errors first. Needs no privileges, and does not examine the host."""
        return check.check(self.config)
