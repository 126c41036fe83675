# SPDX-License-Identifier: Apache-2.0
"""What a target answers for the virtual addresses that it owns, and how often: their senders are
strangers, who decide how many packets come."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from data_flow_segment.targets.contract import SetAnswers

_PERIOD_S: Final = 0.1
_AT_MOST: Final = 100  # in a period, of each kind: the order of the kernel's icmp_msgs_per_sec


class Question(Enum):
    """What is counted for itself."""

    ECHO = "echo"
    UNSERVED = "unserved"
    STRAY = "stray"  # to a proxied virtual server, without a valid cookie
    BRIDGED = "bridged"  # of no flow, for a CS


class Ownership:
    """Which questions are answered now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.answers = SetAnswers()
        self._clock = clock
        self._answered: dict[Question, tuple[float, int]] = {}

    def may_answer(self, question: Question) -> bool:
        """Whether this one is answered; it then counts."""
        if question is Question.ECHO and not self.answers.echo:
            return False
        if question is Question.UNSERVED and not self.answers.unserved:
            return False
        now = self._clock()
        since, number = self._answered.get(question, (now, 0))
        if now - since >= _PERIOD_S:
            since, number = now, 0
        self._answered[question] = since, number + 1
        return number < _AT_MOST
