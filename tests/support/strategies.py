"""Made-up configs for hypothesis: valid ones from our schema, and ones that are nearly so."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from pyruntime.spec import check as check_module
from pyruntime.spec import shape

WORDS = "/ x é 1.0.0 2.0.0 2MB rwm MB:0=1 0-3 RLIMIT_CORE pid SCMP_ACT_LOG c".split()
JUNK = (
    st.sampled_from([None, True, False, 0, 1, -1, 1.0, 1.5, 2**32, 2**63, 2**64, "", "a\0b", "\ud800"])
    | st.sampled_from(WORDS)
    | st.sampled_from([[], {}, [1], ["x"], [None], {"a": 1}, {"a": "b"}, [{}], {"type": "pid"}, {"path": "/x"}])
    | st.text(max_size=5)
    | st.integers()
).map(copy.deepcopy)  # or a later change would change what is drawn next time


@st.composite
def fitting(draw: st.DrawFn, node: shape.Shape) -> Any:
    """A value of the shape `node`."""
    kind = node[0]
    if kind == "string":
        samples = ["/x", "1.2.3", "2MB", "rw", "0-1,3", "MB:0=20", "text"]
        return draw(st.sampled_from([text for text in samples if not node[1] or check_module.FORMATS[node[1]](text)]))
    if kind == "enum":
        return draw(st.sampled_from(node[1]))
    if kind == "integer":
        return draw(st.integers(node[1], node[2]))
    if kind == "boolean":
        return draw(st.booleans())
    if kind == "strings":
        return draw(st.lists(st.text(max_size=3), min_size=node[1], max_size=3))
    if kind == "array":
        return draw(st.lists(fitting(node[1]), min_size=node[2], max_size=2))
    _, members, required, rest = node
    names = set(required)
    if members:
        names |= draw(st.sets(st.sampled_from(sorted(members)), max_size=4))
    value = {name: draw(fitting(members[name])) for name in sorted(names)}
    if rest is not None:
        value |= draw(st.dictionaries(st.text(max_size=3), fitting(rest), max_size=2))
    return value


@st.composite
def damaged(draw: st.DrawFn, config: Any) -> Any:
    """`config` with up to three changes at random places."""
    config = copy.deepcopy(config)
    for _ in range(draw(st.integers(0, 3))):
        place = config
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            change = draw(st.sampled_from(["replace", "remove", "add"]))
            if change == "replace":
                place[key] = draw(JUNK)
            elif change == "remove":
                del place[key]
            elif isinstance(place, dict):
                place[draw(st.text(max_size=3))] = draw(JUNK)
            else:
                place.append(draw(JUNK))
            break
    return config
