"""CVE-2025-31133 (runc to 1.2.7), CVE-2025-62161 (youki): files were masked with the *container's* /dev/null. A link
in its place makes the mask a mount of any file of procfs, writable."""

from __future__ import annotations

import pytest

# What a masked file is once the container runs; 1:3 is the null device. Not to standard output, which a runtime may
# have opened again by the link.
SCRIPT = "stat -L -c '%F %t:%T' /proc/version >/result"
NULL = "character special file 1:3\n"

CONTAINERS_NULL = """
from pyruntime.kernel import mount
def containers_null():
    return mount.clone_tree(NULL)
replace("features.rootfs.masks.null_device", containers_null)
replace("features.rootfs.devices._is_device", lambda found, kind, number: True)
"""


def mask_with_link(box, target: str) -> str:
    """Mask /proc/version with /dev/null a link of the image: what the mask shows; "" when it was refused."""
    (box.rootfs / "dev/null").symlink_to(target)
    (box.rootfs / "secret").write_text("secret\n")
    box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
    box.config["linux"]["maskedPaths"] = ["/proc/version"]
    return mask_shown(box)


def mask_shown(box) -> str:
    box.run(check=None)
    result = box.rootfs / "result"
    return result.read_text() if result.exists() else ""


VULNERABLE = pytest.mark.differs(runc="runc 1.1.5 masks with the container's /dev/null")


# A file of procfs whose content is the container's own: a runtime with the hole writes to it. Never one of the
# host's: /proc/sysrq-trigger would be the end of this machine.
@pytest.mark.parametrize(
    "target",
    [pytest.param("/secret", marks=VULNERABLE), pytest.param("/proc/sys/kernel/domainname", marks=VULNERABLE)],
)
def test_a_mask_is_the_null_device(container, target):
    """Refused, or masked with the true device."""
    shown = mask_with_link(container(sh=SCRIPT), target)
    assert shown in ("", NULL), shown


def test_the_null_device_itself(container):
    """The mask without an attack, so that the test above can tell."""
    box = container(sh=SCRIPT)
    box.config["linux"]["maskedPaths"] = ["/proc/version"]
    assert mask_shown(box) == NULL


@pytest.mark.ours
def test_the_containers_null_is_caught(container, weakened):
    box = container(sh=SCRIPT)
    null = box.rootfs / "dev/null"
    box.runtime = weakened(f"NULL = {str(null)!r}\n{CONTAINERS_NULL}")
    assert mask_with_link(box, str(box.rootfs / "secret")) == "regular file 0:0\n"
