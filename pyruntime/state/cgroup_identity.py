"""Which of the cgroups that a record names are still the container's.

A path says nothing: once a container has stopped, its cgroup may have been removed and another one made in its
place, or another container may have moved into it. So the record has the inode number of each directory, which
kernfs never gives to another cgroup, and a container that is created in a directory that exists already marks it as
its own with an extended attribute.
"""

from __future__ import annotations

import posix

from pyruntime.kernel.constants import EACCES, ENOENT, ENOTDIR, EOPNOTSUPP, EPERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.state.store import Record

INODES = "cgroup_inodes"  # in Record.extra: hierarchy -> inode number
TOKEN = "cgroup_owner"  # in Record.extra: the value of the mark, of a container that has set one
MARK = "cgroup_mark"  # in Record.extra: the name of the attribute
# Only CAP_SYS_ADMIN of the initial user namespace can change `trusted` attributes, and a container's root lacks it.
# Others than root have to do with `user`, since Linux 5.7.
_OF_ROOT, _OF_USER = "trusted.pyruntime.owner", "user.pyruntime.owner"
_GONE = (ENOENT, ENOTDIR)
# What a directory of the record is now.
OWN, GONE, FOREIGN, UNKNOWN = "own", "gone", "foreign", "unknown"


def begin(record: Record, *, rootless: bool) -> None:
    """Prepare a record for `note` and `take_over`. The caller saves it."""
    record.extra[INODES] = {}
    record.extra[MARK] = _OF_USER if rootless else _OF_ROOT


def note(record: Record, name: str, directory: str) -> None:
    """Note the cgroup that has just been made, or taken over, for a hierarchy. The caller saves the record."""
    record.extra[INODES][name] = posix.stat(directory).st_ino


def take_over(record: Record, directory: str) -> None:
    """Mark a cgroup that existed before as this container's: its former owner then leaves it alone."""
    token: str = record.extra.setdefault(TOKEN, posix.urandom(8).hex())
    try:
        posix.setxattr(directory, record.extra[MARK], token.encode())
    except OSError as error:
        if error.errno not in (EPERM, EACCES, EOPNOTSUPP):
            raise
        # An older kernel, or a cgroup of another user: the inode number has to do.


def kind(record: Record, name: str) -> str:
    """Return what the directory of a hierarchy is now: OWN, GONE, FOREIGN, or UNKNOWN of one that was never noted."""
    return kind_of(record, name, record.cgroups[name])


def kind_of(record: Record, name: str, directory: str) -> str:
    """As `kind`, of a directory that the record may not name."""
    mark = str(record.extra.get(MARK, _OF_ROOT))
    try:
        inode = posix.stat(directory).st_ino
        token = ""
        if mark in posix.listxattr(directory):
            token = posix.getxattr(directory, mark).decode("ascii", "replace")
    except OSError as error:
        if error.errno in _GONE:
            return GONE
        raise
    # A container that has set no mark has made the directory, so any mark is a later container's.
    if token and record.extra.get(TOKEN) != token:
        return FOREIGN
    noted = record.extra.get(INODES, {}).get(name)
    if noted is None:
        return UNKNOWN
    return OWN if inode == noted else FOREIGN


def own(record: Record) -> dict[str, str]:
    """Return the cgroups of a record that are there and the container's: hierarchy -> directory."""
    return {name: directory for name, directory in record.cgroups.items() if kind(record, name) == OWN}
