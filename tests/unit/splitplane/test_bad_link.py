# SPDX-License-Identifier: Apache-2.0
"""A bad link is as bad as it was asked to be, to TCP alone; other frames keep their order."""

from __future__ import annotations

import pytest

from packets.parse import ACK
from packets.tcp import Segment, write
from splitplane.impair import Impairment
from splitplane.lab.bad_link import Queue, is_tcp
from ssmb.addresses import from_text
from ssmb.constants import TCP, UDP
from ssmb.messages import Session

ETHERNET = bytes(12)
ARP = ETHERNET + b"\x08\x06" + bytes(28)
DELAY_S = 0.05


def segment(number: int, *, six: bool = False) -> bytes:
    ends = ("2001:db8::1", "2001:db8::2") if six else ("192.0.2.1", "192.0.2.2")
    session = Session(from_text(ends[0]), from_text(ends[1]), 40000, 80, TCP)
    packet = write(Segment(seq=number, ack=1, flags=ACK, payload=b"octets"), session)
    return ETHERNET + (b"\x86\xdd" if six else b"\x08\x00") + packet


@pytest.mark.parametrize("six", [False, True])
def test_tcp_is_known_by_its_protocol(six: bool) -> None:
    frame = segment(1, six=six)
    assert is_tcp(frame)
    at = 14 + (6 if six else 9)
    assert not is_tcp(frame[:at] + bytes([UDP]) + frame[at + 1 :])
    assert not is_tcp(ARP)
    assert not is_tcp(b"short")


def test_each_frame_waits_and_none_overtakes() -> None:
    queue = Queue(DELAY_S, Impairment())
    frames = [segment(number) for number in range(50)]
    for frame in frames:
        queue.put("out", frame, 1.0)
    assert queue.next_s == 1.0 + DELAY_S
    assert queue.due(1.0 + DELAY_S - 0.001) == []
    assert queue.due(1.0 + DELAY_S) == [("out", frame) for frame in frames]
    assert queue.next_s is None


def test_what_is_not_tcp_passes_at_once() -> None:
    queue = Queue(DELAY_S, Impairment(drop=1.0))
    queue.put("in", ARP, 1.0)
    assert queue.due(1.0) == [("in", ARP)]


def test_the_same_seed_does_the_same() -> None:
    def shown(seed: int) -> list[tuple[str, bytes]]:
        queue = Queue(DELAY_S, Impairment(drop=0.2, duplicate=0.2, reorder=0.2, seed=seed))
        for number in range(200):
            queue.put("out" if number % 2 else "in", segment(number), number / 1000)
        return list(queue.due(10.0))

    assert shown(1) == shown(1)
    assert shown(1) != shown(2)
    came = [octets for _, octets in shown(1)]
    sent = [segment(number) for number in range(200)]
    assert set(came) < set(sent), "none is lost"
    assert len(came) > len(set(came)), "none is doubled"
    assert came != sorted(came, key=sent.index), "none is overtaken"
