"""The host's /dev/null, which containers hold as a standard stream and below their masks: is it theirs to change?

Root of a container without a user namespace owns it as far as the kernel knows. A chmod(2) by one of the two ways takes
it away from every other user of the host; a chown(2) gives it to one. The `null` of these tests is one of their own.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from support.shim import wait_for

NAMES = ["CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE", "CAP_KILL"]
CHANGE = "for it in {}; do chmod 600 $it; chown 5:5 $it; touch -d 2001-01-01 $it; done; exit 7"
STREAMS = "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /dev/stdin /dev/stdout"
# Programs may still read and write what they were given.
USE = "echo lost && echo lost >&2 && cat && : </proc/self/fd/0 && echo >/proc/self/fd/1 && echo >/dev/stdout"


def hostile(container: Any, script: str) -> Any:
    box = container(sh=script)
    box.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), NAMES)
    box.bundle.save()
    return box


def attributes(status: os.stat_result) -> tuple[int, int, int, float]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime


def quietly(box: Any, *words: str) -> int:
    """Run a command with /dev/null for all of its streams, as engines do."""
    nothing = subprocess.DEVNULL
    command = [box.runtime.executable.path, "--root", str(box.runtime.root), *words]
    return subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, timeout=60).returncode


def test_as_a_stream_of_the_first_process(container: Any, null: os.stat_result) -> None:
    box = hostile(container, CHANGE.format(STREAMS))
    assert quietly(box, "run", "--bundle", str(box.bundle.path), box.id) == 7
    assert attributes(os.stat("/dev/null")) == attributes(null)


@pytest.mark.parametrize("own", ["", "rm", "rm && mkfifo", "rm && mkdir", "rm && ln -s zero", "rm && ln -s /proc/kmsg"])
def test_as_a_stream_of_an_exec(container: Any, null: os.stat_result, own: str) -> None:
    """Also where the container has made something else of its own /dev/null."""
    change = " && ".join(f"{word} /dev/null" for word in own.split(" && ")) if own else "true"
    box = hostile(container, f"{change} && touch /changed; sleep 100")
    assert quietly(box, "run", "--detach", "--bundle", str(box.bundle.path), box.id) == 0
    wait_for(lambda: (box.rootfs / "changed").exists(), "the container has changed its own")
    assert quietly(box, "exec", box.id, "sh", "-c", USE) == 0
    assert quietly(box, "exec", box.id, "sh", "-c", CHANGE.format(STREAMS)) == 7
    assert attributes(os.stat("/dev/null")) == attributes(null)


def test_as_a_mask(container: Any, null: os.stat_result) -> None:
    box = hostile(container, CHANGE.format("/proc/keys /proc/timer_list"))
    box.config["linux"]["maskedPaths"] = ["/proc/keys", "/proc/timer_list"]
    box.bundle.save()
    assert quietly(box, "run", "--bundle", str(box.bundle.path), box.id) == 7
    assert attributes(os.stat("/dev/null")) == attributes(null)


@pytest.mark.parametrize("user", [0, 1000])
def test_it_can_still_be_used(container: Any, user: int) -> None:
    box = container(sh=USE)
    box.config["process"]["user"] = {"uid": user, "gid": user}
    box.config["linux"]["maskedPaths"] = ["/proc/keys"]
    box.bundle.save()
    assert quietly(box, "run", "--bundle", str(box.bundle.path), box.id) == 0
    other = container(["/bin/sleep", "100"])
    other.config["process"]["user"] = {"uid": user, "gid": user}
    other.bundle.save()
    assert quietly(other, "run", "--detach", "--bundle", str(other.bundle.path), other.id) == 0
    assert quietly(other, "exec", other.id, "sh", "-c", USE) == 0
