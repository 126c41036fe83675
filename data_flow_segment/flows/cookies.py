# SPDX-License-Identifier: Apache-2.0
"""Who gives the target its SYN cookies' secrets, and when: they are rolled by the wall clock.

All DFSs with one key have the same secrets at the same time, so that a client's ACK may pass
another one than its SYN did, or find an agent that was restarted (docs/design/0012).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import SetCookies
from splicing.cookies import SECRET_S, SECRETS, Secrets, secrets_at

_KEY_SIZE: Final = 32  # octets of a random key


class Cookies:
    """Keeps the target's secrets current, for each group that has proxied virtual servers."""

    def __init__(
        self,
        outbox: Outbox,
        key: bytes,
        groups: Mapping[int, object],
        wall_clock: Callable[[], float],
        random_octets: Callable[[int], bytes],
    ) -> None:
        """`key`: b"" in a laboratory, whose secrets are random; `groups`: has those that need
        cookies now, whenever it is asked; `wall_clock`: seconds since 1970."""
        self._outbox = outbox
        self._key = key or random_octets(_KEY_SIZE)
        self._groups = groups
        self._wall_clock = wall_clock
        self._given: dict[int, Secrets] = {}
        self._next_at: float | None = None

    def get_timer(self) -> float | None:
        """When the next secret is due."""
        return self._next_at

    def of(self, group_id: int) -> Secrets | None:
        """What the target has for a group."""
        return self._given.get(group_id)

    def follow(self, now: float) -> None:
        """Last in a wake-up: give what is not given yet."""
        groups, given = self._groups, self._given
        if not groups:
            given.clear()
            self._next_at = None
            return
        if self._next_at is not None and now < self._next_at and given.keys() == groups.keys():
            return  # each wake-up of the agent ends here
        wall = self._wall_clock()
        number = int(wall // SECRET_S)
        self._next_at = now + SECRET_S - wall % SECRET_S
        for group_id in given.keys() - groups.keys():
            del given[group_id]
        for group_id in groups:
            known = given.get(group_id)
            if known is None or known.number != number:
                secrets = given[group_id] = secrets_at(self._key, group_id, wall)
                self._outbox.commands.append(_command(group_id, secrets))


def _command(group_id: int, secrets: Secrets) -> SetCookies:
    first, second, third, fourth = (secrets.by_number.get(each, b"") for each in range(SECRETS))
    return SetCookies(group_id, secrets.number % SECRETS, (first, second, third, fourth))
