# SPDX-License-Identifier: Apache-2.0
"""Segments with numbers at random, near what both ends said and far from it: every target takes
those for a part of the connection that the memory target does (wire protocol 9.7)."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

import pytest

from data_flow_segment.targets.contract import Event, FlowClosed, FlowReopened, InstallFlow
from support.octets.packets import TCP_PROTOCOL
from support.targets.rig import IPV4, MemoryRig, Rig
from support.targets.scene import Scene

SEQUENCES: Final = 40
SEGMENTS: Final = 14
FLAGS: Final = ("A", "A", "PA", "PA", "PA", "FA", "FA", "R", "RA", "S", "SA", "F", "SF", "P")
STEPS: Final = (0, 0, 0, 0, 0, 1, -1, 3, -3, 10, 100, -100, 70_000, 2_000_000_000)
LENGTHS: Final = (0, 0, 0, 3, 10, 100)
FIRST: Final = (1000, 5000)


class Segment(NamedTuple):
    """From the client (0) or the node (1)."""

    direction: int
    flags: str
    seq: int
    ack: int
    length: int
    window: int


def handshake() -> list[Segment]:
    (client, node), window = FIRST, 8192
    return [
        Segment(0, "S", client, 0, 0, window),
        Segment(1, "SA", node, client + 1, 0, window),
        Segment(0, "A", client + 1, node + 1, 0, window),
    ]


def conversation(source: random.Random) -> list[Segment]:
    """Begun or met in the middle; what an end sends next is what it should, more often than not."""
    found = handshake()[: source.choice((0, 1, 2, 3, 3, 3, 3))]
    sent = [FIRST[0] + 1, FIRST[1] + 1]
    for _ in range(SEGMENTS):
        direction = source.randrange(2)
        flags, length = source.choice(FLAGS), source.choice(LENGTHS)
        seq = sent[direction] + source.choice(STEPS)
        ack = sent[1 - direction] + source.choice(STEPS)
        window = source.choice((0, 500, 8192, 65535))
        found.append(Segment(direction, flags, seq % 2**32, ack % 2**32, length, window))
        if seq == sent[direction]:
            sent[direction] = seq + length + ("S" in flags) + ("F" in flags)
    return found


def kinds(events: list[Event]) -> list[tuple[type, int]]:
    return [
        (type(event), event.cause if isinstance(event, FlowClosed) else 0)
        for event in events
        if isinstance(event, FlowClosed | FlowReopened)
    ]


def taken(scene: Scene, segment: Segment) -> tuple[object, ...]:
    """What a target makes of one more segment; whether the flow has ended is the last but one."""
    ends = (scene.client, scene.vip) if segment.direction == 0 else (scene.node, scene.client)
    packet = scene.segment(
        *ends,
        bytes(segment.length),
        flags=segment.flags,
        seq=segment.seq,
        ack=segment.ack,
        window=segment.window,
    )
    scene.send(scene.inbound(packet) if segment.direction == 0 else scene.outbound(packet))
    events = kinds(scene.rig.events())
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    return state.tcp_flags, state.closing, state.half_open, state.closed, events


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_the_same_segments_count(rig: Rig, seed: int) -> None:
    scene, model = (Scene(each, IPV4, TCP_PROTOCOL) for each in (rig, MemoryRig()))
    for each in (scene, model):
        each.rig.apply(InstallFlow(each.entry()))
    said = conversation(random.Random(seed))
    for number, segment in enumerate(said, 1):
        found = taken(scene, segment)
        assert found == taken(model, segment), said[:number]
        if found[-2]:
            return  # what an end says after its end is followed or not
