"""Signals by name and number, as kill(1) takes them."""

from __future__ import annotations

from pyruntime.errors import UsageError

# signal(7), x86 and ARM.
NUMBERS = {
    name: number
    for number, name in enumerate(
        (
            "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP "
            "TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
        ).split(),
        start=1,
    )
}
NUMBERS |= {"IOT": 6, "POLL": 29, "CLD": 17, "UNUSED": 31}
RTMIN, RTMAX = 34, 64


def parse(word: str) -> int:
    """Return the number of a signal: `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`. Raises UsageError."""
    if word.isdecimal() and len(word) < 10:
        number = int(word)
        if 0 <= number <= RTMAX:
            return number
    name = word.upper().removeprefix("SIG")
    if name in NUMBERS:
        return NUMBERS[name]
    for base, start in (("RTMIN", RTMIN), ("RTMAX", RTMAX)):
        if name.startswith(base):
            offset = name[len(base) :]
            if not offset:
                return start
            if offset[0] in "+-" and offset[1:].isdecimal() and len(offset) < 10:
                number = start + int(offset)
                if RTMIN <= number <= RTMAX:
                    return number
    raise UsageError(f"unknown signal {word!r}", hint="give a name such as TERM or SIGTERM, or a number from 0 to 64")
