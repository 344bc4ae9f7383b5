"""The test machine: one qemu process, and its memory saved when it has booted."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from vm.image import DISK, Failure, call

MEMORY = 2048  # MiB
PROCESSORS = min(4, os.cpu_count() or 1)
SHARES = 3
BOOT = 300.0  # seconds
PR_SET_PDEATHSIG = 1

# Parameters of the kernel and of systemd for each layout of cgroups.
LAYOUTS = {
    "v2": "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1",
    "v1": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1",
    "hybrid": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0",
}
# Apart from the console, these save time: an emulated machine boots slowly, and is thrown away.
PARAMETERS = (
    "console=ttyS0 panic=-1 quiet nokaslr mitigations=off tsc=reliable random.trust_cpu=on systemd.show_status=no "
    "apparmor=1 security=apparmor audit=0 nowatchdog rcupdate.rcu_expedited=1 no_timer_check "
    "init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off"
)


def accelerator() -> str:
    """kvm when VMTEST_ACCEL says so. Else tcg, which is emulation: a /dev/kvm inside a virtual machine may be slower,
    or fail, and there is no telling from outside."""
    wanted = os.environ.get("VMTEST_ACCEL") or "tcg"
    if wanted not in ("kvm", "tcg"):
        raise Failure(f"VMTEST_ACCEL={wanted}: kvm or tcg wanted")
    return wanted


class Machine:
    """A running machine; leaving its context ends it. Its disks are thrown away.

    image: a directory of image.build(). disk: the root disk, image/disk.img or an overlay of it. shares: SHARES disks.
    memory: a file of saved memory to go on from. keep: write to `disk`, and open the monitor's socket."""

    def __init__(
        self, image: Path, layout: str, disk: Path, shares: list[Path], memory: Path | None = None, keep: bool = False
    ) -> None:
        self.sockets: dict[str, socket.socket] = {}
        self._log = tempfile.TemporaryFile()
        theirs, words = [], _hardware(image, layout, disk, shares, keep)
        for name in ("control", "out", "err", *(["monitor"] if keep else [])):
            ours, other = socket.socketpair()
            self.sockets[name] = ours
            theirs.append(other)
            words += ["-chardev", f"socket,id={name},fd={other.fileno()}"]
            if name == "monitor":
                words += ["-mon", "chardev=monitor,mode=control"]
            else:
                words += ["-device", f"virtserialport,chardev={name},name={name}"]
        if memory is not None:
            words += ["-incoming", f"exec:cat {shlex.quote(str(memory))}"]
        libc = ctypes.CDLL(None)
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[one.fileno() for one in theirs],
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        for one in theirs:
            one.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for one in self.sockets.values():
            one.close()
        self._log.close()

    def log(self) -> str:
        """Return the end of what qemu and the guest's console have written."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-2000:]

    def line(self, name: str, deadline: float, what: str) -> str:
        """Return a line from a socket. `what` names it for the failure when there is none before the deadline."""
        one, data = self.sockets[name], b""
        one.settimeout(0.5)
        while not data.endswith(b"\n"):
            if time.monotonic() > deadline or self.process.poll() is not None:
                how = "ended" if self.process.poll() is not None else "timed out"
                raise Failure(f"the machine {how} before {what}: {self.log()}")
            with contextlib.suppress(TimeoutError):
                data += one.recv(1)
        return data.decode(errors="replace").strip()

    def monitor(self, command: str, **arguments: object) -> Any:
        """Run a command of the QEMU Machine Protocol; what it returns."""
        request = json.dumps({"execute": command, "arguments": arguments})
        self.sockets["monitor"].sendall(request.encode() + b"\n")
        while True:
            answer = json.loads(self.line("monitor", time.monotonic() + 60, command))
            if "error" in answer:
                raise Failure(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def _hardware(image: Path, layout: str, disk: Path, shares: list[Path], keep: bool) -> list[str]:
    accel = accelerator()
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-M", "pc,usb=off,vmport=off,smm=off,hpet=off", "-m", str(MEMORY), "-smp", str(PROCESSORS)]
    if accel == "kvm":
        words += ["-accel", "kvm", "-cpu", "host"]
    else:
        words += ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,-la57,-svm,-vmx,-smap,-smep"]
    words += ["-kernel", str(image / "kernel.elf"), "-initrd", str(image / "initrd")]
    words += ["-append", f"{PARAMETERS} {LAYOUTS[layout]}", "-serial", "stdio"]
    for number, file in enumerate([disk, *shares]):
        kind = "qcow2" if file.suffix == ".qcow2" else "raw"
        thrown = "" if keep and number == 0 else ",snapshot=on"
        words += ["-drive", f"if=none,id=d{number},file={file},format={kind},cache=unsafe{thrown}"]
        words += ["-device", f"virtio-blk-pci,drive=d{number},addr={4 + number:#x}"]
    return [*words, "-device", "virtio-serial-pci,addr=0x3", "-device", "virtio-rng-pci,addr=0x10"]


def empty_disks(folder: Path) -> list[Path]:
    """Disks for the directories to share. A saved guest has seen them already: number and size must not vary."""
    disks = [folder / f"share{number}.img" for number in range(SHARES)]
    for path in disks:
        with open(path, "wb") as file:
            file.truncate(DISK)
    return disks


def saved(image: Path, layout: str) -> tuple[Path, Path]:
    """Return the overlay of the root disk and the memory of a machine that has booted, made when they are not there."""
    version = call("qemu-system-x86_64", "--version")
    source = Path(__file__).read_text()  # the hardware must be the same
    key = repr((version, source, accelerator(), PROCESSORS)).encode()
    base = f"{layout}-{hashlib.sha256(key).hexdigest()[:10]}"
    disk, memory = image / f"{base}.qcow2", image / f"{base}.memory"
    if memory.exists() and disk.exists():
        return disk, memory
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vmtest-", dir=image) as folder:
        overlay, dump = Path(folder) / "disk.qcow2", Path(folder) / "memory"
        call("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image / "disk.img"), overlay)
        with Machine(image, layout, overlay, empty_disks(Path(folder)), keep=True) as machine:
            machine.line("control", time.monotonic() + BOOT, "it was READY")
            time.sleep(5)  # what systemd still does after the last unit
            machine.line("monitor", time.monotonic() + 10, "the monitor's greeting")
            machine.monitor("qmp_capabilities")
            machine.monitor("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            machine.monitor("migrate", uri=f"exec:cat >{shlex.quote(str(dump))}")
            while (status := machine.monitor("query-migrate").get("status")) != "completed":
                if status in ("failed", "cancelled"):
                    raise Failure(f"saving the memory has {status}")
                time.sleep(0.1)
            machine.monitor("quit")
            machine.process.wait(30)
        overlay.rename(disk)
        dump.rename(memory)
    print(f"booted with cgroup {layout} in {time.monotonic() - begin:.0f} s", flush=True)
    return disk, memory
