# SPDX-License-Identifier: Apache-2.0
"""A bench for transcripts: a real agent and a memory target, in virtual time.

It asks by what it reads, so a sequence's `enough` is the size of a request.
"""

from __future__ import annotations

from typing import Final

from csmb.messages import Config
from data_flow_segment.targets.memory.target import MemoryTarget
from packets import checksum, icmp
from packets.parse import ICMP
from packets.tcp import Segment, write
from splicing.instructions import Side
from ssmb.addresses import from_text
from ssmb.constants import APP_DATA_MAX, ErrorCode, Flag
from ssmb.messages import AppQuery, Reset, Session
from support.octets.frames import framed
from support.segments.agent_rig import CLIENT, EXTERNAL, INTERNAL, INTERNAL_MAC, NODE, NODE_MAC, VIP
from support.segments.proxied_rig import End, ProxiedRig, proxied_server
from support.splicing.transcript import Happened, Sequence, Setup, is_awaited, setup_of

NAME: Final = "agent"
TIMER_SLOT_S: Final = 0.02
"""The agent's timers may be so late."""
REQUEST_MIN: Final = 30
_OF_A_CS: Final = ("say", "decide ")  # which drives the machine itself
_ASKED_FOR: Final = "more"  # only a question of the data path's own is answered so
_ROUTER: Final = from_text("10.1.1.1")
_UNREACHABLE: Final = 0x0301 << 48  # type and code, before checksum and what they are about
_TOO_BIG: Final = 0x0304 << 48
_QUOTED: Final = 28  # octets of a packet that an old router sends back (RFC 792)


def can_play(sequence: Sequence) -> bool:
    """Whether an agent with an HTTP virtual server can be brought to all of it."""
    setup = setup_of(sequence)
    plain = Setup(
        enough=setup.enough, limit=setup.limit, buffer=setup.buffer, idle=setup.idle,
        client=setup.client, node=setup.node, only=setup.only,
    )  # fmt: skip
    if setup != plain or setup.only not in ("", NAME) or setup.enough < REQUEST_MIN:
        return False
    return not any(
        line.startswith((*_OF_A_CS, _ASKED_FOR)) or f'"{setup.refuses}' in line
        for line in sequence.lines
    )


def by_receiver(lines: list[str]) -> list[str]:
    """With what comes out of one step ordered by who gets it: an agent's words and packets are on
    different ways.  It does not say why a connection is over."""
    ordered: list[str] = []
    step: list[str] = []
    for line in [*lines, "and nothing more"]:
        if is_awaited(line):
            step.append("end" if line.startswith("end ") else line)
            continue
        ordered += sorted(step, key=lambda each: each.split(" ")[0])
        ordered.append(line)
        step = []
    return ordered


class AgentBench:
    """One connection."""

    def __init__(self, setup: Setup, target: MemoryTarget | None = None) -> None:
        limit = 0 if setup.limit == Setup().limit else setup.limit
        idle = 0 if setup.idle == Setup().idle else setup.idle
        self.rig = ProxiedRig(
            proxied_server(app_limit=limit, idle_timeout=idle),
            target=target,
            config=Config(flow_buffer_max=setup.buffer),
        )
        self._question: AppQuery | None = None
        self._to_node: Segment | None = None  # the latest
        self._nodes: list[End] = []  # each decision names another one
        self._is_over = False

    def send(self, origin: Side, segment: Segment) -> None:
        """That side sends."""
        if origin is Side.CLIENT:
            self.rig.deliver(CLIENT, VIP, segment, EXTERNAL)
        else:
            self.rig.deliver((self._nodes or [NODE])[-1], CLIENT, segment, INTERNAL)

    def act(self, verb: str, words: dict[str, str]) -> None:
        """The Control Segment answers the question, if there is one, or ends all; a router says
        something about what the node was sent last."""
        if verb == "drop":
            self.rig.active.send(Reset(reset_id=1))
        elif verb == "unreachable":
            self._complain(_UNREACHABLE)
        elif verb == "too_big":
            self._complain(_TOO_BIG | int(words["value"]))
        else:
            self._answer(verb)

    def _complain(self, about: int) -> None:
        assert self._to_node is not None, "the node was sent nothing"
        quoted = write(self._to_node, Session(CLIENT[0], self._nodes[-1][0], CLIENT[1], NODE[1], 6))
        message = about.to_bytes(8, "big") + quoted[:_QUOTED]
        message = message[:2] + checksum.compute(message).to_bytes(2, "big") + message[4:]
        header = icmp.ipv4_header(_ROUTER, CLIENT[0], ICMP, len(message))
        self.rig.receive(framed(header + message, NODE_MAC, INTERNAL_MAC), INTERNAL)

    def _answer(self, verb: str) -> None:
        question, self._question = self._question, None
        if question is None:
            return
        if verb == "decide":
            node = (NODE[0][:-1] + bytes((NODE[0][-1] + len(self._nodes),)), NODE[1])
            self._nodes.append(node)
            self.rig.decide(question, node_ipaddr=node[0])
        else:
            assert verb == "refuse", f"{verb}: not at this bench"
            self.rig.decide(question, error_code=int(ErrorCode.NOTAVAIL))

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.rig.advance(seconds)
        self.rig.agent.handle_timer(self.rig.now + TIMER_SLOT_S)
        self.rig.settle()

    def happened(self) -> list[Happened]:
        """What came out since the last call."""
        rig = self.rig
        out = [
            Happened(None, None, self._asked(question))
            for question in rig.active.take(AppQuery)
            if self._is_new(question)
        ]
        state = rig.state()
        if state is not None and not state.entry.held and not self._is_over:
            entry, self._is_over = state.entry, True
            word = f"splice seq {entry.seq_offset} wscale {entry.wscale_shift}"
            out.append(Happened(None, None, word))
        was_there = rig.count("proxied_connections") > 0
        if was_there and not self._is_over and rig.handshake() is None:
            self._is_over = True
            out.append(Happened(None, None, "end"))
        out += [Happened(Side.CLIENT, segment) for segment in rig.take(VIP, CLIENT)]
        for node in self._nodes:
            for segment in rig.take(CLIENT, node):
                self._to_node = segment
                out.append(Happened(Side.NODE, segment))
        return out

    def close(self) -> None:
        """What is spliced or over is not kept."""
        if self._is_over:
            assert self.rig.is_idle()

    def _is_new(self, question: AppQuery) -> bool:
        if question.flags & int(Flag.RETRY) and (
            not question.error_code or self._question is not None
        ):
            return False  # the same question again
        self._question = question
        return True

    def _asked(self, question: AppQuery) -> str:
        handshake = self.rig.handshake()
        assert handshake is not None
        octets = handshake.connection.octets
        word = f"ask {len(octets)}"
        if octets.find(b"\r\n\r\n") > APP_DATA_MAX - 4:
            assert question.flags & int(Flag.TRUNCATED)  # all is there; the message is too short
        elif question.flags & int(Flag.TRUNCATED):
            word += " truncated"
        return word + (" failed" if question.error_code == int(ErrorCode.NODEFAIL) else "")
