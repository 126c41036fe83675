# SPDX-License-Identifier: Apache-2.0
"""The hot path: datagrams of DFSs, many at a time, to REPLYs.

Whoever receives them may open the seals and make the REPLYs too (`handle_opened`): the native part
of the runtime does.  What is decided is the same, and so is everything that is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from admin.faults import Faults
from control_segment.decisions import Decisions
from control_segment.dispatch import Dispatch
from control_segment.group.group import Group
from control_segment.peers import AddressBook, Datagram, Peer
from control_segment.statistics import Statistics
from control_segment.wire import (
    APP_QUERY_SIZE,
    KEY_END,
    PARKED_QUERY_MAX,
    QUERY_SIZE,
    Answer,
    are_deletes,
    is_copied_reply,
    is_copied_taken,
    reply_octets,
    signature_of,
    slow_reply,
)
from ssmb.constants import PARKED_FRAME_MAX, Flag, MessageType
from ssmb.errors import BadTag, Replayed, SealError, TooOld, TooShort
from ssmb.serials import CS_ORIGINATED, NO_FLOW

_SEAL_DROPS: Final = {
    BadTag: "bad_seal",
    Replayed: "replayed",
    TooOld: "too_old",
    TooShort: "too_short",
}

# In a QUERY's third octet: the answer goes to the DFS, whatever else is multicast (11.2), as does
# that to anything but a plain QUERY about a new flow.  Where the data path asks it gets the packet
# back; and the answer before may be lost to the DFS
_ASKED_ALONE: Final = int(Flag.PARKED | Flag.RETRY) >> 8

_APP_LENGTH: Final = 52  # of an APP_QUERY, with what is reserved
_NO_DATA: Final = bytes(4)

Opened: TypeAlias = tuple[Peer, bytes]
# Where in its batch a QUERY of version 2, or an APP_QUERY with its frame, is, whose it is, and what
# makes its octets the REPLY
Answered: TypeAlias = tuple[int, Peer, Answer]


class Batches:
    """Answers batches of datagrams."""

    def __init__(
        self,
        by_address: AddressBook,
        decisions: Decisions,
        dispatch: Dispatch,
        group: Group,
        statistics: Statistics,
        faults: Faults,
    ) -> None:
        self._by_address = by_address
        self._decisions = decisions
        self._waiting = decisions.table.waiting
        self._dispatch = dispatch
        self._content = dispatch.content
        self._group = group
        self._of_css = group.direct.addresses
        self._statistics = statistics
        self._faults = faults
        # Whether timers or the log may have changed since this was last set to False.  QUERYs about
        # new flows, DELETEs and copies, which are nearly all that comes, change neither
        self.is_touched = True
        self.is_native = False  # whether native code opens and seals; for `status`

    # --- sealed --------------------------------------------------------------------------------

    def handle(self, datagrams: Sequence[Datagram], now: float) -> list[Datagram]:
        """Take received datagrams; return the REPLYs to the QUERYs among them."""
        replies: list[Datagram] = []
        self._dispatch.mirror.begin_batch()
        left = iter(datagrams)
        while not self._is_done(left, replies, now):
            pass
        return self._with_what_waited(replies, now)

    def _is_done(self, datagrams: Iterator[Datagram], replies: list[Datagram], now: float) -> bool:
        """Handle datagrams until one meets a mistake; the others go on behind it."""
        try:
            for octets, address in datagrams:
                peer = self.peer_at(address)
                if peer is None:
                    self.from_cs(octets, address, now)
                    continue
                if peer.keys is not None:
                    try:
                        octets = peer.keys.open(octets, now)
                    except SealError as error:
                        self.refuse(peer, type(error), now)
                        continue
                answer = self._answer(peer, octets, now)
                if answer is not None:
                    if isinstance(answer, bytes):
                        reply = answer
                    else:
                        reply = reply_octets(octets, *answer)
                        if peer.sharing is not None and not octets[2] & _ASKED_ALONE:
                            replies.append(peer.seal_shared(reply))
                            continue
                    sealer = peer.sealer
                    replies.append((reply if sealer is None else sealer.seal(reply), peer.address))
        except Exception as error:
            self._failed(error)
            return False
        return True

    def peer_at(self, address: tuple[object, ...]) -> Peer | None:
        """Return whose datagrams come from there, if they are a DFS's."""
        return self._by_address.get(address)

    def from_cs(self, octets: bytes, address: tuple[object, ...], now: float) -> None:
        """A datagram of no DFS: another CS's, or nobody's, which is counted."""
        if address[:2] in self._of_css:
            self.is_touched = True
            self._group.datagram_came(octets, (str(address[0]), int(str(address[1]))), now)
        else:
            self._statistics.drops["unknown_source"] += 1

    def refuse(self, peer: Peer, error: type[SealError], now: float) -> None:
        """A datagram's seal is not right."""
        self._statistics.drops[_SEAL_DROPS.get(error, "bad_seal")] += 1
        if error is BadTag:
            self.is_touched = True
            self._dispatch.bad_seal(peer, now)

    # --- opened --------------------------------------------------------------------------------

    def handle_opened(
        self, datagrams: Sequence[Opened], now: float
    ) -> tuple[list[Answered], list[Datagram]]:
        """Take datagrams whose seals were right; return what is to be answered to QUERYs among
        them, and what else is to be sent."""
        answered: list[Answered] = []
        others: list[Datagram] = []
        self._dispatch.mirror.begin_batch()
        for place, (peer, octets) in enumerate(datagrams):
            try:
                answer = self._answer(peer, octets, now)
            except Exception as error:
                self._failed(error)
                continue
            if answer is None:
                continue
            if isinstance(answer, bytes):
                others.append(peer.seal(answer))
            else:
                answered.append((place, peer, answer))
        self._statistics.sent[MessageType.REPLY] += len(answered)
        if answered and self._dispatch.waiting:
            self._dispatch.flush()
        return answered, self._with_what_waited(others, now)

    def _answer(self, peer: Peer, octets: bytes, now: float) -> Answer | bytes | None:
        """Handle one datagram; return what it is answered with, or the REPLY itself."""
        # One QUERY of version 2 about a new flow, PARKED if a frame follows, not OUTBOUND
        if (
            QUERY_SIZE <= (size := len(octets)) <= PARKED_QUERY_MAX
            and octets[0] == 1
            and octets[2] & 0x50 == (0x40 if size == QUERY_SIZE else 0x50)
            and not octets[3] & 1
            and not octets[47]
            and peer.is_fast
            and NO_FLOW < (serial := int.from_bytes(octets[4:8], "big")) < CS_ORIGINATED
        ):
            self._statistics.received[1] += 1
            return self._decisions.decide(peer, octets[8:KEY_END], serial, octets[46], now)
        if (
            size > APP_QUERY_SIZE
            and octets[0] == 3
            and octets[2] & 0x50 == 0x50
            and not octets[1]
            and not octets[3] & 1
            and octets[_APP_LENGTH:APP_QUERY_SIZE] == _NO_DATA
            and size <= APP_QUERY_SIZE + PARKED_FRAME_MAX
            and peer.is_fast
            and NO_FLOW < (serial := int.from_bytes(octets[4:8], "big")) < CS_ORIGINATED
        ):
            self._statistics.received[3] += 1
            frame = octets[APP_QUERY_SIZE:]
            return self._content.decide_framed(peer, octets[8:KEY_END], serial, frame, now)
        if (peer.is_fast or peer.is_copied) and not peer.sync.is_running and are_deletes(octets):
            self._dispatch.deletes(peer, octets, now)
            return None
        if peer.is_copied and is_copied_reply(octets):
            self._dispatch.copied_reply(peer, octets, now)
            return None
        if not (peer.is_copied and is_copied_taken(octets)):
            self.is_touched = True
        return self._dispatch.receive(peer, octets, now)

    # --- both ----------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        self._faults.note("handling a datagram of a DFS", error)
        self.is_touched = True

    def _with_what_waited(self, replies: list[Datagram], now: float) -> list[Datagram]:
        if self._waiting and self._waiting.freed:
            replies += self.serve_waiting(now)
        if self._dispatch.pairs.is_busy:
            self.is_touched = True
            self._dispatch.pairs.flush(now)
        self._statistics.sent[MessageType.REPLY] += len(replies)
        if self._dispatch.waiting and replies:
            self._dispatch.flush()
        return replies

    def serve_waiting(self, now: float) -> list[Datagram]:
        """REPLYs that were not asked for: a place was found."""
        replies = []
        for peer, key, serial, answer in self._decisions.serve_waiting(now):
            signature = signature_of(key)
            version = peer.ssmb_version
            reply = slow_reply(signature, serial, *answer, version=version, frame=b"")
            replies.append(peer.seal_shared(reply))
        return replies
