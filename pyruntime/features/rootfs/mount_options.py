"""The words of mounts[].options, as mount(8) has them (runtime-spec config.md, "Linux mount options")."""

from __future__ import annotations

from pyruntime.kernel.constants import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    MS_DIRSYNC,
    MS_I_VERSION,
    MS_LAZYTIME,
    MS_MANDLOCK,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_PRIVATE,
    MS_RDONLY,
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_SYNCHRONOUS,
    MS_UNBINDABLE,
)

# word -> (attributes to set, attributes to clear) of one mount; an "r" before it means its whole tree.
_ATIME = MOUNT_ATTR__ATIME
ATTRIBUTES = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    # The three ways of access times are values of one field: to set one is to clear the field.
    "noatime": (MOUNT_ATTR_NOATIME, _ATIME),
    "atime": (MOUNT_ATTR_RELATIME, _ATIME),
    "relatime": (MOUNT_ATTR_RELATIME, _ATIME),
    "norelatime": (MOUNT_ATTR_RELATIME, _ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (MOUNT_ATTR_RELATIME, _ATIME),
}

# The attributes as flags of mount(2).
MOUNT_FLAGS = (
    (MOUNT_ATTR_RDONLY, MS_RDONLY),
    (MOUNT_ATTR_NOSUID, MS_NOSUID),
    (MOUNT_ATTR_NODEV, MS_NODEV),
    (MOUNT_ATTR_NOEXEC, MS_NOEXEC),
    (MOUNT_ATTR_NOATIME, MS_NOATIME),
    (MOUNT_ATTR_STRICTATIME, MS_STRICTATIME),
    (MOUNT_ATTR_NODIRATIME, MS_NODIRATIME),
    (MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW),
)

PROPAGATION = {
    "private": (MS_PRIVATE, False),
    "rprivate": (MS_PRIVATE, True),
    "slave": (MS_SLAVE, False),
    "rslave": (MS_SLAVE, True),
    "shared": (MS_SHARED, False),
    "rshared": (MS_SHARED, True),
    "unbindable": (MS_UNBINDABLE, False),
    "runbindable": (MS_UNBINDABLE, True),
}

# Flags of the filesystem, not of the mount: words that fsconfig(2) takes for any filesystem, as mount(2) has them.
SUPERBLOCK = {
    "ro": MS_RDONLY,
    "sync": MS_SYNCHRONOUS,
    "dirsync": MS_DIRSYNC,
    "lazytime": MS_LAZYTIME,
    "mand": MS_MANDLOCK,
}
_OPPOSITES = {"async": "sync", "nolazytime": "lazytime", "nomand": "mand"}

# What mount(2) can say and fsconfig(2) cannot.
LEGACY = {"iversion": MS_I_VERSION}

_NOTHING = frozenset(("defaults", "silent", "loud"))

# What a bind mount without the word does not have, once any attribute is named: like a remount by mount(2).
_REPLACED = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW
# Words that name access times, and words that take one back.
_ACCESS = frozenset(("noatime", "relatime", "strictatime"))
_ACCESS_BACK = {"atime": "noatime", "norelatime": "relatime", "nostrictatime": "strictatime"}

# crun's words for links at the ends of a bind mount.
LINKS = frozenset(("copy-symlink", "src-nofollow", "dest-nofollow"))


class Options:
    """mounts[].options, sorted by what each word acts on.

    set, clear:   MOUNT_ATTR_* of the mount.
    tree_set, tree_clear: the same for all mounts below it too.
    propagation:  [MS_*, whole tree] in order.
    data:         words for the filesystem itself.
    legacy:       MS_* flags that only mount(2) takes.
    links:        words of LINKS.
    named:        some word of ATTRIBUTES is there; access: the one for access times that counts, or "".
    remount:      change the mount that is there, in place of making one.
    """

    __slots__ = (
        "access",
        "bind",
        "clear",
        "copy_up",
        "data",
        "idmap",
        "legacy",
        "links",
        "named",
        "propagation",
        "recursive_bind",
        "remount",
        "set",
        "tree_clear",
        "tree_set",
    )

    def __init__(self) -> None:
        self.set = self.clear = self.tree_set = self.tree_clear = self.legacy = 0
        self.propagation: list[tuple[int, bool]] = []
        self.data: list[str] = []
        self.links: list[str] = []
        self.bind = self.recursive_bind = self.copy_up = self.remount = self.named = False
        self.idmap = self.access = ""

    def for_one_mount(self) -> int:
        """Return MOUNT_ATTR_* for a new filesystem, which is a tree of one mount."""
        return self.set & ~self.tree_clear | self.tree_set

    def for_bind(self) -> tuple[int, int, int]:
        """Return MOUNT_ATTR_* for a bind mount: to set, to clear, and to clear unless they are locked.

        Like runc: without any attribute the source's stay, with one those that are not named go, as by a remount of
        mount(2). Access times stay unless one of their words is there."""
        if not self.named:
            return 0, 0, 0
        set, clear = self.set, self.clear
        if not self.access:
            set &= ~_ATIME
            clear &= ~_ATIME
        if not (self.access or set & MOUNT_ATTR_NODIRATIME):
            return set, clear & ~MOUNT_ATTR_NODIRATIME, _REPLACED & ~set & ~clear
        return set, clear | _ATIME, (_REPLACED | MOUNT_ATTR_NODIRATIME) & ~set & ~clear


def split(words: list[str]) -> list[str]:
    """Return the words of an options field one by one: a word may hold several with commas, as for mount(8), or be
    empty.

    A comma in double quotes, or behind a backslash, belongs to a value."""
    if "" not in words and not any("," in word for word in words):
        return words
    result = []
    for word in words:
        begin, quoted = 0, False
        for at, character in enumerate(word):
            if character == '"':
                quoted = not quoted
            elif character == "," and not quoted and word[at - 1 : at] != "\\":
                result.append(word[begin:at])
                begin = at + 1
        result.append(word[begin:])
    return [word for word in result if word]


def parse(words: list[str]) -> Options:
    """Sort the words; the later of two that contradict each other counts, as for mount(8)."""
    options = Options()
    for word in split(words):
        if word in ATTRIBUTES:
            add, remove = ATTRIBUTES[word]
            options.set = options.set & ~remove | add
            options.clear = options.clear & ~add | remove
            options.named = True
            if word in _ACCESS:
                options.access = word
            elif _ACCESS_BACK.get(word) == options.access:
                options.access = ""
        elif word in PROPAGATION:
            options.propagation.append(PROPAGATION[word])
        elif word == "bind":
            options.bind = True
        elif word == "rbind":
            options.bind = options.recursive_bind = True
        elif word in _NOTHING:
            pass
        elif word in _OPPOSITES:
            options.data = [one for one in options.data if one != _OPPOSITES[word]]
        elif word in LEGACY:
            options.legacy |= LEGACY[word]
        elif word == "noiversion":
            options.legacy &= ~MS_I_VERSION
        elif word == "remount":
            options.remount = True
        elif word[:1] == "r" and word[1:] in ATTRIBUTES:
            add, remove = ATTRIBUTES[word[1:]]
            options.tree_set = options.tree_set & ~remove | add
            options.tree_clear = options.tree_clear & ~add | remove
        elif word == "tmpcopyup":
            options.copy_up = True
        elif word in ("idmap", "ridmap"):
            options.idmap = word
        elif word in LINKS:
            options.links.append(word)
        else:
            options.data.append(word)
    return options


def propagation_of(word: str) -> tuple[int, bool]:
    """Return MS_* and whether the whole tree, of a propagation word."""
    return PROPAGATION[word]


def known_words() -> list[str]:
    """Return every word that is not just handed to the filesystem, for `features`."""
    words = {"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap", "noiversion"}
    words |= {*ATTRIBUTES, *PROPAGATION, *SUPERBLOCK, *_OPPOSITES, *LEGACY, *LINKS, *_NOTHING}
    return sorted(words | {"r" + word for word in ATTRIBUTES})
