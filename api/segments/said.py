# SPDX-License-Identifier: Apache-2.0
"""What a segment says, made fit to be kept and shown (pure).

A segment that is broken or in somebody else's hands says what it likes: numbers that cannot be are
refused, and texts are cut and get no characters that a log, a terminal or a database takes amiss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from admin.link.messages import Event, Hello, LinkError
from api.access.roles import Caller
from api.events.service import Happened

SENTENCE_MAX: Final = 2000  # characters
NAME_MAX: Final = 255
KIND_MAX: Final = 40
PROBLEMS_MAX: Final = 100
AHEAD_MAX_S: Final = 86400.0
"""That a segment's clock may be before the API's: more is none, and would never be forgotten."""
_SUBJECTS: Final = ("virtual_server", "pool", "node", "segment")
_IDS: Final = range(1, 65536)
_GENERATIONS: Final = range(1 << 53)
_OF_ONE: Final = re.compile(r"(cs|dfs)-[0-9]+")


def line(text: str, most: int) -> str:
    """A text as one line of at most so many characters."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    if cut.isprintable():
        return cut
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cut)


def sentence(text: str) -> str:
    """The same for people; lines become one."""
    return line(" ".join(text[: 2 * SENTENCE_MAX].split()), SENTENCE_MAX)


def greeting(hello: Hello) -> Hello:
    """The first frame; LinkError."""
    identity = hello.identity
    if identity.segment_id not in _IDS:
        raise LinkError("segment_id: from 1 to 65535")
    if hello.generation is not None and hello.generation not in _GENERATIONS:
        raise LinkError("generation: from 0 to 2^53")
    if hello.group_id is not None and not 0 <= hello.group_id <= 65535:
        raise LinkError("group_id: from 0 to 65535")
    return replace(
        hello,
        host=line(hello.host, NAME_MAX),
        identity=replace(identity, release=line(identity.release, NAME_MAX)),
    )


def may_be(caller: Caller, segment: str) -> bool:
    """Whether a token may be this segment's (cs-1): one that is named as a segment is of no other
    one."""
    return not _OF_ONE.fullmatch(caller.who) or caller.who == segment


def happened(event: Event, segment: str, now: float) -> Happened:
    """An event.  *now*: Unix time, s."""
    is_time = math.isfinite(event.time) and 0 <= event.time <= now + AHEAD_MAX_S
    return Happened(
        at=event.time if is_time else now,
        severity=event.severity,
        kind=line(event.kind, KIND_MAX),
        what=sentence(event.what),
        segment=segment,
        subject={
            name: line(event.subject[name], NAME_MAX) for name in _SUBJECTS if name in event.subject
        },
    )


def problems(told: Sequence[str]) -> list[str]:
    """Why it refuses a generation."""
    return [sentence(each) for each in told[:PROBLEMS_MAX]]
