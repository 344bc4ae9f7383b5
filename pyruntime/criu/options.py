"""What may be asked of a checkpoint and of a restore: the flags of runc, as values."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ImageOptions:
    """What both take; an option that is not given has the default of the class.

    image_path:          directory of the images, "" for `checkpoint` in the working directory.
    work_path:           directory of criu's logs, "" for that of the images.
    tcp_established:     open TCP connections, too.
    ext_unix_sk:         unix sockets whose other end is outside, too.
    shell_job:           the terminal is the caller's.
    file_locks:          locks of files, too.
    lazy_pages:          memory only on access (userfaultfd(2)).
    manage_cgroups_mode: soft, full, strict or ignore.
    empty_ns:            namespaces to leave empty: network.
    auto_dedup:          keep pages of memory once."""

    image_path: str = ""
    work_path: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    lazy_pages: bool = False
    manage_cgroups_mode: str = "soft"
    empty_ns: tuple[str, ...] = ()
    auto_dedup: bool = False

    def __init__(self, **given: Any) -> None:
        for name, value in given.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no option {name}")
            setattr(self, name, value)


class CheckpointOptions(ImageOptions):
    """What a checkpoint takes.

    parent_path:        images of an earlier pre-dump, relative to image_path.
    leave_running:      the container runs on.
    pre_dump:           memory only, and the container runs on.
    page_server:        ADDRESS:PORT of the criu page server that gets the memory.
    status_fd:          descriptor that gets a zero byte once lazy pages are ready, -1 for none.
    tcp_skip_in_flight: leave out TCP connections that are being made.
    link_remap:         give new names to files whose names are gone."""

    parent_path: str = ""
    leave_running: bool = False
    pre_dump: bool = False
    page_server: str = ""
    status_fd: int = -1
    tcp_skip_in_flight: bool = False
    link_remap: bool = False


class RestoreOptions(ImageOptions):
    """What a restore takes.

    tcp_close:         close TCP connections that were open.
    lsm_profile:       another label for the processes, apparmor:NAME or selinux:LABEL.
    lsm_mount_context: another SELinux context for mounts."""

    tcp_close: bool = False
    lsm_profile: str = ""
    lsm_mount_context: str = ""
