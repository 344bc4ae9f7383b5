"""What has no effect is told, with its place, and does not stop the container.

Source: runtime-spec config.md, "Extensibility"; config-linux.md.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.ours


def changed(config: dict, pointer: str, value: object) -> None:
    *above, name = pointer[1:].split("/")
    for key in above:
        config = config.setdefault(key, {})
    config[name] = value


@pytest.mark.parametrize(
    "pointer, value, words",
    [
        ("/windows", {"layerFolders": ["C:\\x"]}, "is for Windows, not for this platform"),
        ("/solaris", {"milestone": "x"}, "is for Solaris, not for this platform"),
        ("/freebsd", {"jail": {}}, "is for FreeBSD, not for this platform"),
        ("/zos", {"namespaces": []}, "is for z/OS, not for this platform"),
        ("/vm", {"kernel": {"path": "/k"}}, "is for virtual machines, not for this platform"),
        ("/process/commandLine", "cmd /c dir", "is for Windows, not for this platform"),
        ("/process/user/username", "ContainerAdministrator", "is for Windows, not for this platform"),
        ("/linux/rootPropagation", "shared", "did you mean rootfsPropagation?"),
        ("/linux/resources/memroy", {"limit": 1}, "did you mean memory?"),
        ("/process/capabilites", {}, "did you mean capabilities?"),
        ("/seccomp", {}, "did you mean /linux/seccomp?"),
        ("/linux/personality", {"domain": "LINUX", "flags": ["X"]}, "/linux/personality/flags"),
    ],
)
def test_it_is_told_and_the_container_runs(container, pointer, value, words):
    box = container(sh="echo runs")
    changed(box.config, pointer, value)
    result = box.run()
    assert result.stdout == "runs\n"
    line = next(line for line in result.stderr.splitlines() if pointer in line)
    assert "warning" in line
    assert words in line


@pytest.mark.parametrize("name", ["enableCMT", "enableMBM"])
def test_members_that_1_3_took_away(container, name):
    """The container is refused here for want of resctrl, but the warning comes first."""
    box = container(sh="echo runs")
    box.config["linux"]["intelRdt"] = {name: True}
    said = box.create(check=None).stderr
    assert f"/linux/intelRdt/{name}: has no effect" in said
    assert "enableMonitoring" in said


def test_annotations_of_any_name_are_kept_and_obeyed_by_nobody(container):
    """config.md: implementations MUST NOT fail on unknown annotation keys."""
    box = container(["/bin/sleep", "100"], annotations={"org.criu.config": "/x", "run.unknown": "krun", "a b": ""})
    result = box.create()
    assert result.stderr == ""
    assert box.state()["annotations"] == box.config["annotations"]
