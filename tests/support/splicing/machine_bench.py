# SPDX-License-Identifier: Apache-2.0
"""A bench for transcripts: SYN cookies, the machine, and what a target would do after the splice,
in virtual time."""

from __future__ import annotations

from typing import Final

from packets.parse import ACK, FIN, RST, SYN
from packets.tcp import HEADERS_V4, Segment
from splicing import cookies, offsets
from splicing.connection import Connection
from splicing.instructions import (
    Ask,
    Decision,
    End,
    Instruction,
    Offsets,
    Pass,
    Send,
    Settings,
    Side,
    Splice,
    Verdict,
)
from splicing.table import State
from ssmb.addresses import from_text
from ssmb.constants import TCP
from ssmb.messages import Session
from support.splicing.transcript import Happened, Setup

ENDS: Final = Session(from_text("198.51.100.9"), from_text("203.0.113.10"), 40001, 80, TCP)
KEY: Final = b"a pre-shared key"
WALL_CLOCK_S: Final = 1_800_000_000.0
START_MS: Final = 50_000_000  # so that T is far from the numbers that clients use here


class MachineBench:
    """One connection."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.now = 0.0
        self.connection: Connection | None = None
        self.by: Offsets | None = None
        self.out: list[Happened] = []
        self.settings = Settings(
            mss=setup.mss,
            limit=setup.limit,
            buffer=setup.buffer,
            stays=bool(setup.stays),
            idle_s=setup.idle,
        )

    # --- the bench ----------------------------------------------------------------------------

    def send(self, origin: Side, segment: Segment) -> None:
        """That side sends."""
        if self.connection is None:
            if origin is Side.CLIENT:
                self._meet(segment)
            return
        self._carry_out(self.connection.segment(origin, segment, self.now))

    def act(self, verb: str, words: dict[str, str]) -> None:
        """The Control Segment does, or ICMP says."""
        connection, now = self.connection, self.now
        assert connection is not None, f"{verb}: there is no connection yet"
        value = words.get("value", "")
        if verb == "decide":
            self._carry_out(connection.decided(_decision(words), now))
        elif verb == "say":
            self._carry_out(connection.say(value.encode(), now))
        elif verb == "too_big":
            self._carry_out(connection.too_big(int(value), HEADERS_V4, now))
        else:
            calls = {
                "refuse": connection.refused,
                "more": connection.more,
                "unreachable": connection.node_unreachable,
                "drop": connection.drop,
            }
            self._carry_out(calls[verb](now))

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        until = self.now + seconds
        while self.connection is not None:
            timer = self.connection.get_timer()
            if timer is None or timer > until + 1e-9:
                break
            self.now = max(self.now, timer)
            self._carry_out(self.connection.handle_timer(self.now))
        self.now = until

    def happened(self) -> list[Happened]:
        """What came out since the last call."""
        out, self.out = self.out, []
        return out

    def close(self) -> None:
        """What is spliced or over holds nothing and waits for nothing."""
        connection = self.connection
        if connection is None or connection.state not in (State.SPLICED, State.OVER):
            return
        assert connection.get_timer() is None
        assert connection.octets == b""
        assert connection.node is None
        assert connection.client.received.pieces() == []

    # --- before there is a connection -----------------------------------------------------------

    def _meet(self, segment: Segment) -> None:
        secrets = cookies.secrets_at(KEY, 1, WALL_CLOCK_S + self.now)
        if segment.flags & (SYN | ACK | RST) == SYN:
            now_ms = START_MS + int(self.now * 1000)
            answer = cookies.answer(
                secrets, ENDS, segment, now_ms, mss=self.setup.mss, ecn=bool(self.setup.ecn)
            )
            self.out.append(Happened(Side.CLIENT, answer))
            if self.setup.half_open:
                agreed = cookies.agreed(segment, answer)
                self.connection = Connection.half_open(
                    agreed, answer, self.settings, self._enough, self.now
                )
            return
        begins = segment.payload or segment.flags & FIN or self.setup.server_first
        found = cookies.read(secrets, ENDS, segment)
        if segment.flags & (SYN | RST) or found is None or not begins:
            return
        self.connection = Connection(found, self.settings, self._enough, self.now)
        self._carry_out(self.connection.segment(Side.CLIENT, segment, self.now))

    def _enough(self, octets: bytes) -> Verdict:
        if octets.startswith(self.setup.refuses.encode()):
            return Verdict.REFUSED
        is_enough = self.setup.enough and len(octets) >= self.setup.enough
        return Verdict.COMPLETE if is_enough else Verdict.MORE

    # --- what the machine wants -----------------------------------------------------------------

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for each in instructions:
            if isinstance(each, Send):
                self.out.append(Happened(each.to, each.segment))
            elif isinstance(each, Pass):
                self._pass(each.origin, each.segment)
            else:
                self.out.append(Happened(None, None, self._word(each)))

    def _pass(self, origin: Side, segment: Segment) -> None:
        assert self.by is not None, "put back before the splice"
        if origin is Side.CLIENT:
            self.out.append(Happened(Side.NODE, offsets.to_node(segment, self.by)))
        else:
            self.out.append(Happened(Side.CLIENT, offsets.to_client(segment, self.by)))

    def _word(self, instruction: Ask | Splice | End) -> str:
        if isinstance(instruction, Ask):
            text = f"ask {len(instruction.octets)}"
            text += " truncated" if instruction.truncated else ""
            return text + (" failed" if instruction.node_failed else "")
        if isinstance(instruction, Splice):
            self.by = instruction.offsets
            return f"splice seq {self.by.seq_offset} wscale {self.by.wscale_shift}"
        return f"end {instruction.cause.name}{' asked' if instruction.was_asked else ''}"


def _decision(words: dict[str, str]) -> Decision:
    size = int(words.get("greeting", 0))

    def greeting(octets: bytes) -> int | Verdict:
        if octets.startswith(b"!"):
            return Verdict.REFUSED
        return size if len(octets) >= size else Verdict.MORE

    return Decision(
        mss=int(words.get("mss", 0)),
        prefix=words.get("prefix", "").encode(),
        skip=int(words.get("skip", 0)),
        greeting=greeting if size else None,
    )
