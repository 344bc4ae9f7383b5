"""crun's annotations (`run.oci.*`): what is not served here is said, since it changes what the container is.

Served: keep_original_groups (features/process/user.py), pidfd_receiver (cli/create.py), hooks.stdout and hooks.stderr
(features/hooks.py). The table is in docs/compatibility.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.plan.request import Request

PREFIX = "run.oci."
_UNSERVED = {
    "run.oci.handler": "the program is run as any other, not by a library of virtual machines or WebAssembly",
    "run.oci.mount_context_type": "linux.mountLabel is always given as context=",
    "run.oci.seccomp.receiver": "use linux.seccomp.listenerPath",
    "run.oci.seccomp.plugins": "use linux.seccomp.listenerPath",
    "run.oci.seccomp_bpf_data": "linux.seccomp is what counts",
    "run.oci.systemd.force_cgroup_v1": "no hierarchy of cgroup v1 is mounted",
    "run.oci.delegate-cgroup": "the container has no cgroup below its own",
    "run.oci.timens_offset": "use linux.timeOffsets",
}


def warn(request: Request) -> None:
    """Note the annotations that have no effect."""
    annotations = request.config["annotations"]
    for name, words in _UNSERVED.items():
        if name in annotations:
            request.warn(f"/annotations/{name}: is not served: {words}")
    if annotations.get("run.oci.systemd.subgroup") and request.systemd_cgroup:  # "" asks for none
        request.warn("/annotations/run.oci.systemd.subgroup: is not served: the processes are in the scope itself")
    hooks = request.config.get("hooks") or {}
    for name in ("run.oci.hooks.stdout", "run.oci.hooks.stderr"):
        if name in annotations and (hooks.get("createContainer") or hooks.get("startContainer")):
            request.warn(f"/annotations/{name}: holds for hooks in the host's namespaces only")
