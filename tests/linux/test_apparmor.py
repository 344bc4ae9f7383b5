"""process.apparmorProfile, and exec's --apparmor: a loaded profile holds. Needs AppArmor (`make test-vm`)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from support import proc
from support.runtime import ENVIRONMENT

# What is not allowed is denied: /secret has no rule.
PROFILE = """
profile pyruntime-test flags=(attach_disconnected,mediate_deleted) {
  network, capability, signal, ptrace, unix, mount, umount,
  / r,
  /{bin,dev,etc,proc,sys,usr,lib,tmp}/** mrwlkix,
  /open rw,
}
profile pyruntime-other flags=(attach_disconnected,mediate_deleted) {
  network, capability, signal, ptrace, unix,
  /** mrwlkix,
  deny /open rw,
}
"""


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two loaded profiles."""
    if not os.path.isdir("/sys/kernel/security/apparmor"):
        pytest.skip("needs AppArmor: see make test-vm")
    parser = shutil.which("apparmor_parser", path=ENVIRONMENT["PATH"])
    if parser is None:
        pytest.skip("apparmor_parser is not installed")
    file = tmp_path_factory.mktemp("apparmor") / "profiles"
    file.write_text(PROFILE)
    subprocess.run([parser, "--skip-cache", "--replace", str(file)], check=True, timeout=60 * proc.SLOW)
    yield
    subprocess.run([parser, "--remove", str(file)], check=True, timeout=60 * proc.SLOW)


def test_the_profile_holds(container, profiles):
    box = container(sh="cat /open; cat /secret; cat /proc/self/attr/current")
    box.bundle.write("open", "open\n")
    box.bundle.write("secret", "secret\n")
    box.process["apparmorProfile"] = "pyruntime-test"
    result = box.run(check=None)
    assert "open\n" in result.stdout
    assert "secret\n" not in result.stdout
    assert "ermission denied" in result.stderr
    assert "pyruntime-test (enforce)" in result.stdout


def test_exec_has_the_profile_of_the_container_or_the_one_of_its_flag(container, profiles):
    box = container(["/bin/sleep", "100"])
    box.bundle.write("open", "open\n")
    box.bundle.write("secret", "secret\n")
    box.process["apparmorProfile"] = "pyruntime-test"
    box.create()
    box.start()
    words = ["sh", "-c", "cat /open /secret 2>/dev/null; cat /proc/self/attr/current"]
    assert box.runtime.run("exec", box.id, *words).stdout == "open\npyruntime-test (enforce)\n"
    told = box.runtime.run("exec", "--apparmor", "pyruntime-other", box.id, *words).stdout
    assert told == "secret\npyruntime-other (enforce)\n"


def test_a_profile_that_is_not_loaded_is_named(container, profiles):
    box = container(["/bin/true"])
    box.process["apparmorProfile"] = "pyruntime-nosuch"
    result = box.create(check=1)
    assert "/process/apparmorProfile" in result.stderr
    assert "pyruntime-nosuch" in result.stderr
