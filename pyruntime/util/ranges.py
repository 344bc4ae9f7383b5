"""Parse lists of ranges of numbers, such as "0-2,7" (cpuset(7), "List format")."""

from __future__ import annotations

HIGHEST = 8191  # of CPUs and memory nodes: CONFIG_NR_CPUS of a kernel with CONFIG_MAXSMP
_LONGEST = 20


def parse(text: str) -> list[int]:
    """Return the numbers of a list in order: "0-2,7" is [0, 1, 2, 7], "" is []. Raises ValueError with the reason."""
    numbers: set[int] = set()
    if text.strip():
        for part in text.split(","):
            numbers.update(parse_range(part))
    return sorted(numbers)


def parse_range(text: str) -> range:
    """Return the numbers of one item of a list: "7" or "0-2". Raises ValueError with the reason."""
    first, dash, last = text.strip().partition("-")
    if not (first.isascii() and first.isdigit()) or (dash and not (last.isascii() and last.isdigit())):
        raise ValueError(f"{text.strip()!r} is not a number or a range")
    high = last if dash else first
    # The length is checked first: int() rejects thousands of digits.
    if max(len(first), len(high)) > _LONGEST or int(first) > int(high) or int(high) > HIGHEST:
        raise ValueError(f"{text.strip()!r} is not a range from 0 to {HIGHEST}")
    return range(int(first), int(high) + 1)
