"""A busybox image in one archive that `ctr image import`, `docker load` and `podman load` all read.

It is an OCI image layout (image-spec image-layout.md) with docker's manifest.json beside it; no registry is asked.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from support.bundle import BUSYBOX

NAME = "docker.io/library/busybox:latest"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DIRECTORIES = "bin dev etc home home/alice proc root run sbin sys tmp usr usr/bin usr/sbin var var/run www"
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:alice:/home/alice:/bin/sh\n",
    "etc/group": "root:x:0:\nextra:x:500:alice\nalice:x:1000:\n",
    "www/index.html": "hello\n",
    "pause": "#!/bin/sh\nexec sleep 1000000\n",  # the infra container of podman's pods
}


def rootfs_tar() -> bytes:
    """The image's one layer: busybox with a hard link for each applet, so that masking one does not mask all."""
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in DIRECTORIES.split():
            mode = 0o1777 if name == "tmp" else 0o755
            tar.addfile(_entry(name, mode, type=tarfile.DIRTYPE, owner=1000 if name == "home/alice" else 0))
        _add_file(tar, "bin/busybox", Path(BUSYBOX).read_bytes(), 0o755)
        for applet in applets:
            if applet != "busybox":
                tar.addfile(_entry(f"bin/{applet}", 0o755, type=tarfile.LNKTYPE, link="bin/busybox"))
        for name, text in FILES.items():
            _add_file(tar, name, text.encode(), 0o755 if text.startswith("#!") else 0o644)
    return data.getvalue()


def write(path: Path, name: str = NAME, command: str = "/bin/sh") -> Path:
    """Write the archive of an image that runs `command` unless told otherwise; returns its path."""
    layer = rootfs_tar()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"PATH={PATH}"], "Cmd": [command]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": "busybox"}],
    }
    blobs: list[bytes] = []

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        blobs.append(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": _digest(data), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(_json(config), "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar")],
    }
    index = blob(_json(manifest), "manifest.v1+json")
    index["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "latest"}
    docker = {
        "Config": _blob_path(blobs[0]),
        "RepoTags": [name.removeprefix("docker.io/library/")],
        "Layers": [_blob_path(layer)],
    }
    with tarfile.open(path, "w") as tar:
        _add_file(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        for data in blobs:
            _add_file(tar, _blob_path(data), data)
        _add_file(tar, "index.json", _json({"schemaVersion": 2, "manifests": [index]}))
        _add_file(tar, "manifest.json", _json([docker]))
    return path


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _blob_path(data: bytes) -> str:
    return "blobs/" + _digest(data).replace(":", "/")


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _entry(name: str, mode: int, *, type: bytes = tarfile.REGTYPE, link: str = "", owner: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.linkname = mode, type, link
    info.uid = info.gid = owner
    return info


def _add_file(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = _entry(name, mode)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
