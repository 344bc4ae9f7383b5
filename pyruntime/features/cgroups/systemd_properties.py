"""linux.resources, and annotations, as properties of a systemd unit (systemd.resource-control(5))."""

from __future__ import annotations

from pyruntime.errors import ConfigError
from pyruntime.features.cgroups import blockio, cpu
from pyruntime.util import ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.spec.sections import Resources

    Property = tuple[str, str, object]

ANNOTATION = "org.systemd.property."
INFINITY = (1 << 64) - 1
_SECOND = 1_000_000  # microseconds
_QUOTA_STEP = 10_000  # systemd keeps whole percents of a CPU

# Files of the cgroup2 tree with a property that means the same bytes or number.
_SIZES = {
    "memory.min": "MemoryMin",
    "memory.low": "MemoryLow",
    "memory.high": "MemoryHigh",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
}
_TYPES = {
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "boolean": "b",
    "string": "s",
}


def from_resources(resources: Resources, *, v2: bool) -> list[Property]:
    """Properties as (name, D-Bus type, value). What systemd has none for is left to the files."""
    found: list[Property] = []

    def add(name: str, value: int) -> None:
        found.append((name, "t", INFINITY if value < 0 else value))

    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        add("MemoryMax" if v2 else "MemoryLimit", limit)
    if v2 and memory.get("reservation"):
        add("MemoryLow", memory["reservation"])
    if v2 and (swap or limit == -1):
        add("MemorySwapMax", swap - limit if swap > 0 and limit > 0 else -1)
    processor = resources.get("cpu") or {}
    shares = processor.get("shares") or 0
    if processor.get("idle") == 1 and v2:
        add("CPUWeight", 0)
    elif shares:
        add("CPUWeight" if v2 else "CPUShares", cpu.weight(shares) if v2 else shares)
    quota, period = processor.get("quota") or 0, processor.get("period") or 0
    if period:
        add("CPUQuotaPeriodUSec", period)
    if quota:
        add("CPUQuotaPerSecUSec", quota_per_second(quota, period))
    if v2:
        for property, numbers in (
            ("AllowedCPUs", processor.get("cpus")),
            ("AllowedMemoryNodes", processor.get("mems")),
        ):
            if numbers:
                found.append((property, "ay", mask(numbers)))
    tasks = (resources.get("pids") or {}).get("limit")
    if tasks is not None:
        add("TasksMax", tasks or 1)  # systemd takes no 0
    weight = (resources.get("blockIO") or {}).get("weight") or 0
    if weight:
        add("IOWeight" if v2 else "BlockIOWeight", blockio.scaled(weight) if v2 else weight)
    for file, value in (resources.get("unified") or {}).items() if v2 else ():
        if file in _SIZES and (value.strip() == "max" or value.strip().isdigit()):
            add(_SIZES[file], -1 if value.strip() == "max" else int(value))
        elif file == "cpu.weight" and value.strip().isdigit():
            add("CPUWeight", int(value))
    return found


def quota_per_second(quota: int, period: int) -> int:
    """CPU time a second in microseconds, in systemd's steps of 1 %, rounded up; -1 for no limit."""
    if quota < 0:
        return -1
    exact = quota * _SECOND // (period or 100_000)
    return -(-exact // _QUOTA_STEP) * _QUOTA_STEP


def mask(numbers: str) -> list[int]:
    """Return a list of CPUs or memory nodes as the bytes of a bit mask, the lowest first. Raises ConfigError."""
    try:
        bits = sum(1 << number for number in ranges.parse(numbers))
    except ValueError as error:
        raise ConfigError(str(error), pointer="/linux/resources/cpu", hint='write the list as "0-3,7"') from None
    return list(bits.to_bytes((bits.bit_length() + 7) // 8 or 1, "little"))


def from_annotations(annotations: dict[str, str]) -> list[Property]:
    """Return the properties of annotations `org.systemd.property.NAME`, whose values are in GVariant's text format.

    A name that ends with Sec stands for the property with USec, and its value is seconds. Raises ConfigError."""
    found: list[Property] = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        name = key.removeprefix(ANNOTATION)
        pointer = "/annotations/" + key.replace("~", "~0").replace("/", "~1")
        if not name.isalpha() or not name.isascii():
            raise ConfigError(f'"{name}" is not the name of a systemd property', pointer=pointer)
        try:
            kind, value = parse(text.strip())
            if name.endswith("Sec") and not name.endswith("USec"):
                if kind not in "ynqiuxtd":
                    raise ValueError
                name, kind, value = name.removesuffix("Sec") + "USec", "t", int(value * _SECOND)
        except (ValueError, IndexError):
            raise ConfigError(
                f"{text!r} is not a value of {name}",
                pointer=pointer,
                hint="write it as GVariant text: 'words', true, 5, uint64 5, ['a', 'b']",
            ) from None
        found.append((name, kind, value))
    return found


def parse(text: str) -> tuple[str, Any]:
    """Return a value in GVariant's text format: (D-Bus type, value). Raises ValueError for what it does not know."""
    word, space, rest = text.partition(" ")
    if space and word in _TYPES:
        value = parse(rest.strip())[1]
        return _TYPES[word], float(value) if word == "double" else value
    if text in ("true", "false"):
        return "b", text == "true"
    if text[0] in "'\"":
        if len(text) < 2 or text[-1] != text[0] or text[0] in text[1:-1].replace("\\" + text[0], ""):
            raise ValueError
        return "s", text[1:-1].replace("\\" + text[0], text[0]).replace("\\\\", "\\")
    if text[0] == "[" and text[-1] == "]":
        items = [parse(item.strip()) for item in _split(text[1:-1])]
        kinds = {kind for kind, _ in items} or {"s"}
        if len(kinds) > 1:
            raise ValueError
        return "a" + kinds.pop(), [value for _, value in items]
    if "." in text:
        return "d", float(text)
    return "i", int(text, 0)


def _split(text: str) -> list[str]:
    """Return the items of an array: commas inside quotes do not part them."""
    items = [""]
    quote = ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == ",":
            items.append("")
            continue
        items[-1] += letter
    if quote:
        raise ValueError
    return [item for item in items if item.strip()]
