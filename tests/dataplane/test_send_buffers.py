# SPDX-License-Identifier: Apache-2.0
"""Neighbours that do not answer hold back what is sent to them, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from data_flow_segment.runtime.sockets import open_udp
from data_flow_segment.targets.bpf.transmit import Transmitter
from packets.parse import RST
from packets.tcp import Segment, write
from ssmb.addresses import from_text
from ssmb.messages import Session

pytestmark = pytest.mark.dataplane

HERE = "192.0.2.1"  # what is sent there needs no neighbour
NOBODY = [f"192.0.2.{number}" for number in range(2, 250)]


def packet(dst: str) -> bytes:
    return write(Segment(1, flags=RST), Session(from_text(HERE), from_text(dst), 80, 4000, 6))


def test_answers_to_made_up_addresses_do_not_keep_others_from_being_sent(ground: Any) -> None:
    with ground.inside():
        transmitter = Transmitter()
        for _ in range(12):
            for address in NOBODY:
                assert transmitter.send(packet(address))
        assert transmitter.send(packet(HERE))
        transmitter.close()


def test_control_segments_that_are_gone_do_not_keep_others_from_being_told(ground: Any) -> None:
    with ground.inside():
        udp = open_udp(HERE, 0)
        sent = 0
        for _ in range(3000):  # the queue of a neighbour has an end, and drops the oldest
            for address in NOBODY[:2]:
                sent += udp.sendto(bytes(1200), (address, 61019))
        assert sent == 2 * 3000 * 1200
        assert udp.sendto(b"x", (HERE, 61019)) == 1
        udp.close()
