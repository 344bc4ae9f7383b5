"""features: what this runtime can do (runtime-spec features.md). Engines act on it: only what is true."""

from __future__ import annotations

from pyruntime.features.namespaces.namespaces import KINDS
from pyruntime.features.process import mempolicy
from pyruntime.features.process.capabilities import NUMBERS
from pyruntime.features.rootfs.mount_options import known_words
from pyruntime.features.security import seccomp_profile
from pyruntime.version import SPEC_VERSION, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


def features() -> dict[str, object]:
    """Return the features object of runtime-spec features.md and features-linux.md."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ],
        "mountOptions": known_words(),
        "linux": {
            "namespaces": sorted(KINDS),
            "capabilities": list(NUMBERS),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": seccomp_profile.features(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": list(mempolicy.MODES), "flags": list(mempolicy.FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"io.github.pyruntime.version": VERSION},
    }
