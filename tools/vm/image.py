"""The disk, kernel and initramfs of the test machine, made of Debian packages of the host's own release."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

GUEST = Path(__file__).parent / "guest"
# The cloud kernels have the drivers of virtual machines only, and few modules.
KERNELS = ("linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64")
DRIVERS = ("virtio_pci", "virtio_blk", "virtio_console", "overlay")  # of the initramfs
MODULES = ("overlay", "veth", "bridge", "tun", "fuse", "loop", "dummy", "unix_diag")
DISK = 4 << 30  # bytes, sparse

# Files of the guest. The user may run containers: subordinate ids, and controllers delegated to its manager.
FILES = {
    "etc/hostname": "vm\n",
    "etc/hosts": "127.0.0.1 localhost vm\n::1 localhost\n",
    "etc/fstab": "",
    "etc/machine-id": "76d7e57000000000000000000000cafe\n",
    "etc/subuid": "tester:100000:65536\n",
    "etc/subgid": "tester:100000:65536\n",
    "etc/systemd/system/user@.service.d/delegate.conf": "[Service]\nDelegate=cpu cpuset io memory pids\n",
    "etc/systemd/system.conf.d/vm.conf": "[Manager]\nDefaultTimeoutStartSec=300\nShowStatus=no\n",
    "etc/systemd/journald.conf.d/vm.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n",
    "etc/sysctl.d/vm.conf": "kernel.unprivileged_userns_clone=1\nnet.ipv4.ping_group_range=0 2147483647\n"
    # qemu translates code for the address it is at: code whose address differs between processes is translated again.
    "kernel.randomize_va_space=0\n",
    "var/lib/systemd/linger/tester": "",
}


class Failure(Exception):
    """What could not be done, for a person to read."""


def cache() -> Path:
    """Return where images are kept: VMTEST_CACHE, or build/vm of the checkout."""
    wanted = os.environ.get("VMTEST_CACHE")
    return Path(wanted) if wanted else GUEST.parents[2] / "build/vm"


def name() -> str:
    """Return the name of the image: another one when anything that goes into it is."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(GUEST.iterdir()):
        digest.update(file.read_bytes())
    digest.update(release().encode())
    return f"image-{digest.hexdigest()[:12]}"


def release() -> str:
    """Return the code name of the host's Debian."""
    found = re.search(r"^ID=debian\b", text := Path("/etc/os-release").read_text(), re.M)
    version = re.search(r"^VERSION_CODENAME=(\w+)", text, re.M)
    if not found or not version:
        raise Failure("the image is made of the host's Debian packages, and this host is not Debian")
    return version[1]


def call(*words: str | Path, **options: object) -> str:
    """Run a command to its end; its output. A failure shows the end of it."""
    result = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if result.returncode:
        raise Failure(f"{words[0]} failed with status {result.returncode}:\n{result.stdout[-3000:]}")
    return result.stdout


def sources() -> list[str]:
    """apt's sources on this host that are of its own release."""
    entry = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    text = call("apt-get", "indextargets", "--format", entry, "Created-By: Packages")
    lines = sorted(line for line in set(text.splitlines()) if line.split()[2].partition("-")[0] == release())
    if not lines:
        raise Failure(f"apt has no source for {release()}: run `apt-get update`")
    return lines


def build() -> Path:
    """Return the directory of the image, made when it is not there. Takes 2 to 3 minutes."""
    target = cache() / name()
    if target.exists():
        return target
    if os.geteuid() != 0:
        raise Failure("only root can make the image")
    begin = time.monotonic()
    work = cache() / f"new-{os.getpid()}"
    work.mkdir(parents=True)
    work.chmod(0o755)
    try:
        _make(work)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for other in cache().glob("image-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    print(f"made {target} in {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return target


def _make(work: Path) -> None:
    (work / "sources.list").write_text("\n".join(sources()) + "\n")
    kernel = _kernel(work / "kernel")
    root = work / "root"
    packages = ",".join((GUEST / "packages").read_text().split())
    without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "info", "locale")]
    print("installing the guest's packages", file=sys.stderr)
    call(
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--format=directory"),
        *("--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none", *without),
        *(f"--include={packages}", release(), root, work / "sources.list"),
    )
    modules = next(kernel.glob("**/lib/modules/*"))
    (root / "usr/lib/modules").mkdir(parents=True, exist_ok=True)
    shutil.move(modules, root / "usr/lib/modules" / modules.name)
    _configure(root, modules.name)
    initramfs(root, modules.name, work / "initrd", root / "usr/bin/busybox")
    _uncompress(next(kernel.glob("boot/vmlinuz-*")), work / "kernel.elf")
    for folder in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / folder, ignore_errors=True)
    disk(root, work / "disk.img")
    shutil.rmtree(root)
    shutil.rmtree(work / "kernel")


def _kernel(folder: Path) -> Path:
    """Unpack a kernel's package; installing it would make an initramfs that is slow to make and to boot."""
    folder.mkdir()
    for name in KERNELS:
        found = subprocess.run(["apt-cache", "depends", name], capture_output=True, text=True)
        package = re.search(r"Depends: (linux-image-\S+)", found.stdout)
        if package:
            call("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package[1], cwd=folder)
            call("dpkg-deb", "-x", next(folder.glob("*.deb")), folder / "files")
            return folder / "files"
    raise Failure(f"apt knows none of {', '.join(KERNELS)}: run `apt-get update`")


def _configure(root: Path, version: str) -> None:
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    call("chroot", root, "useradd", "-m", "-u", "1000", "-U", "-s", "/bin/bash", "tester")
    for name in ("etc/subuid", "etc/subgid"):
        (root / name).write_text(FILES[name])  # useradd adds ranges of its own
    units = root / "etc/systemd/system"
    programs = {"agent.py": "vm-agent", "setup.sh": "vm-setup"}
    for name, program in programs.items():
        path = root / "usr/local/lib" / program
        path.write_text((GUEST / name).read_text().replace("@MODULES@", " ".join(MODULES)))
        path.chmod(0o755)
    for name in ("agent.service", "setup.service", "vm.target"):
        shutil.copyfile(GUEST / name, units / name)
    for name in (GUEST / "masked").read_text().split():
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    (units / "sysinit.target.wants").mkdir(exist_ok=True)
    (units / "sysinit.target.wants/setup.service").symlink_to("../setup.service")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("vm.target")
    call("chroot", root, "depmod", version)
    for file in _modules(root / "usr/lib/modules" / version, MODULES):
        if file.suffix != ".ko":
            file.with_suffix("").write_bytes(_unpacked(file))  # seconds each, in the guest
            file.unlink()
    call("chroot", root, "depmod", version)


def _modules(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the files of modules and of what they need, in the order they load in; what is built in has none."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[Path(file).name.partition(".")[0].replace("-", "_")] = [*reversed(others.split()), file]
    order = {file: None for name in names for file in needs.get(name, [])}
    return [folder / file for file in order]


def _unpacked(file: Path) -> bytes:
    if file.suffix == ".xz":
        import lzma

        return lzma.decompress(file.read_bytes())
    if file.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", file], stdout=subprocess.PIPE, check=True).stdout
    return file.read_bytes()


def _uncompress(packed: Path, target: Path) -> None:
    """The ELF file inside a kernel: the guest would take seconds to unpack it."""
    data = packed.read_bytes()
    for magic, program in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"\x02\x21\x4c\x18", "lz4")):
        at = data.find(magic)
        while at >= 0 and shutil.which(program):
            # The program warns of data after the end of its input, which is harmless.
            found = subprocess.run([program, "-dc"], input=data[at:], capture_output=True).stdout
            if found.startswith(b"\x7fELF"):
                target.write_bytes(found)
                return
            at = data.find(magic, at + 1)
    target.write_bytes(data)  # qemu boots it as well, slower


def initramfs(
    root: Path,
    version: str,
    target: Path,
    busybox: Path,
    drivers: tuple[str, ...] = DRIVERS,
    program: str = "/lib/systemd/systemd",
) -> None:
    """Make an initramfs that loads drivers of the kernel `version` and executes a program on the first disk."""
    files = _modules(root / "usr/lib/modules" / version, drivers)
    loaded = {file.name.partition(".ko")[0] + ".ko": file for file in files}
    init = (GUEST / "init.sh").read_text().replace("@MODULES@", " ".join(loaded))
    init = init.replace("@PROGRAM@", program)
    folder, executable = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
    entries = [(name, folder, b"", (0, 0)) for name in ("bin", "lib", "dev")]
    entries += [
        ("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)),
        ("bin/busybox", executable, busybox.read_bytes(), (0, 0)),
        ("init", executable, init.encode(), (0, 0)),
    ]
    entries += [(f"lib/{name}", executable, _unpacked(file), (0, 0)) for name, file in loaded.items()]
    target.write_bytes(_archive([*entries, ("TRAILER!!!", 0, b"", (0, 0))]))


def _archive(entries: list[tuple[str, int, bytes, tuple[int, int]]]) -> bytes:
    """Return an archive of (name, mode, content, device) in the format `newc` of cpio(5), which the kernel unpacks."""
    out = bytearray()
    for inode, (name, mode, data, (major, minor)) in enumerate(entries, 1):
        word = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(word), 0)
        for part in (b"070701" + "".join(f"{field:08X}" for field in fields).encode() + word, data):
            out += part
            out += b"\0" * (-len(out) % 4)
    return bytes(out)


def disk(source: Path, target: Path) -> None:
    """Make a disk of a directory, without mounting anything."""
    with open(target, "wb") as file:
        file.truncate(DISK)
    options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-b", "4096"]
    call("mke2fs", *options, "-E", "lazy_itable_init=1,nodiscard", "-d", source, target)
