"""Real engines with a candidate as their runtime: containerd, dockerd, podman, buildah.

Each engine is a private instance: a network namespace of its own, its files below one directory of this session, an
empty /run. `ENGINES_RUNTIME` names the candidates, separated by commas: pyruntime (the default) and runc, whose
results are the baseline. `ENGINES_FROM` names a directory with containerd and docker of another release, as
`tools/engines/fetch` makes it.
"""

import pytest

HELPERS = "buildah command containerd daemon docker podman"
pytest.register_assert_rewrite(*(f"engines.{name}" for name in HELPERS.split()))
