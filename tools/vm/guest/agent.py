#!/usr/bin/python3 -IS
"""The guest's side of tools/vmtest: reads a job from a port, runs it as a systemd service, sends its output and its
exit status to other ports."""

import fcntl
import json
import os
import pwd
import selectors
import struct
import subprocess
import time

RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207  # random(4)


def port(name):
    """Open the virtio port that the host gave this name; there is no udev to make links of names."""
    while True:
        for entry in os.listdir("/sys/class/virtio-ports"):
            with open(f"/sys/class/virtio-ports/{entry}/name") as file:
                if file.read().strip() == name:
                    return os.open(f"/dev/{entry}", os.O_RDWR)
        time.sleep(0.05)


def read_line(fd):
    """One line; a read gives nothing while the host has not connected."""
    data = b""
    while not data.endswith(b"\n"):
        part = os.read(fd, 1)
        if not part:
            time.sleep(0.02)
        data += part
    return data


def write_all(fd, data):
    """Write all of data."""
    while data:
        data = data[os.write(fd, data) :]


def renew(job):
    """Set the clock, which stood still while the state was saved, and mix in other random numbers than every other
    guest that is restored from it has."""
    time.clock_settime(time.CLOCK_REALTIME, job["now"])
    seed = bytes.fromhex(job["seed"])
    fd = os.open("/dev/urandom", os.O_RDWR)
    fcntl.ioctl(fd, RNDADDENTROPY, struct.pack(f"ii{len(seed)}s", len(seed) * 8, len(seed), seed))
    fcntl.ioctl(fd, RNDRESEEDCRNG)
    os.close(fd)


def mount(shares):
    """Mount the disks with the shared directories."""
    for letter, path in zip("bcde", shares, strict=False):
        device = f"/dev/vd{letter}"
        subprocess.run(["blockdev", "--flushbufs", device], check=True)  # cached before the state was saved
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "ext4", "-o", "noatime", device, path], check=True)


def command(job):
    """The command that runs the job as a service, of the system's manager or of the user's own, and its
    environment."""
    user = pwd.getpwnam(job["user"])
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": user.pw_dir,
        "USER": user.pw_name,
    }
    words = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--unit=job.service"]
    for setting in ("Delegate=yes", "KillMode=mixed", "TasksMax=infinity", "LimitNOFILE=65536"):
        words += ["-p", setting]
    if user.pw_uid:
        runtime = f"/run/user/{user.pw_uid}"
        env |= {"XDG_RUNTIME_DIR": runtime, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus"}
        ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups"]
        words = ["setpriv", *ids, "--", *words, "--user"]
    words += [f"--working-directory={job['directory']}"]
    env |= job["env"]
    words += [f"--setenv={key}={value}" for key, value in env.items()]
    return [*words, "--", *job["argv"]], env


def run(job, ports):
    """Run the job, pass on what it writes, and return its exit status."""
    words, env = command(job)
    # Pipes, not the ports themselves: a program may open /dev/stdout again, and a port can be open only once.
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    selector = selectors.DefaultSelector()
    selector.register(child.stdout, selectors.EVENT_READ, ports[0])
    selector.register(child.stderr, selectors.EVENT_READ, ports[1])
    ended = None
    while selector.get_map():
        for key, _ in selector.select(0.2):
            data = os.read(key.fd, 65536)
            if data:
                write_all(key.data, data)
            else:
                selector.unregister(key.fileobj)
        if child.poll() is not None:
            ended = ended or time.monotonic()
            if time.monotonic() - ended > 2:
                break  # something that was left behind holds the pipe
    return child.wait()


def main():
    control, out, err = port("control"), port("out"), port("err")
    write_all(control, b"READY\n")
    job = json.loads(read_line(control))
    write_all(control, b"START\n")
    try:
        renew(job)
        mount(job["shares"])
        prepare = ["sh", "-c", job["prepare"]]
        subprocess.run(prepare, stdin=subprocess.DEVNULL, stdout=err, stderr=err, cwd=job["directory"])
        answer = f"EXIT {run(job, (out, err))}"
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        answer = f"FAIL {type(error).__name__}: {error}"
    write_all(control, answer.encode() + b"\n")
    time.sleep(600)  # the host ends the machine


main()
