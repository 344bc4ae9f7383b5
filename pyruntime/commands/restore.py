"""restore: make a container again from the images of a checkpoint, by criu(8)."""

from __future__ import annotations

import posix

from pyruntime.commands import create, delete, pid_file
from pyruntime.commands import run as run_command
from pyruntime.criu import images, rpc
from pyruntime.criu import restore as criu_restore
from pyruntime.errors import StateError, from_oserror
from pyruntime.features.rootfs import console
from pyruntime.state import liveness, store
from pyruntime.state.store import Record
from pyruntime.util.fileio import write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.commands.create import CreateOptions
    from pyruntime.commands.settings import Settings
    from pyruntime.criu.options import RestoreOptions
    from pyruntime.plan.request import Request
    from pyruntime.util.ids import ContainerId
    from pyruntime.util.log import Log


def run(
    settings: Settings, id: ContainerId, options: CreateOptions, asked: RestoreOptions, *, subreaper: bool = True
) -> int:
    """Restore a container: the exit status of its process, as `run`; 0 with options.detach."""
    if options.pid_file:
        pid_file.check(options.pid_file)
    # A container that was ready before the checkpoint does not say so again.
    posix.environ.pop(b"NOTIFY_SOCKET", None)
    request, raw = create.request_of(settings, id, options)
    relay = run_command.relay_of(request)
    if not options.detach:
        run_command.prepare_foreground(subreaper=subreaper)
    try:
        record = make(request, settings.root, raw, settings.log, asked)
        try:
            if options.pid_file:
                pid_file.write(options.pid_file, record.pid)
            if relay is not None:
                relay.connect()
        except BaseException as error:
            delete.undo_created(record, settings.log, error)
            raise
        if options.detach:
            return 0
        return run_command.attend(settings, record, [relay] if relay is not None else [], keep=False)
    finally:
        if relay is not None:
            relay.restore()


def make(request: Request, root: str, raw_config: str, log: Log, asked: RestoreOptions) -> Record:
    """Make a container from images: when this returns, its processes run, init as a child of this process.

    request, root, raw_config, log: as of create.make. Raises PyruntimeError; then nothing
    is left."""
    if posix.geteuid() != 0:
        raise StateError("only root can restore a container: criu needs it")
    console.check(request)
    if request.systemd_cgroup:
        from pyruntime.features.cgroups import systemd

        systemd.require()
    rpc.require_version()
    liveness.require_own_proc()
    directories = images.Directories(asked, criu_restore.LOG, make=False)
    try:
        descriptors = images.read_descriptors(directories.images)
        for text in request.warnings:
            log.warning(text)
        directory, lock = store.make(root, request.id)
        record = Record(directory, request.id)
        try:
            create.describe(record, request)
            write_atomically(directory, store.CONFIG, raw_config)
            criu_restore.restore(criu_restore.Restorer(request, record, log), asked, directories, descriptors)
        except BaseException as error:
            delete.undo(record, log, error)
            raise
        finally:
            posix.close(lock)
    except OSError as error:
        raise from_oserror(error, doing="restore the container") from error
    finally:
        directories.close()
    return record
