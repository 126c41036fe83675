# SPDX-License-Identifier: Apache-2.0
"""What an agent at a node says: the protocol of HAProxy's agent-check (its manual,
"Server and default-server options").

One line of ASCII, with words between spaces, tabs or commas: how the node is (up; down, failed or
stopped, with a reason behind #), what is done with it (ready, drain, maint), and a part of its
weight (75%).  What is not mentioned stays as it was, and so does everything if the agent is silent.
"""

from __future__ import annotations

import re
from typing import Final

from control_segment.health.machine import Observed, Order

LINE_MAX: Final = 1024
PERCENT_MAX: Final = 1000

_HEALTHY: Final = {"up": True, "down": False, "failed": False, "stopped": False}
_ORDERS: Final = {"ready": Order.NONE, "drain": Order.DRAIN, "maint": Order.MAINTENANCE}
_SHOWN: Final = 64


def understood(line: bytes) -> Observed:
    """What follows from an agent's line."""
    text = re.split(rb"[\r\n]", line, maxsplit=1)[0].decode("ascii", "replace")
    text, _, described = text.partition("#")
    passed: bool | None = None
    order: Order | None = None
    percent: int | None = None
    strange = ""
    for word in re.split(r"[ \t,]+", text.strip()):
        lower = word.lower()
        if lower in _HEALTHY:
            passed = _HEALTHY[lower]
        elif lower in _ORDERS:
            order = _ORDERS[lower]
        elif re.fullmatch(r"[0-9]{1,4}%", word) and int(word[:-1]) <= PERCENT_MAX:
            percent = int(word[:-1])
        elif not lower.startswith("maxconn:"):  # limits are the configuration's
            strange = word
    warning = f"its agent says {_printable(strange)!r}, which means nothing" if strange else ""
    if not text.strip():
        warning = "its agent says nothing"
    reason = "its agent says so" + (f": {_printable(described.strip())}" if described else "")
    return Observed(
        passed, "" if passed else reason, certain=True, percent=percent, order=order,
        warning=warning,
    )  # fmt: skip


def silent(why: str) -> Observed:
    """Nothing came from the agent."""
    return Observed(None, why, warning=f"its agent does not answer: {why}")


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)[:_SHOWN]
