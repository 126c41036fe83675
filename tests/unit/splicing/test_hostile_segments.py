# SPDX-License-Identifier: Apache-2.0
"""Segments that no honest end sends, in every state: nothing raises, nothing grows."""

from __future__ import annotations

import random
from typing import Final

import pytest

from packets.parse import ACK, FIN, PSH, RST, SYN
from packets.tcp import HEADERS_V6, URG, Options, Segment
from splicing.connection import Connection
from splicing.instructions import Agreed, Decision, Instruction, Send, Settings, Side, Verdict
from splicing.reassembly import PIECES_MAX
from splicing.table import State
from support.soak import seeds

LIMIT: Final = 400
BUFFER: Final = 300
C, P, S = 0xFFFFFF00, 5000, 0xFFFFFFF0
SYN_ACK: Final = Segment(P, C + 1, SYN | ACK, 65535, Options(mss=1460))
FLAGS: Final = (0, ACK, ACK, ACK, ACK | PSH, ACK | FIN, SYN, SYN | ACK, RST, RST | ACK, URG | ACK)
EDGES: Final = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def number(dice: random.Random, *near: int) -> int:
    """Near one of those, or anywhere."""
    if dice.random() < 0.1:
        return dice.choice(EDGES)
    return dice.choice(near) + dice.randint(-2, 60) & 0xFFFFFFFF


def hostile(dice: random.Random, seq: tuple[int, ...], ack: tuple[int, ...]) -> Segment:
    """A segment of a side with those numbers."""
    options = Options(
        mss=dice.choice([None, 1, 1460, 65535]),
        window_scale=dice.choice([None, 0, 14]),
        sack_permitted=dice.random() < 0.5,
        sack=((number(dice, *ack), number(dice, *ack)),) if dice.random() < 0.2 else (),
        timestamps=dice.choice([None, (dice.choice(EDGES), dice.choice(EDGES))]),
    )
    payload = bytes(dice.choice([0, 0, 1, 50, 1460]))
    window = dice.choice([0, 1, 65535])
    flags = dice.choice(FLAGS)
    urgent = dice.choice([0, 1, 65535])
    return Segment(number(dice, *seq), number(dice, *ack), flags, window, options, payload, urgent)


def happen(
    dice: random.Random, connection: Connection, now: float, sent: list[int]
) -> list[Instruction]:
    """One thing of all that can."""
    kind = dice.random()
    if kind < 0.5:
        return connection.segment(Side.CLIENT, hostile(dice, (C, C + 60), (P, P + 40)), now)
    if kind < 0.8:
        return connection.segment(Side.NODE, hostile(dice, (S, S + 60), (C, *sent[-3:])), now)
    calls = (
        lambda: connection.decided(
            Decision(
                mss=dice.choice([0, 1000]),
                prefix=dice.choice([b"", b"x" * 30]),
                skip=dice.choice([0, 20, 9999]),
                greeting=dice.choice([None, lambda octets: 5 if len(octets) > 9 else Verdict.MORE]),
            ),
            now,
        ),
        lambda: connection.decided(Decision(), now),
        lambda: connection.more(now),
        lambda: connection.say(b"hello" * 3, now) if dice.random() < 0.3 else [],
        lambda: connection.too_big(dice.choice([0, 1000, 1400]), HEADERS_V6, now),
        lambda: connection.handle_timer(now),
        lambda: connection.node_unreachable(now) if dice.random() < 0.2 else [],
        lambda: connection.refused(now) if dice.random() < 0.02 else [],
        lambda: connection.drop(now) if dice.random() < 0.02 else [],
    )
    return dice.choice(calls)()


def new(dice: random.Random) -> Connection:
    """A connection of any kind."""
    agreed = Agreed(
        C, P, dice.choice([536, 1460]), dice.choice([None, 0, 14]), dice.random() < 0.5,
        dice.choice([None, 77]), False,
    )  # fmt: skip
    settings = Settings(1460, LIMIT, BUFFER, stays=dice.random() < 0.3)
    size = dice.choice([50, 10_000])

    def enough(octets: bytes) -> Verdict:
        return Verdict.COMPLETE if len(octets) >= size else Verdict.MORE

    if dice.random() < 0.3:
        return Connection.half_open(agreed, SYN_ACK, settings, enough, 0.0)
    return Connection(agreed, settings, enough, 0.0)


@pytest.mark.parametrize("seed", seeds(600))
def test_nothing_raises_and_nothing_grows(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(4):
        connection, now, said, sent = new(dice), 0.0, 0, [C + 1]
        for _ in range(60):
            now += dice.choice([0, 0, 0.01, 0.3, 4])
            made = happen(dice, connection, now, sent)
            sent += [each.segment.end for each in made if isinstance(each, Send)]
            said += len(made)
            assert len(made) <= 25
            check(connection, now)
        assert said <= 60 * 6


def check(connection: Connection, now: float) -> None:
    received = connection.client.received
    assert len(received.data) <= LIMIT + BUFFER
    assert sum(len(octets) for _, octets in received.pieces()) <= BUFFER
    assert len(received.pieces()) <= PIECES_MAX
    timer = connection.get_timer()
    if connection.state in (State.SPLICED, State.OVER):
        assert timer is None
        assert connection.octets == b""
        assert connection.node is None
        return
    assert timer is not None
    if connection.node is not None:
        assert len(connection.node.flush.octets) <= LIMIT + BUFFER + 30
