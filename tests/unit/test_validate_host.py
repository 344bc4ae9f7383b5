"""validate against this host: what is missing is found before anybody runs it, without root."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from support import kernel
from support.command_line import pyruntime

KINDS = ("pid", "network", "ipc", "uts", "mount")


class Sample:
    """A bundle with one program, and a config that is right for this host."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rootfs = path / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        self.program("bin/tool", b"#!/bin/tool\n")
        self.process: dict[str, Any] = {"cwd": "/", "args": ["tool"], "env": ["PATH=/usr/bin:/bin"]}
        self.linux: dict[str, Any] = {"namespaces": [{"type": kind} for kind in KINDS]}
        self.config: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": self.process,
            "linux": self.linux,
            "mounts": [],
        }

    def program(self, name: str, content: bytes, mode: int = 0o755) -> None:
        path = self.rootfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)

    def validate(self, *flags: str) -> list[dict[str, Any]]:
        """The findings, but for what every ordinary user is told."""
        (self.path / "config.json").write_text(json.dumps(self.config, indent=2))
        result = pyruntime(*flags, "validate", "--format", "json", str(self.path))
        found = json.loads(result.stdout)
        assert result.returncode == int(any(one["severity"] == "error" for one in found)), result.stderr
        return [one for one in found if one["rule"] != "rootless"]

    def one(self, pointer: str, *words: str, severity: str = "error", flags: tuple[str, ...] = ()) -> dict[str, Any]:
        """The only finding, which is at this pointer and has the words in it."""
        found = self.validate(*flags)
        assert [one["pointer"] for one in found] == [pointer], found
        text = " ".join(found[0][part] for part in ("message", "why", "hint"))
        for word in words:
            assert word in text, found
        assert found[0]["severity"] == severity
        return found[0]


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path)


def test_nothing_is_wrong(sample: Sample) -> None:
    assert sample.validate() == []


def test_no_rootfs(sample: Sample) -> None:
    sample.config["root"]["path"] = "rootsf"
    sample.one("/root/path", "no such file or directory", "did you mean rootfs?")


# The program


def test_no_program(sample: Sample) -> None:
    sample.process["args"] = ["toll"]
    sample.one("/process/args/0", "in no directory of $PATH", "/usr/bin:/bin", "did you mean tool?")


def test_no_program_by_path(sample: Sample) -> None:
    sample.process["args"] = ["/bin/tools"]
    sample.one("/process/args/0", "/bin/tools is not in the rootfs", "did you mean tool?")


def test_a_program_that_a_mount_may_bring(sample: Sample, tmp_path: Path) -> None:
    sample.process["args"] = ["/bin/other"]
    (tmp_path / "data").mkdir()
    sample.config["mounts"] = [{"destination": "/bin", "type": "bind", "source": "data"}]
    sample.one("/process/args/0", "a mount may bring it", severity="warning")


def test_a_program_that_is_not_executable(sample: Sample) -> None:
    sample.program("bin/tool", b"#!/bin/tool\n", 0o644)
    sample.one("/process/args/0", "/bin/tool is not executable", "chmod +x")


def test_a_program_that_is_a_directory(sample: Sample) -> None:
    sample.process["args"] = ["/bin"]
    sample.one("/process/args/0", "/bin is not a regular file")


def test_a_script_with_carriage_returns(sample: Sample) -> None:
    sample.program("bin/tool", b"#!/bin/tool\r\n")
    sample.one("/process/args/0", "CRLF", "dos2unix")


def test_a_script_without_its_interpreter(sample: Sample) -> None:
    """Judged in the rootfs, not on the host, which has a /bin/sh."""
    sample.program("bin/tool", b"#!/bin/sh\n")
    sample.one("/process/args/0", "/bin/sh", "put /bin/sh into the image")


def test_a_program_for_another_machine(sample: Sample) -> None:
    machine = 22 if os.uname().machine != "s390x" else 62
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, machine, 1)
    sample.program("bin/tool", header + bytes(100))
    sample.one("/process/args/0", "use an image for this architecture")


def test_a_link_out_of_the_rootfs_stays_inside(sample: Sample) -> None:
    (sample.rootfs / "bin/link").symlink_to("../../../../bin/sh")
    sample.process["args"] = ["/bin/link"]
    sample.one("/process/args/0", "/bin/link is not in the rootfs")


def test_a_working_directory_that_is_a_file(sample: Sample) -> None:
    sample.process["cwd"] = "/bin/tool"
    sample.one("/process/cwd", "is not a directory")


# Mounts and hooks


def test_a_missing_source(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mount = {"destination": "/d", "type": "bind", "source": f"{tmp_path}/date", "options": ["rbind"]}
    sample.config["mounts"] = [mount]
    sample.one("/mounts/0/source", f"{tmp_path}/date is missing", "did you mean data?")


def test_a_source_whose_owners_cannot_be_mapped(sample: Sample) -> None:
    if os.geteuid() != 0:
        pytest.skip("mapped mounts are for root only, which is what would be said")
    maps = [{"containerID": 0, "hostID": 1000, "size": 1}]
    mount = {"destination": "/d", "type": "bind", "source": "/proc/sys", "options": ["bind"]}
    sample.config["mounts"] = [{**mount, "uidMappings": maps, "gidMappings": maps}]
    sample.one("/mounts/0/uidMappings", "/proc/sys is on proc", "ext4")


def test_systemd_that_is_not_running(sample: Sample) -> None:
    if Path("/run/systemd/system").exists():
        pytest.skip("systemd is running")
    sample.linux["cgroupsPath"] = "a.slice:b:c"
    sample.one("", "systemd is not running", flags=("--systemd-cgroup",))


def test_an_unknown_filesystem(sample: Sample) -> None:
    sample.config["mounts"] = [{"destination": "/d", "type": "tmpsf", "source": "none"}]
    sample.one("/mounts/0/type", "'tmpsf'", "did you mean tmpfs?")


def test_a_misspelt_option(sample: Sample) -> None:
    """runtime-tools#317, moby#32530: it goes to the filesystem without a word."""
    options = ["nosuidd", "size=1m"]
    sample.config["mounts"] = [{"destination": "/d", "type": "tmpfs", "source": "none", "options": options}]
    sample.one("/mounts/0/options", "'nosuidd'", "did you mean nosuid?", severity="warning")


def test_an_option_that_the_filesystem_refuses(sample: Sample) -> None:
    """The filesystem itself is asked, which only root may."""
    if os.geteuid() != 0:
        pytest.skip("only root may ask a filesystem for its options")
    mount = {"destination": "/d", "type": "tmpfs", "source": "none"}
    sample.config["mounts"] = [{**mount, "options": ["size=1m", "mode=755", "nr_inodes=10"]}]
    assert sample.validate() == []
    sample.config["mounts"] = [{**mount, "options": ["size=much"]}]
    sample.one("/mounts/0/options", "'size=much'", "Bad value for 'size'")
    sample.config["mounts"] = [{**mount, "options": ["unheard=1"]}]
    sample.one("/mounts/0/options", "Unknown parameter 'unheard'")
    long = {"destination": "/d", "type": "overlay", "source": "none", "options": ["lowerdir=" + "/lower:" * 60]}
    sample.config["mounts"] = [long]
    assert sample.validate() == []  # fsconfig(2) takes no more than 255 bytes, mount(2) does


def test_a_directory_on_a_file(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mount = {"destination": "/bin/tool", "type": "bind", "source": "data", "options": ["bind"]}
    sample.config["mounts"] = [mount]
    found = {one["pointer"]: one for one in sample.validate()}
    assert "is a directory, and /bin/tool in the rootfs is a file" in found["/mounts/0/destination"]["message"]
    hides = {"destination": "/bin", "type": "tmpfs", "source": "none"}
    sample.config["mounts"] = [hides, mount]
    assert "/mounts/1/destination" not in {one["pointer"] for one in sample.validate()}


def test_a_filesystem_that_a_user_namespace_cannot_mount(sample: Sample) -> None:
    sample.linux["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    sample.linux.update(uidMappings=mapping, gidMappings=[{**mapping[0], "hostID": os.getegid()}])
    sample.config["mounts"] = [{"destination": "/d", "type": "hugetlbfs", "source": "none"}]
    if "hugetlbfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no hugetlbfs")
    sample.one("/mounts/0/type", "user namespace", "bind it")


def test_hooks(sample: Sample, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_bytes(b"#!/bin/sh\n")
    sample.config["hooks"] = {"createRuntime": [{"path": f"{tmp_path}/hokk"}]}
    sample.one("/hooks/createRuntime/0/path", "is missing", "did you mean hook?")
    sample.config["hooks"] = {"poststop": [{"path": str(hook)}]}
    sample.one("/hooks/poststop/0/path", "is not executable")
    hook.chmod(0o755)
    assert sample.validate() == []
    hook.write_bytes(b"#!/bin/sh\r\n")
    sample.one("/hooks/poststop/0/path", "CRLF")


# The kernel and its administration


def test_namespaces_by_path(sample: Sample) -> None:
    sample.linux["namespaces"][1] = {"type": "network", "path": "/proc/self/ns/uts"}
    sample.one("/linux/namespaces/1/path", "is a uts namespace, not a network namespace")
    sample.linux["namespaces"][1] = {"type": "network", "path": "/proc/4194305/ns/net"}
    sample.one("/linux/namespaces/1/path", "is missing", "may be gone")


def test_ids_outside_of_the_maps(sample: Sample) -> None:
    sample.linux["namespaces"].append({"type": "user"})
    sample.linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    sample.linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    sample.process["user"] = {"uid": 5, "gid": 0}
    sample.one("/process/user/uid", "no id 5", "linux.uidMappings")


def test_a_sysctl_that_is_not_there(sample: Sample) -> None:
    sample.linux["sysctl"] = {"net.ipv4.ip_forwardd": "1"}
    sample.one("/linux/sysctl/net.ipv4.ip_forwardd", "did you mean ip_forward?")


def test_cpus_and_pages_and_disks_that_are_not_there(sample: Sample) -> None:
    if not any("cpuset" in line for line in Path("/proc/self/cgroup").read_text().splitlines()):
        pytest.skip("no cpuset controller here")
    sample.linux["resources"] = {"cpu": {"cpus": "0-4095"}}
    sample.one("/linux/resources/cpu/cpus", "this host has no CPU", "it has 0")


def test_a_block_device_that_is_not_there(sample: Sample) -> None:
    sample.linux["resources"] = {"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 100}]}}
    found = {one["pointer"]: one for one in sample.validate()}
    assert "4000:1" in found["/linux/resources/blockIO/throttleReadBpsDevice/0"]["message"]


def test_an_apparmor_profile_where_there_is_no_apparmor(sample: Sample) -> None:
    if kernel.has_apparmor():
        pytest.skip("AppArmor is enabled")
    sample.process["apparmorProfile"] = "docker-default"
    sample.one("/process/apparmorProfile", "docker-default is not applied", severity="warning")


def test_a_seccomp_profile_with_an_agent_that_is_not_there(sample: Sample) -> None:
    sample.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/nosuch/agent",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    sample.one("/linux/seccomp/listenerPath", "no listener")


def test_a_network_device_that_is_not_there(sample: Sample) -> None:
    sample.linux["netDevices"] = {"loo": {}}
    found = {one["pointer"]: one for one in sample.validate()}
    assert "did you mean lo?" in found["/linux/netDevices/loo"]["hint"]


def test_without_root_and_without_a_place_for_state(sample: Sample, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("run as an ordinary user already")
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    sample.process["args"] = ["toll"]
    (sample.path / "config.json").write_text(json.dumps(sample.config))
    child = os.fork()
    if child == 0:
        os.environ.pop("XDG_RUNTIME_DIR", None)
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            result = pyruntime("validate", str(sample.path))
            os._exit(int("did you mean tool?" not in result.stdout) * 2 + int("only root can run" not in result.stdout))
        except PermissionError:
            os._exit(77)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 77:
        pytest.skip("the interpreter cannot be reached by an ordinary user")
    assert status == 0


# The forms


def test_sarif_is_by_its_standard(sample: Sample) -> None:
    """SARIF 2.1.0: what code hosts ask for is there, and the region is the line of the field."""
    sample.process["args"] = ["toll"]
    (sample.path / "config.json").write_text(json.dumps(sample.config, indent=2))
    result = pyruntime("validate", "--format", "sarif", str(sample.path))
    log = json.loads(result.stdout)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    names = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    one = next(one for one in run["results"] if one["ruleId"] == "program")
    assert names == {one["ruleId"] for one in run["results"]}
    assert one["level"] in ("error", "warning", "note", "none")
    place = one["locations"][0]["physicalLocation"]
    line = (sample.path / "config.json").read_text().splitlines()[place["region"]["startLine"] - 1]
    assert '"toll"' in line and line[place["region"]["startColumn"] - 1] == '"'
    assert place["artifactLocation"]["uri"].endswith("/config.json")


def test_annotations_name_file_and_line(sample: Sample) -> None:
    sample.process["args"] = ["toll"]
    (sample.path / "config.json").write_text(json.dumps(sample.config, indent=2))
    lines = pyruntime("validate", "--format=github", str(sample.path)).stdout.splitlines()
    assert any(line.startswith(f"::error file={sample.path}/config.json,line=") for line in lines)
