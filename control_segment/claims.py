# SPDX-License-Identifier: Apache-2.0
"""Two DFSs that claim one segment_id or one SSMB address (wire protocol 7.7, rule 13).

The second one is the first, started again, or the first has moved away; or both are alive, because
a configuration file was copied.  Only the first can tell, so it is asked.  Until it answers, or has
had time enough, the second one is READY and gets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_segment.links import Link
from control_segment.peers import Peer
from csmb.constants import ErrorCode
from csmb.events import Ready
from csmb.messages import Hello
from csmb.probes import Probe, Verdict, verdict
from ssmb.addresses import to_text


@dataclass(slots=True)
class Claim:
    """What a READY connection wants and another one has."""

    ready: Ready
    hello: Hello  # the newest, which has to be acted on if the claim is good
    code: ErrorCode
    what: str
    holders: tuple[tuple[int, Link, Probe], ...]  # index, link, what it was asked

    def verdict(self, now: float) -> Verdict:
        """Whether the one before it is there."""
        return verdict((probe for _, _, probe in self.holders), now)

    @property
    def until(self) -> float:
        """When the verdict is due at the latest."""
        return max(probe.until for _, _, probe in self.holders)


def contest(
    hello: Hello,
    ssmb_version: int,
    but: int,
    links: Sequence[Link],
    peers: Mapping[int, Peer],
) -> tuple[ErrorCode, str, list[int]] | None:
    """Return what of this HELLO another DFS has, and on which links it is; `but` is its own."""
    others = [
        (index, peers[link.peer_id])
        for index, link in enumerate(links)
        if index != but
        and link.peer_id is not None
        and link.connection is not None
        and link.connection.is_ready
    ]
    same_id = [
        index
        for index, peer in others
        if peer.segment_id == hello.segment_id and peer.boot_id != hello.boot_id
    ]
    if same_id:
        return ErrorCode.DUPID, f"segment_id {hello.segment_id}", same_id
    address = to_text(hello.ssmb_address(ssmb_version)), hello.ssmb_port
    same_address = [
        index
        for index, peer in others
        if peer.segment_id != hello.segment_id and peer.address == address
    ]
    if same_address:
        return ErrorCode.DUPADDR, f"SSMB address {address[0]} port {address[1]}", same_address
    return None


class Claims:
    """Those that are not decided, by the index of the link that claims."""

    def __init__(self, links: Sequence[Link], peers: Mapping[int, Peer]) -> None:
        self.open: dict[int, Claim] = {}
        self._links = links
        self._peers = peers

    def begins(self, index: int, ready: Ready, now: float) -> bool:
        """Whether a DFS that is READY claims what another one has; then that one is asked."""
        contested = contest(ready.peer, ready.ssmb_version[0], index, self._links, self._peers)
        if contested is None:
            return False
        code, what, indices = contested
        holders = []
        for holder in indices:
            connection = self._links[holder].connection
            assert connection is not None
            holders.append((holder, self._links[holder], Probe(connection, now)))
        self.open[index] = Claim(ready, ready.peer, code, what, tuple(holders))
        return True

    def heard(self, index: int, hello: Hello) -> None:
        """A DFS that waits for the verdict has said HELLO again."""
        if index in self.open:
            self.open[index].hello = hello

    def get_timer(self) -> float | None:
        """When the next verdict is due."""
        return min((each.until for each in self.open.values()), default=None)

    def refuted(self, now: float) -> list[tuple[int, Claim]]:
        """Claims to what a living DFS has; they end with their connections."""
        return self._found(Verdict.ALIVE, now)

    def take_granted(self, now: float) -> list[tuple[int, Claim]]:
        """Claims to what is free now, once."""
        granted = self._found(Verdict.GONE, now)
        for index, _ in granted:
            del self.open[index]
        return granted

    def _found(self, verdict: Verdict, now: float) -> list[tuple[int, Claim]]:
        return [(index, each) for index, each in self.open.items() if each.verdict(now) is verdict]
