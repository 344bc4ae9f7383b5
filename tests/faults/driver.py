"""Runs a command of pyruntime, and lets something happen at one point of it.

    python3 -I -S -X utf8 driver.py CONTROL TREE SITE ARGUMENT…

A point is a moment before or after a step of the plan, a system call, or a message of the handshake, in the parent
or in a process that it has cloned. The production code has no hook for this: the functions are replaced in their
modules before the commands are imported, and the clones inherit them.

CONTROL is a file of SIZE bytes that the harness has made. It is mapped shared, so that init still reaches it when
its descriptors are closed and its root is another one:

    0     MODE      RECORD: write down every point. STOP: at the point KEY, set REACHED and stand still until GO.
                    FAIL: at the point KEY, set REACHED and raise the error number ERRNO
    1     ERRNO
    2     REACHED   set by the driver
    3     GO        set by the harness
    4     CLONES    how many processes were cloned so far
    64    KEY       "ROLE MOMENT NAME COUNT", NUL at the end; COUNT-th time that this name comes in that role
    4096  the points of each role, ROOM bytes each, as lines
"""

from __future__ import annotations

import mmap
import sys

RECORD, STOP, FAIL = 1, 2, 3
MODE, ERRNO, REACHED, GO, CLONES, KEY, LOGS = 0, 1, 2, 3, 4, 64, 4096
ROOM = 1 << 17
# A clone is init, or a process in the middle that clones init, or one that makes a map for an idmapped mount.
ROLES = ("parent", "clone1", "clone2", "clone3")
SIZE = LOGS + ROOM * len(ROLES)

# The calls of posix that do something. Not getpid and the like, which cannot fail and which no fault can hit.
POSIX = """
access chdir chmod chown close dup dup2 execve fchdir fchmod fchown fstat ftruncate getgroups kill lchown link listdir
lstat mkdir mkfifo mknod open pidfd_open pipe2 posix_spawn pread read readlink rename rmdir scandir sched_setaffinity
setgroups setresgid setresuid setsid stat symlink umask unlink waitpid write
""".split()
KERNEL = "files filter mount process scheduling signalfd".split()


class Points:
    """Counts the points of this process, and does what the harness asks for at one of them."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self.control = mmap.mmap(file.fileno(), SIZE)
        self.mode = self.control[MODE]
        self.key = self.control[KEY:LOGS].partition(b"\0")[0].decode()
        self.begin(0)

    def begin(self, role: int) -> None:
        """A clone is another process with points of its own."""
        self.role = role
        self.seen: dict[str, int] = {}
        self.end = LOGS + ROOM * self.role

    def reach(self, moment: str, name: str) -> bool:
        """Say that a point is reached: whether it is to fail."""
        name = f"{moment} {name}"
        count = self.seen[name] = self.seen.get(name, 0) + 1
        key = f"{ROLES[self.role]} {name} {count}"
        if self.mode == RECORD:
            line = key.encode() + b"\n"
            self.control[self.end : self.end + len(line)] = line
            self.end += len(line)
        elif key == self.key and not self.control[REACHED]:
            self.control[REACHED] = 1
            if self.mode == FAIL:
                return True
            while not self.control[GO]:
                pass  # without a system call: a seccomp filter may be in force
        return False


def main() -> None:
    control, tree, site = sys.argv[1:4]
    sys.argv[:] = ["pyruntime", *sys.argv[4:]]
    sys.path[:0] = [tree, site]
    points = Points(control)
    from pyruntime.errors import KernelError

    replace_posix(points)
    replace_kernel(points, KernelError)
    replace_steps(points)
    replace_messages(points)
    from pyruntime.cli.main import main as command

    command()


def watched(points: Points, name: str, function, fail):
    """The function with a point before and one after it; fail(errno, arguments) makes the error."""

    def call(*args, **named):
        # What an import statement asks for depends on what was imported before; it is no work of the command.
        if sys._getframe(1).f_code.co_filename.startswith("<frozen"):
            return function(*args, **named)
        if points.reach("before", name):
            raise fail(points.control[ERRNO], args)
        result = function(*args, **named)
        points.reach("after", name)
        return result

    call.__doc__ = function.__doc__
    call.__name__ = function.__name__
    call.__module__ = function.__module__
    return call


def replace_posix(points: Points) -> None:
    import fcntl
    import posix

    def fail(errno: int, args) -> OSError:
        return OSError(errno, posix.strerror(errno), *[word for word in args[:1] if isinstance(word, str)])

    for name in POSIX:
        setattr(posix, name, watched(points, f"posix.{name}", getattr(posix, name), fail))
    fcntl.flock = watched(points, "fcntl.flock", fcntl.flock, fail)


def replace_kernel(points: Points, error) -> None:
    for name in KERNEL:
        module = __import__(f"pyruntime.kernel.{name}", None, None, ("x",))
        for word, function in list(vars(module).items()):
            if getattr(function, "__module__", "") != module.__name__ or isinstance(function, type):
                continue

            def fail(errno: int, args, word=word):
                return error(errno, word, args)

            if word == "clone":
                function = cloning(points, function)
            setattr(module, word, watched(points, f"{name}.{word}", function, fail))


def cloning(points: Points, clone):
    """clone, after which the child counts anew."""

    def call(*args, **named):
        points.control[CLONES] += 1
        role = points.control[CLONES]
        pid, pidfd = clone(*args, **named)
        if pid == 0:
            points.begin(role)
        return pid, pidfd

    call.__module__ = clone.__module__
    call.__name__ = clone.__name__
    return call


def replace_steps(points: Points) -> None:
    from pyruntime.errors import KernelError
    from pyruntime.plan import step as steps

    execute = steps.execute

    def fail(errno: int, args) -> KernelError:
        return KernelError(errno, "fault", ())

    def faulty(list, actor) -> None:
        wrapped = []
        for one in list:
            do = watched(points, f"step {one.name}", one.do, fail)
            wrapped.append(steps.Step(one.pointer, do, **one.args))
        execute(wrapped, actor)

    steps.execute = faulty


def replace_messages(points: Points) -> None:
    from pyruntime.runtime import channel
    from pyruntime.state import store

    def fail(errno: int, args) -> OSError:
        return OSError(errno, "fault")

    for kind, name in ((channel.Channel, "send"), (channel.Channel, "receive"), (store.Record, "save")):
        setattr(kind, name, watched(points, f"{kind.__name__}.{name}", getattr(kind, name), fail))


if __name__ == "__main__":
    main()
