# SPDX-License-Identifier: Apache-2.0
"""More new flows than the CS answers: strangers wait, clients that were here before do not
(bpf/crowd.h).  Of targets that hold questions back, which have the counter."""

from __future__ import annotations

import pytest

from data_flow_segment.targets.bpf.maps import Map
from data_flow_segment.targets.bpf.pinned import opened
from data_flow_segment.targets.contract import AddVirtualServer
from ssmb.addresses import from_text
from support.octets.packets import TCP_PROTOCOL
from support.targets.answering_cs import AnsweringCs
from support.targets.rig import OffloadRig, Side
from support.targets.scene import Scene

UNANSWERED_MAX = 1024  # bpf/crowd.h


@pytest.fixture
def asking(asking_rig: OffloadRig, scene: Scene, cs: AnsweringCs) -> AnsweringCs:
    if "drop_crowded" not in scene.values():
        pytest.skip("this target holds no questions back")
    if scene.protocol != TCP_PROTOCOL:
        pytest.skip("UDP has no handshake by which a client becomes known")
    scene.rig.apply(AddVirtualServer(scene.server()), cs.offload())
    forget_questions(scene)
    return cs


def forget_questions(scene: Scene) -> None:
    """Those of the test before."""
    with opened(scene.rig._pin_path / "questions") as fd:  # type: ignore[attr-defined]
        Map("questions", fd, 4, 16).update(bytes(4), bytes(16))


def syn(scene: Scene, address: str, port: int) -> tuple[Side, bytes]:
    return scene.inbound(scene.segment((address, port), scene.vip, flags="S", seq=1000))


def flood(scene: Scene) -> list[tuple[Side, bytes]]:
    """From a port each, never to be answered; to be sent at once, for old ones count for less."""
    ports = range(10_000, 10_000 + 2 * UNANSWERED_MAX)
    return [syn(scene, scene.family.far_client, port) for port in ports]


def test_questions_that_nobody_answers_are_bounded(scene: Scene, asking: AnsweringCs) -> None:
    frames, before = flood(scene), scene.values()
    scene.send(*frames)
    after = scene.values()
    asked, crowded = (after[name] - before[name] for name in ("asked", "drop_crowded"))
    assert asked + crowded == len(frames)
    assert crowded > 0


def test_who_completed_a_handshake_is_asked_about_all_the_same(
    scene: Scene, asking: AnsweringCs
) -> None:
    client, port = scene.client[0], 50_000
    ((_, frame),) = scene.send(syn(scene, client, port))
    scene.rig.exchange([asking.frame(asking.reply(asking.query(frame), scene.entry()))])
    answer = scene.segment(scene.node, (client, port), flags="SA", seq=7000, ack=1001)
    scene.send((Side.INTERNAL, scene.outbound(answer)[1]))
    acknowledged = scene.segment((client, port), scene.vip, flags="A", seq=1001, ack=7001)
    scene.send(scene.inbound(acknowledged))
    frames = [*flood(scene), syn(scene, client, port + 1)]
    before = scene.values()
    out = scene.send(*frames)
    assert scene.values()["drop_crowded"] > before["drop_crowded"]
    last = asking.query(out[-1][1])
    assert (last.src_ipaddr, last.src_port) == (from_text(client), port + 1)


def test_what_is_answered_makes_room_for_more(scene: Scene, asking: AnsweringCs) -> None:
    before = scene.values()
    for port in range(20_000, 20_000 + 2 * UNANSWERED_MAX, 64):
        out = scene.send(
            *(syn(scene, scene.family.far_client, each) for each in range(port, port + 64))
        )
        scene.rig.exchange(
            asking.frame(asking.reply(asking.query(frame), scene.entry())) for _, frame in out
        )
    assert scene.values()["drop_crowded"] == before["drop_crowded"]
