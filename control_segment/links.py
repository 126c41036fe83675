# SPDX-License-Identifier: Apache-2.0
"""One CSMB connection of the CS to one configured DFS address, from connect to close and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from control_segment.announcements import (
    Changes,
    Versions,
    complaint,
    config_message,
    messages,
    more_withheld,
    virtual_server_list,
    withheld,
)
from control_segment.config import SettingsConfig
from control_segment.group.role import Election
from csmb.codec import parts_of_nodes
from csmb.connection import Connection
from csmb.constants import RETRY_MIN_S, Flag
from csmb.events import Closed, Ready
from csmb.messages import AddVs, Message, NodePlace
from ssmb.keys import SessionKeys

# A DFS that was there and is gone is most likely being restarted, which takes about a second; then
# every second counts.  Otherwise the protocol's 1 to 30 s (7.7), which jitter must not exceed.
# A restarted agent is back within seconds, so for half a minute it is looked for every second.
_WAITS_S: Final = (0.15, 0.5, *(RETRY_MIN_S,) * 30, 2.0, 4.0, 8.0, 16.0, 24.0)
REFUSED: Final = "Connection refused"  # by a machine that lives, without an agent
_FIRST: Final = _WAITS_S.index(RETRY_MIN_S)
_SLOWER: Final = _WAITS_S.index(2.0) - 1
SENT_AT_ONCE: Final = 32  # messages, during which QUERYs wait: of VS_LISTs, some 4 ms
_JITTER: Final = 0.25  # of the wait, at most: a DFS's many CSs should not come all at once
_QUICK_AFTER_S: Final = RETRY_MIN_S  # of being ready: one that fails at once waits a second


class Link:
    """The connection, or when to try the next."""

    __slots__ = (
        "_last_octets",
        "_list_again",
        "_nodes",
        "_random_octets",
        "_said",
        "_step",
        "_takes_nodes",
        "_waiting",
        "connection",
        "dfs_id",
        "is_configured",
        "is_unreachable",
        "keys",
        "peer_id",
        "ready_since",
        "reason",
        "versions",
        "withheld",
    )

    def __init__(self, random_octets: Callable[[int], bytes]) -> None:
        self._random_octets = random_octets
        self.connection: Connection | None = None
        self.peer_id: int | None = None  # the DFS's segment id, while ready
        self.dfs_id: int | None = None  # that of the DFS that was found there last
        self.is_configured = False  # CONFIG and the whole list have been sent
        self.ready_since = 0.0
        self.reason = "not connected yet"  # why there is no connection
        self.versions = Versions(csmb=1, ssmb=1)
        self.keys: SessionKeys | None = None  # that its authentication made for SSMB
        self.withheld = 0  # virtual servers that these versions do not carry
        self._step = _FIRST
        self._last_octets = b""  # of the connection before
        self._said = False, 0  # ACTIVE and role_epoch of the last HELLO
        self._waiting: deque[Iterator[Message]] = deque()
        self._takes_nodes = False
        self.is_unreachable = False  # not even refused, the last time
        self._nodes: list[NodePlace] | None = None  # that it was sent on this connection
        self._list_again: Iterator[Message] | None = None  # of those, while it has not begun

    @property
    def is_ready(self) -> bool:
        """Whether messages may be sent."""
        return self.peer_id is not None

    def opened(self, connection: Connection) -> None:
        """TCP is connected."""
        self.connection = connection
        self._said = connection.settings.active, connection.settings.role_epoch
        self._last_octets = b""
        self.reason = ""
        self.is_unreachable = False

    def data_to_send(self) -> bytes:
        """Return, once, what is to be written to the stream; also after `closed`."""
        if self.connection is not None:
            return self.connection.data_to_send()
        octets, self._last_octets = self._last_octets, b""
        return octets

    def failed(self, reason: str) -> float:
        """There is no connection; return how long to wait."""
        self.reason = reason
        wait_s = _WAITS_S[self._step]
        self._step = min(self._step + 1, len(_WAITS_S) - 1)
        part = int.from_bytes(self._random_octets(4), "big") / 2**32
        return wait_s * (1 + _JITTER * part)

    def not_connected(self, reason: str) -> float:
        """TCP could not be connected; return how long to wait."""
        self.is_unreachable = reason != REFUSED
        return self.failed(reason)

    def became_ready(self, ready: Ready, now: float) -> None:
        """The connection is authenticated."""
        self.peer_id = self.dfs_id = ready.peer.segment_id
        self.is_configured = False
        proxies = bool(ready.peer.flags & Flag.APP_PROXY)
        self.versions = Versions(ready.csmb_version[0], ready.ssmb_version[0], proxies)
        self.keys = ready.ssmb_keys
        self.withheld = 0
        self.ready_since = now
        self._takes_nodes = bool(ready.peer.flags & Flag.NODES)
        self._forget_waiting()

    def closed(self, event: Closed, now: float) -> float:
        """The connection is over; return how long to wait before the next."""
        was_refused = event.retry_after_s is not None
        if self.is_ready:  # both sides were authenticated, so it starts over
            is_flapping = now - self.ready_since < _QUICK_AFTER_S
            self._step = _FIRST if was_refused or is_flapping else 0
        else:  # something answers there, but the connection does not last
            self._step = max(self._step, _SLOWER)
        self._last_octets = self.data_to_send()
        self.peer_id = None
        self.is_configured = False
        self._forget_waiting()
        self.connection = None
        wait_s = self.failed(event.reason)
        return wait_s if event.retry_after_s is None else event.retry_after_s

    def announce(self, role: Election, now: float) -> None:
        """Say HELLO with this role, if the connection is ready and has said another one."""
        if self.connection is None or not self.connection.is_ready:
            return
        if self._said != (role.claims, role.epoch):
            self._said = role.claims, role.epoch
            self.connection.announce(*self._said, now)
        if not role.claims:
            self.is_configured = False
            self._forget_waiting()

    def configure(self, settings: SettingsConfig, servers: list[AddVs], now: float) -> str | None:
        """Send CONFIG and every virtual server; return what the log has to say about it."""
        self.is_configured = True
        self.send([config_message(settings)], now)
        return self.send_list(servers, now)

    def send_list(self, servers: list[AddVs], now: float) -> str | None:
        """Send every virtual server; return what the log has to say about it."""
        self.send(virtual_server_list(servers, self.versions), now)
        return self._withhold(servers)

    def send_nodes(self, places: list[NodePlace], now: float) -> None:
        """Send where the nodes' answers come from, if the DFS wants to know and knows others."""
        if self._takes_nodes and places is not self._nodes and places != self._nodes:
            self._nodes = places
            self.send(parts_of_nodes(places), now)

    def send_list_again(self, servers: Callable[[], list[AddVs]]) -> None:
        """Send every virtual server in a later turn; one list that has not begun is enough.

        A request has 12 octets and the list megabytes, so that requests without end must not cost
        a list each.
        """
        if self.is_ready and self._list_again is None:
            self._list_again = virtual_server_list(servers(), self.versions)
            self._waiting.append(self._list_again)

    def send_changes(
        self,
        settings: SettingsConfig | None,
        changes: Changes,
        servers: Callable[[], list[AddVs]],
        now: float,
    ) -> str | None:
        """Send what a reload changed, and settings if they did; the answer is as of `send_list`.
        `servers`: all, which are asked for if another number of them is withheld."""
        if settings is not None:
            self.send([config_message(settings)], now)
        self.send(messages(changes, self.versions), now)
        if not more_withheld(changes, self.versions):
            return None
        return self._withhold(servers())

    def _withhold(self, servers: list[AddVs]) -> str | None:
        """Say loudly, once for each number of them, that this DFS will not serve everything."""
        lost = withheld(servers, self.versions)
        before, self.withheld = self.withheld, len(lost)
        return complaint(lost, self.versions) if lost and len(lost) != before else None

    @property
    def is_sending(self) -> bool:
        """Whether `send_on` has more to send."""
        return bool(self._waiting)

    def send(self, messages: Iterable[Message], now: float) -> None:
        """Send messages if the connection is ready; otherwise READY will send everything again.

        Some of them at once, the others by `send_on`, behind those that wait already.
        """
        if self.is_ready:
            self._waiting.append(iter(messages))
            self.send_on(now)

    def _forget_waiting(self) -> None:
        self._nodes = None
        self._waiting.clear()
        self._list_again = None

    def send_on(self, now: float) -> None:
        """Send some of what waits.

        The connection may have ended already: one segment can bring both READY and what ends it,
        and the events are taken one by one.
        """
        connection = self.connection
        if connection is None or not connection.is_ready:
            self._forget_waiting()
            return
        for _ in range(SENT_AT_ONCE):
            while self._waiting:
                if self._waiting[0] is self._list_again:
                    self._list_again = None
                message = next(self._waiting[0], None)
                if message is not None:
                    connection.send(message, now)
                    break
                self._waiting.popleft()
