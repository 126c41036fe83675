# SPDX-License-Identifier: Apache-2.0
"""Counters: every drop has a name, an operator can read it, and nothing is dropped unseen."""

from __future__ import annotations

from collections.abc import Mapping

from data_flow_segment.targets.contract import AddVirtualServer, InjectPacket, InstallFlow
from support.octets.packets import fragments
from support.targets.rig import Frame, Rig
from support.targets.scene import Scene, is_drop


def risen(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def test_every_counter_says_what_it_means_and_whether_to_worry(rig: Rig) -> None:
    counters = rig.target.counters()
    assert any(map(is_drop, counters))
    for name, counter in counters.items():
        assert name.islower()
        assert name.isidentifier()
        assert counter.value >= 0
        assert isinstance(counter.normal, bool)
        assert counter.meaning.endswith(".")
        assert len(counter.meaning) > 10
    assert len({counter.meaning for counter in counters.values()}) == len(counters)


def test_nothing_that_goes_its_way_counts_as_dropped(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    before = scene.values()
    scene.send(scene.inbound(scene.to_vip(b"first")))
    held = scene.up_calls()
    scene.rig.apply(InstallFlow(scene.entry()), *map(InjectPacket, held))
    scene.send(
        scene.inbound(scene.to_vip(b"x")),
        scene.outbound(scene.segment(scene.node, scene.client, b"y")),
        scene.inbound(scene.segment(scene.client, (scene.family.node, 7), b"routed")),
    )
    after = scene.values()
    assert scene.dropped_since(before) == 0
    assert risen(before, after)
    assert all(after[name] >= before[name] for name in before)


def drops_of(scene: Scene, what: Frame | InjectPacket) -> set[str]:
    """Which drop counters one packet raised, by one each."""
    before = scene.values()
    out = scene.rig.apply(what) if isinstance(what, InjectPacket) else scene.send(what)
    out += scene.put_back_fragments()
    assert out == []
    rose = {name: by for name, by in risen(before, scene.values()).items() if is_drop(name)}
    assert set(rose.values()) == {1}
    return set(rose)


def test_each_reason_to_drop_has_its_own_counter(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))

    def reasons() -> dict[str, set[str]]:
        damaged = bytearray(bytes(scene.to_vip(b"damaged")))
        damaged[-1] ^= 1
        late = fragments(scene.to_vip(bytes(600)), 256)[1]
        scene.send(scene.inbound(scene.to_vip()))
        (held,) = scene.up_calls()
        return {
            "checksum": drops_of(scene, scene.inbound(bytes(damaged))),
            "fragment": drops_of(scene, scene.inbound(late)),
            "unmatched": drops_of(scene, InjectPacket(held)),
        }

    found = reasons()
    assert all(len(names) == 1 for names in found.values())
    assert len(set.union(*found.values())) == 3
    assert reasons() == found


def test_every_packet_that_ends_here_raises_exactly_one_drop_counter(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    late = [fragments(scene.to_vip(bytes(600)), 256)[1] for _ in range(25)]
    before = scene.values()
    assert scene.send(*map(scene.inbound, late)) == []
    assert scene.put_back_fragments() == []
    assert scene.dropped_since(before) == 25


def test_a_flow_that_cannot_be_installed_is_counted(scene: Scene) -> None:
    before = scene.values()
    scene.rig.apply(InstallFlow(scene.entry(forward_mode=99)))
    assert len(scene.rig.events()) == 1
    rose = risen(before, scene.values())
    assert [amount for name, amount in rose.items() if "install" in name] == [1]
