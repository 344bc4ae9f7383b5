"""The words of mounts[].options: what each acts on, and which of two that contradict each other counts."""

from __future__ import annotations

import pytest

from pyruntime.features.rootfs import mount_options
from pyruntime.features.rootfs.mount_options import parse
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
    MS_I_VERSION,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)

RO, NOSUID, NODEV, NOEXEC = MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC
ATIME = MOUNT_ATTR__ATIME


@pytest.mark.parametrize(
    ("words", "set", "clear"),
    [
        ([], 0, 0),
        (["ro"], RO, 0),
        (["rw"], 0, RO),
        (["ro", "rw"], 0, RO),
        (["rw", "ro"], RO, 0),
        (["nosuid", "nodev", "noexec"], NOSUID | NODEV | NOEXEC, 0),
        (["nosuid", "suid"], 0, NOSUID),
        (["dev", "exec", "suid"], 0, NODEV | NOEXEC | NOSUID),
        (["nosymfollow"], MOUNT_ATTR_NOSYMFOLLOW, 0),
        (["nodiratime"], MOUNT_ATTR_NODIRATIME, 0),
        (["defaults"], 0, 0),
        (["silent", "loud"], 0, 0),
        # mount_setattr(2): to set one of the three, the field must be cleared.
        (["noatime"], MOUNT_ATTR_NOATIME, ATIME),
        (["relatime"], MOUNT_ATTR_RELATIME, ATIME),
        (["strictatime"], MOUNT_ATTR_STRICTATIME, ATIME),
    ],
)
def test_attributes(words: list[str], set: int, clear: int) -> None:
    found = parse(words)
    assert (found.set, found.clear) == (set, clear)
    assert (found.tree_set, found.tree_clear, found.data) == (0, 0, [])


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["noatime", "strictatime"], MOUNT_ATTR_STRICTATIME),
        (["strictatime", "noatime"], MOUNT_ATTR_NOATIME),
        (["noatime", "relatime"], MOUNT_ATTR_RELATIME),
        (["strictatime", "nostrictatime"], MOUNT_ATTR_RELATIME),
        (["noatime", "atime"], MOUNT_ATTR_RELATIME),
    ],
)
def test_the_last_of_the_access_times_counts(words: list[str], value: int) -> None:
    found = parse(words)
    assert found.set & ATIME == value
    # The whole field has to be cleared, or the kernel says EINVAL.
    assert found.clear & ATIME == ATIME


@pytest.mark.parametrize("word", sorted(mount_options.ATTRIBUTES))
def test_with_r_for_the_whole_tree(word: str) -> None:
    one, tree = parse([word]), parse(["r" + word])
    assert (tree.tree_set, tree.tree_clear) == (one.set, one.clear)
    assert (tree.set, tree.clear, tree.data) == (0, 0, [])


def test_one_mount_and_its_tree_are_apart() -> None:
    found = parse(["rro", "rw", "rnosuid"])
    assert (found.set, found.clear) == (0, RO)
    assert (found.tree_set, found.tree_clear) == (RO | NOSUID, 0)


def test_a_word_that_begins_with_r_is_not_always_recursive() -> None:
    assert parse(["relatime"]).tree_clear == 0
    assert parse(["ro"]).tree_set == 0
    assert parse(["rbind"]).recursive_bind
    assert parse(["rsize=4096"]).data == ["rsize=4096"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["private"], [(MS_PRIVATE, False)]),
        (["rslave"], [(MS_SLAVE, True)]),
        (["shared", "rslave"], [(MS_SHARED, False), (MS_SLAVE, True)]),
        (["runbindable"], [(MS_UNBINDABLE, True)]),
    ],
)
def test_propagation(words: list[str], found: list[tuple[int, bool]]) -> None:
    assert parse(words).propagation == found
    assert mount_options.propagation_of(words[-1]) == found[-1]


@pytest.mark.parametrize(
    ("words", "bind", "recursive"), [([], 0, 0), (["bind"], 1, 0), (["rbind"], 1, 1), (["rbind", "ro"], 1, 1)]
)
def test_bind(words: list[str], bind: int, recursive: int) -> None:
    found = parse(words)
    assert (found.bind, found.recursive_bind) == (bind, recursive)


def test_what_is_left_is_the_filesystems() -> None:
    found = parse(["nosuid", "size=65536k", "mode=755", "newinstance", "sync", "gid=5"])
    assert found.data == ["size=65536k", "mode=755", "newinstance", "sync", "gid=5"]
    assert found.set == NOSUID


def test_words_that_take_others_back() -> None:
    assert parse(["sync", "lazytime", "mand", "async", "nolazytime", "nomand"]).data == []
    assert parse(["async", "sync"]).data == ["sync"]
    assert parse(["iversion"]).legacy == MS_I_VERSION
    assert parse(["iversion", "noiversion"]).legacy == 0


def test_words_for_a_tree_are_for_one_mount_too() -> None:
    assert parse(["rro", "noexec"]).for_one_mount() == RO | NOEXEC
    assert parse(["ro", "rrw"]).for_one_mount() == 0
    assert parse(["noatime", "rstrictatime"]).for_one_mount() == MOUNT_ATTR_STRICTATIME


def test_words_that_only_the_runtime_knows() -> None:
    assert parse(["tmpcopyup"]).copy_up
    assert parse(["idmap"]).idmap == "idmap"
    assert parse(["ridmap"]).idmap == "ridmap"
    assert parse(["tmpcopyup", "idmap"]).data == []


def test_features_tells_every_word_once() -> None:
    words = mount_options.known_words()
    assert len(words) == len(set(words))
    # Engines look for these (field engines: docker asks for rro).
    assert {"rro", "rbind", "nosymfollow", "rprivate", "strictatime", "bind"} <= set(words)
    for word in words:
        assert not [one for one in parse([word]).data if one not in mount_options.SUPERBLOCK], word
