"""Writes the bill of materials of a release, as CycloneDX 1.5: its files with their digests, and what they need.

    python packaging/make-sbom.py DIRECTORY OUTPUT

What is needed comes from pyproject.toml and from the fields of the Debian package. None of it is in the files, except
for what the compiler adds. Time: SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from datetime import UTC, datetime
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]


def components(folder: Path, version: str) -> list[dict[str, object]]:
    """One of type file for each file of the release."""
    found = []
    for path in sorted(folder.glob("pyruntime[-_]*")):
        if path.name.endswith(".cdx.json"):
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(
            {
                "type": "file",
                "bom-ref": path.name,
                "name": path.name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        )
    return found


def python_requirements() -> list[dict[str, object]]:
    """The packages that the wheel asks for."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    found = []
    for requirement in project["dependencies"]:
        name, versions = re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        found.append(_needed(f"pkg:pypi/{name}", name, versions))
    return found


def debian_requirements(package: Path) -> list[dict[str, object]]:
    """The packages that the Debian package depends on."""
    words = ["dpkg-deb", "-f", str(package), "Depends"]
    fields = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    needed: dict[str, list[str]] = {}
    for field in fields.strip().split(", "):
        name, _, versions = field.partition(" ")
        needed.setdefault(name, []).extend([versions.strip("()")] if versions else [])
    return [_needed(f"pkg:deb/debian/{name}", name, ", ".join(versions)) for name, versions in needed.items()]


def _needed(purl: str, name: str, versions: str) -> dict[str, object]:
    found: dict[str, object] = {"type": "library", "bom-ref": purl, "name": name, "purl": purl, "scope": "required"}
    if versions:
        found["properties"] = [{"name": "pyruntime:required-versions", "value": versions}]
    return found


def main() -> None:
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    version = subprocess.run([TOP / "packaging/version.sh"], check=True, capture_output=True, text=True).stdout.strip()
    files = components(folder, version)
    pypi = python_requirements()
    debian = {path.name: debian_requirements(path) for path in sorted(folder.glob("*.deb"))}
    libraries = {str(one["bom-ref"]): one for one in [*pypi, *(one for found in debian.values() for one in found)]}
    reference = f"pkg:generic/pyruntime@{version}"
    needs = {reference: [str(file["bom-ref"]) for file in files]}
    for file in files:
        name = str(file["bom-ref"])
        needs[name] = [str(one["bom-ref"]) for one in debian.get(name, [] if name.endswith(".tar.gz") else pypi)]
    time = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    digests = "".join(json.dumps(file["hashes"]) for file in files)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digests)}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": reference,
                "name": "pyruntime",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "purl": reference,
            },
        },
        "components": [*files, *(libraries[name] for name in sorted(libraries))],
        "dependencies": [{"ref": name, "dependsOn": needed} for name, needed in needs.items()],
    }
    output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
