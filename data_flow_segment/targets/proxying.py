# SPDX-License-Identifier: Apache-2.0
"""What reaches a proxied virtual server and belongs to no flow: SYNs are answered with a cookie,
and of what follows only a client's first segment with data is of interest (docs/design/0012)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from data_flow_segment.targets.contract import SetCookies
from data_flow_segment.targets.translation import Key
from packets import tcp
from packets.parse import ACK, FIN, RST, SYN, Packet
from splicing import cookies
from ssmb.messages import Session

_ETHERNET_MTU: Final = 1500


class Verdict(Enum):
    """What becomes of a packet."""

    ANSWER = auto()  # a SYN
    BEGINS = auto()  # has a valid cookie, and data or FIN
    STRAY = auto()  # has data or FIN, and no valid cookie
    IDLE = auto()  # says nothing
    INVALID = auto()  # nobody sends it
    UNKNOWN = auto()  # there are no secrets yet


NOT_BEGUN: Final = {
    Verdict.ANSWER: "drop_checksum",
    Verdict.STRAY: "drop_cookie",
    Verdict.IDLE: "cookie_acks",
    Verdict.INVALID: "drop_tcp_flags",
    Verdict.UNKNOWN: "drop_cookie",
}
"""What is counted of packets to a proxied virtual server that end here."""


class Proxy:
    """The secrets of all groups; they outlive the agent, as the data path does."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        self._clock = clock
        self._by_group: dict[int, tuple[SetCookies, cookies.Secrets]] = {}

    def set(self, command: SetCookies) -> None:
        """Carry out a command."""
        by_number = {number: each for number, each in enumerate(command.secrets) if each}
        secrets = cookies.Secrets(command.current, by_number)
        self._by_group[command.group_id] = command, secrets

    def judge(self, packet: Packet, key: Key, group_id: int) -> Verdict:
        """Of a TCP packet that is no fragment."""
        flags = packet.tcp_flags
        if group_id not in self._by_group:
            return Verdict.UNKNOWN
        if flags & (SYN | ACK) == SYN:
            return Verdict.ANSWER
        if flags & RST:
            return Verdict.IDLE
        if flags & SYN or not flags & ACK:
            return Verdict.INVALID
        segment = tcp.read(packet)
        if not segment.payload and not flags & FIN:
            return Verdict.IDLE
        _, secrets = self._by_group[group_id]
        valid = cookies.read(secrets, Session(*key), segment) is not None
        return Verdict.BEGINS if valid else Verdict.STRAY

    def answer(self, packet: Packet, key: Key, group_id: int) -> bytes:
        """The IP packet of the SYN-ACK for a SYN."""
        command, secrets = self._by_group[group_id]
        ends = Session(*key)
        headers = tcp.HEADERS_V4 if packet.version == 4 else tcp.HEADERS_V6
        mss = _ETHERNET_MTU - headers - command.mss_less
        now_ms = int(self._clock() * 1000)
        syn = tcp.read(packet)
        made = cookies.answer(secrets, ends, syn, now_ms, mss=mss, ecn=command.ecn)
        return tcp.write(made, ends.opposite)
