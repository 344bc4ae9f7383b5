"""The state of a snapshot: whether it is used, why not, and what is in it."""

from __future__ import annotations

import hashlib
import os
import posix

from pyruntime.boot import snapshot
from pyruntime.boot.snapshot import file
from pyruntime.boot.snapshot.make import Place
from pyruntime.util import fastjson
from pyruntime.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


class Status:
    """state: fresh, old, none or off. reasons: why it is not fresh. used: by this very process."""

    def __init__(self, path: str, used: bool) -> None:
        self.path = path
        self.used = used
        self.state = "none"
        self.reasons: list[str] = []
        self.users = ""
        self.snapshot: file.Snapshot | None = None


def is_turned_off() -> bool:
    """Return whether the administrator wants none."""
    return os.path.exists(snapshot.TURNED_OFF)


def examine(place: Place) -> Status:
    """Look at a snapshot as the launcher does. Raises OSError."""
    found = Status(str(place.output), snapshot.started_from)
    try:
        info = place.output.stat()
        found.snapshot = file.read(place.output)
    except FileNotFoundError:
        found.reasons.append("there is none")
    except PermissionError:
        found.reasons.append("it is not for this user: pyruntime snapshot make --shared, as root, makes one for all")
    else:
        found.users = "all" if info.st_mode & 0o077 else f"uid {info.st_uid}"
        if found.snapshot is None:
            found.reasons.append("its file is not a whole snapshot of this version")
        else:
            found.reasons += file.differences(found.snapshot, str(place.archive))
        found.state = "old" if found.reasons else "fresh"
    if is_turned_off():
        found.reasons.insert(0, f"it is turned off by {snapshot.TURNED_OFF}")
    elif posix.environ.get(b"PYRUNTIME_SNAPSHOT") == b"0":
        found.reasons.insert(0, "it is turned off by PYRUNTIME_SNAPSHOT")
    else:
        return found
    found.state = "off"
    return found


def table(found: Status) -> str:
    """For a person."""
    lines = [f"{found.state:6}  {found.path}"]
    if found.snapshot is not None:
        made = found.snapshot
        by_content = sum(bool(one.id) for one in made.files.values())
        lines += [
            f"users   {found.users}",
            f"size    {made.size} bytes",
            f"kernel  {made.kernel}",
            f"files   {len(made.files)} compared at each start, {by_content} of them by content",
        ]
    lines += [f"because {reason}" for reason in found.reasons]
    return "\n".join(lines) + "\n"


def to_json(found: Status) -> str:
    """Return the same for programs, with every file."""
    answer: dict[str, object] = {
        "state": found.state,
        "path": found.path,
        "used": found.used,
        "reasons": found.reasons,
    }
    if found.snapshot is not None:
        answer |= {
            "users": found.users,
            "size": found.snapshot.size,
            "kernel": found.snapshot.kernel,
            "processor": found.snapshot.processor.hex(),
            "files": {name: {"size": one.size, "id": one.id.hex()} for name, one in found.snapshot.files.items()},
        }
    return fastjson.dumps(answer, indent=2) + "\n"


def bill_of_materials(found: Status) -> str:
    """Return the files whose code or data is in the snapshot, as CycloneDX 1.5. Digests are of the files as they are
    now: the snapshot is of these as long as its state is fresh."""
    components = []
    for name, one in (found.snapshot.files if found.snapshot is not None else {}).items():
        component: dict[str, object] = {"type": "file", "name": name, "bom-ref": name}
        try:
            with open(name, "rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            component["hashes"] = [{"alg": "SHA-256", "content": digest}]
        except OSError:
            pass
        if one.id and one.place and not name.endswith(".archive"):
            component["properties"] = [{"name": "build-id", "value": one.id.hex()}]
        components.append(component)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "pyruntime snapshot", "version": VERSION},
            "properties": [{"name": "state", "value": found.state}],
        },
        "components": components,
    }
    return fastjson.dumps(document, indent=2) + "\n"
