"""CVE-2019-16884 (runc to 1.0.0-rc8, crun before 0.10): the image brings a volume for /proc, so that the security
label is written into a file of the attacker's and never taken on."""

from __future__ import annotations

import pytest

PROFILE = "a-profile-that-is-not-loaded"
BY_PATH = """
import posix
replace("features.rootfs.destination._refuse_inside_proc", lambda *arguments: None)
def write(proc_fd, attribute, value):
    fd = posix.open(f"/proc/self/attr/{attribute}", posix.O_WRONLY)
    posix.write(fd, value.encode())
    posix.close(fd)
replace("features.security.labels.write", write)
"""


def fake_proc(host):
    """A directory that looks like /proc to who only writes labels."""
    for name in ("self/attr", "thread-self/attr", "1/attr"):
        for file in ("exec", "apparmor/exec"):
            path = host / "fake" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    return host / "fake"


def written(fake) -> list[str]:
    return [str(path.relative_to(fake)) for path in fake.rglob("exec") if path.read_text()]


def create(box, fake, *, through_link: bool = False, instead: bool = False) -> None:
    """Mount the fake on /proc, after the true one or in its place."""
    destination = "/proc"
    if through_link:
        (box.rootfs / "data").symlink_to("proc")
        destination = "/data"
    bind = {"destination": destination, "type": "bind", "source": str(fake), "options": ["rbind", "rw"]}
    if instead:
        box.config["mounts"][0] = bind
    else:
        box.config["mounts"].append(bind)
    box.process["apparmorProfile"] = PROFILE
    box.process["args"] = ["/bin/true"]
    box.run(check=None)


@pytest.mark.parametrize("instead", [True, False], ids=["in its place", "over it"])
@pytest.mark.parametrize("through_link", [True, False], ids=["link", "path"])
def test_no_label_goes_astray(container, host, through_link, instead):
    fake = fake_proc(host)
    create(container(), fake, through_link=through_link, instead=instead)
    assert written(fake) == []


@pytest.mark.ours
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/proc/sys", "/proc/self", "/data"])
def test_nothing_is_mounted_over_proc(container, host, destination, kind):
    box = container()
    (box.rootfs / "data").symlink_to("proc/self")
    options = ["rbind"] if kind == "bind" else []
    source = str(fake_proc(host))
    box.config["mounts"].append({"destination": destination, "type": kind, "source": source, "options": options})
    assert box.create(check=None).code != 0
    assert "inside /proc" in box.created.stderr


@pytest.mark.ours
def test_a_fake_proc_is_caught(container, host, weakened):
    box = container()
    box.runtime = weakened(BY_PATH)
    fake = fake_proc(host)
    create(box, fake)
    assert written(fake) == ["self/attr/apparmor/exec"]
