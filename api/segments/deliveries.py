# SPDX-License-Identifier: Apache-2.0
"""What a CS runs, and whether it is to be sent something (pure).

current    it runs the newest generation, or nothing was ever configured
behind     it runs another one, and nothing is under way
applying   a newer one was sent, and is not answered yet
refused    it refuses the newest one, and is sent nothing until there is a newer one
"""

from __future__ import annotations

from enum import Enum


class Delivery(Enum):
    """How far a CS is."""

    CURRENT = "in_force"
    BEHIND = "behind"
    APPLYING = "applying"
    REFUSED = "refused"


class Deliveries:
    """The generations of one CS, from HELLO on."""

    def __init__(self, running: int | None, made_at: float | None) -> None:
        """*made_at*: of that generation, Unix time, s; None: it is not to be built upon."""
        self.running = running
        self.made_at = made_at
        self.sent: int | None = None  # under way
        self._sent_made_at = 0.0
        self.refused: int | None = None
        self.problems: tuple[str, ...] = ()

    def state(self, newest: int) -> Delivery:
        """Where it stands, *newest* being the newest generation; 0: none was ever made."""
        if self.sent is not None:
            return Delivery.APPLYING
        if self.refused is not None and newest <= self.refused:
            return Delivery.REFUSED
        if not newest or (self.running == newest and self.made_at is not None):
            return Delivery.CURRENT
        return Delivery.BEHIND

    def send(self, generation: int, made_at: float) -> None:
        """It is sent now."""
        self.sent = generation
        self._sent_made_at = made_at

    def applied(self, generation: int) -> bool:
        """It says so; False: that was not under way."""
        if generation != self.sent:
            return False
        self.running, self.made_at = generation, self._sent_made_at
        self.sent, self.refused, self.problems = None, None, ()
        return True

    def refuse(self, generation: int, problems: list[str]) -> bool:
        """It says so; False: that was not under way."""
        if generation != self.sent:
            return False
        self.sent, self.refused, self.problems = None, generation, tuple(problems)
        return True
