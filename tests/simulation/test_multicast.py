# SPDX-License-Identifier: Apache-2.0
"""The active CS shares its state by multicast; whoever does not hear it lacks nothing (11.2)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from control_segment.group.views import Role
from ssmb.codec import encode
from ssmb.constants import MULTICAST_GROUP, Flag, MessageType
from ssmb.messages import FlowSignature, Heartbeat, Query, Reply, Reset, Sync
from ssmb.multicast import GroupSealer, Origin, origin_of
from support.octets.frames import RST, SYN, framed, tcp_packet
from support.segments.agent_rig import (
    DFS_ENDPOINT,
    DFS_ID,
    EXTERNAL,
    EXTERNAL_MAC,
    KEY,
    ROUTER_MAC,
    VIP,
)
from support.segments.cs_group import GROUP, CsGroup, Member, client, fellows, flows_of

MULTICAST: Final = {"multicast": {"address": MULTICAST_GROUP}}


def start(
    group: CsGroup,
    segment_id: int,
    *others: int,
    by_multicast: bool = True,
    grants: bool = False,
    **changes: Any,
) -> Member:
    place = {"address": f"10.255.0.{segment_id + 1}", "port": 61019}
    return group.start(
        segment_id,
        80,
        active=segment_id == 1,
        control_segments=fellows(*others),
        ssmb={**place, **(MULTICAST if by_multicast else {})},
        settings={"grants": grants},
        **changes,
    )


@pytest.fixture
def group() -> CsGroup:
    return CsGroup()


def pair(group: CsGroup) -> tuple[Member, Member]:
    first, second = start(group, 1, 2), start(group, 2, 1)
    group.run(2)
    return first, second


def send(group: CsGroup, number: int, flags: int = SYN, seq: int = 100) -> None:
    group.send_from(client(number), flags, seq)


def copies(group: CsGroup) -> int:
    """REPLYs that the DFS has copied for standbys."""
    return group.agent.outbox.sent["Reply"]


def replies(group: CsGroup) -> int:
    """What went to the group, heartbeats aside."""
    return sum(octets[0] == MessageType.REPLY for octets in group.multicasts)


def drops(member: Member, name: str) -> int:
    return member.cs.statistics.drops[name]


def test_a_reply_goes_to_the_group_once_and_is_carried_out_by_all(group: CsGroup) -> None:
    first, second = pair(group)
    for number in range(30):
        send(group, number)
    assert replies(group) == 30
    assert copies(group) == 0
    assert len(flows_of(first.cs)) == group.target.flow_count() == 30
    assert flows_of(second.cs) == flows_of(first.cs)
    copy = second.cs.peers[DFS_ID].copy
    assert (copy.is_complete, copy.gaps, copy.differs) == (True, 0, False)


def test_the_ends_of_flows_still_come_from_the_dfs(group: CsGroup) -> None:
    first, second = pair(group)
    for number in range(6):
        send(group, number)
    for number in range(3):
        send(group, number, RST, seq=101)
    group.run(20)
    assert len(flows_of(first.cs)) == 3
    assert flows_of(second.cs) == flows_of(first.cs)


def test_a_sender_ignores_its_own_datagrams(group: CsGroup) -> None:
    first, _ = pair(group)
    before = drops(first, "multicast_own")
    send(group, 1)
    assert drops(first, "multicast_own") > before
    assert first.cs.statistics.drops["invalid_msg"] == 0


def test_the_next_active_cs_goes_on_by_multicast(group: CsGroup) -> None:
    first, second = pair(group)
    third = start(group, 3, 1, 2)
    group.run(2)
    for number in range(8):
        send(group, number)
    first.crash()
    group.run(3)
    assert second.cs.group.election.role is Role.ACTIVE
    assert second.cs.peers[DFS_ID].copy.gaps == 0
    asked = second.cs.statistics.sent[MessageType.SYNC]
    before = replies(group), copies(group)
    for number in range(8, 20):
        send(group, number)
    assert (replies(group), copies(group)) == (before[0] + 12, before[1])
    assert len(flows_of(second.cs)) == 20
    # The third has the first eight from the first CS: what persistence says aside, it is the same
    assert flows_of(third.cs) == flows_of(second.cs)
    assert second.cs.statistics.sent[MessageType.SYNC] == asked  # nothing was missing
    assert third.cs.peers[DFS_ID].copy.is_complete


@pytest.mark.parametrize("old", [1, 2])
def test_a_cs_without_multicast_gets_copies_and_is_understood(group: CsGroup, old: int) -> None:
    first = start(group, 1, 2, by_multicast=old != 1)
    second = start(group, 2, 1, by_multicast=old != 2)
    group.run(2)
    for number in range(10):
        send(group, number)
    assert copies(group) == 10
    assert flows_of(second.cs) == flows_of(first.cs)
    assert len(flows_of(second.cs)) == 10
    assert second.cs.peers[DFS_ID].copy.gaps == 0


def test_if_the_dfs_hears_nothing_all_goes_as_without_multicast(group: CsGroup) -> None:
    group.deaf = True
    first, second = pair(group)
    for number in range(10):
        send(group, number)
    assert replies(group) == 0
    assert copies(group) == 10
    assert flows_of(second.cs) == flows_of(first.cs)
    group.deaf = False
    group.run(0.3)
    send(group, 11)
    assert (replies(group), copies(group)) == (1, 10)


def test_a_dfs_that_stops_hearing_gets_the_answer_to_the_repeat(group: CsGroup) -> None:
    first, second = pair(group)
    group.deaf = True
    send(group, 1)
    group.run(0.2)
    assert group.target.flow_count() == 1
    assert flows_of(second.cs) == flows_of(first.cs)


def test_a_standby_that_does_not_hear_the_group_gets_copies(group: CsGroup) -> None:
    first, second = pair(group)
    third = start(group, 3, 1, 2)
    third.deaf = True
    group.run(2)
    for number in range(10):
        send(group, number)
    assert (replies(group), copies(group)) == (10, 10)
    assert flows_of(second.cs) == flows_of(third.cs) == flows_of(first.cs)
    assert third.cs.peers[DFS_ID].copy.gaps == 0


def test_what_a_standby_misses_is_found_and_asked_for(group: CsGroup) -> None:
    first, second = pair(group)
    second.deaf = True
    send(group, 1)
    assert len(flows_of(second.cs)) == 0
    second.deaf = False
    group.run(0.4)
    assert second.cs.peers[DFS_ID].copy.gaps > 0
    group.run(12)
    assert {flow[:2] for flow in flows_of(second.cs)} == {flow[:2] for flow in flows_of(first.cs)}
    assert second.cs.peers[DFS_ID].copy.is_complete
    assert replies(group) == 1


def test_a_standby_that_goes_deaf_asks_for_what_it_missed(group: CsGroup) -> None:
    """Also for what was multicast before the DFS knew that it has to send copies."""
    first, second = pair(group)
    second.deaf = True
    for number in range(5):
        send(group, number)
    group.run(12)
    assert second.cs.peers[DFS_ID].copy.gaps > 0
    assert 0 < copies(group) < 5
    assert {flow[:2] for flow in flows_of(second.cs)} == {flow[:2] for flow in flows_of(first.cs)}
    assert second.cs.peers[DFS_ID].copy.is_complete


def test_a_standby_knows_that_it_missed_the_last_one_of_a_dead_cs(group: CsGroup) -> None:
    """The CS announced nothing after it; the DFS has heard it."""
    first, second = pair(group)
    second.deaf = True
    packet = tcp_packet(client(1), VIP, SYN, seq=100)
    group.target.receive(EXTERNAL, framed(packet, ROUTER_MAC, EXTERNAL_MAC))
    group.agent.handle_events(group.target.events(), group.now)
    group.run(1, until=lambda: group.target.flow_count() == 1)
    first.lose_power()
    second.deaf = False
    group.run(12)
    assert second.cs.group.election.role is Role.ACTIVE
    assert second.cs.peers[DFS_ID].copy.gaps > 0
    assert len(flows_of(second.cs)) == 1


def test_a_standby_that_starts_again_takes_no_recorded_datagram(group: CsGroup) -> None:
    first, second = pair(group)
    for number in range(5):
        send(group, number)
    for number in range(5):
        send(group, number, RST, seq=101)
    group.run(20)
    recorded = [octets for octets in group.multicasts if octets[0] == MessageType.REPLY]
    second.crash()
    again = start(group, 2, 1)
    group.run(2)
    before = flows_of(again.cs)
    for octets in recorded:
        group.multicast(octets)
    group.run(0.2)
    assert drops(again, "multicast_too_old") == 5
    assert flows_of(again.cs) == before == flows_of(first.cs)


def _sealed(key: bytes, origin: Origin, counter: int, octets: bytes) -> bytes:
    sealer = GroupSealer(key, origin)
    for _ in range(counter - 1):
        sealer.seal(b"")
    return sealer.seal(octets)


def test_forged_repeated_and_reflected_datagrams_change_nothing_and_are_counted(
    group: CsGroup,
) -> None:
    first, second = pair(group)
    for number in range(4):
        send(group, number)
    before = flows_of(first.cs), flows_of(second.cs), group.target.flow_count()
    genuine = next(each for each in group.multicasts if each[0] == MessageType.REPLY)
    origin = origin_of(genuine)
    assert origin is not None
    (source, port), (vip, vip_port) = client(50), VIP
    forged = encode(Reply(0, 0, 5, *FlowSignature(source, vip, port, vip_port, 6)), 2)
    reset = encode(Reset(reset_id=9, reset_scope=0), 2)
    no_change = [
        _sealed(b"another key of octets", origin, 500, forged),  # forged
        _sealed(b"another key of octets", origin, 501, reset),
        genuine[:-1] + bytes([genuine[-1] ^ 1]),  # damaged
        genuine,  # reflected
        _sealed(KEY, origin._replace(boot_id=1), 1, reset),  # of an earlier boot, recorded
        _sealed(KEY, origin._replace(dfs_id=300), 1, reset),  # for another DFS
        _sealed(KEY, origin._replace(segment_id=2), 1, reset),  # of a standby
        _sealed(KEY, origin._replace(segment_id=77), 1, reset),  # of nobody
        b"",
        bytes(40),
    ]
    unfollowed = drops(second, "multicast_not_followed")
    for octets in no_change:
        group.multicast(octets)
    group.run(0.2)
    assert (flows_of(first.cs), flows_of(second.cs), group.target.flow_count()) == before
    counters = group.agent.outbox.counters
    assert counters["drop_multicast_bad_tag"] == 3
    assert counters["drop_multicast_repeated"] == 1
    assert counters["drop_multicast_for_others"] == 2  # bytes(40) is for DFS 0
    assert counters["drop_multicast_not_active"] == 3
    assert counters["drop_too_short"] == 1
    assert drops(second, "multicast_bad_seal") == 3
    assert drops(second, "multicast_repeated") == 1
    assert drops(second, "multicast_own") == 1
    assert drops(second, "multicast_not_followed") - unfollowed == 4
    assert drops(second, "too_short") == 1
    # A datagram of one CS and DFS that goes to the group, and one of the group to a single one
    pointcast = first.cs.peers[DFS_ID].seal(reset)[0]
    group.multicast(pointcast)
    second.cs.receive_datagram(genuine, ("10.255.0.1", 61019), group.now)
    group.agent.receive_datagram(genuine, first.endpoint, group.now)
    assert drops(second, "bad_seal") == 1
    assert counters["drop_bad_tag"] == 1
    group.run(0.2)
    assert (flows_of(first.cs), flows_of(second.cs), group.target.flow_count()) == before


def test_with_the_key_only_what_is_shared_may_come_by_multicast(group: CsGroup) -> None:
    """A HEARTBEAT to the group says nothing but that it is heard."""
    first, second = pair(group)
    sharing = first.cs.peers[DFS_ID].sharing
    assert sharing is not None
    beat = Heartbeat(role_epoch=99, segment_id=1, group_id=1, boot_id=first.cs.boot_id, role=2)
    group.multicast(sharing.seal(encode(beat, 2))[0])
    assert group.agent.peers.groups[1].claim.role_epoch < 99
    invalid = group.agent.outbox.counters["invalid_msg"], drops(second, "invalid_msg")
    group.multicast(sharing.seal(encode(Sync(sync_id=3), 2))[0])
    after = group.agent.outbox.counters["invalid_msg"], drops(second, "invalid_msg")
    assert after == (invalid[0] + 1, invalid[1] + 1)


def test_a_reset_of_the_active_cs_reaches_standbys_once(group: CsGroup) -> None:
    first, second = pair(group)
    for number in range(3):
        send(group, number)
    first.cs.order_reset(group.now)
    group.run(3)
    assert group.target.flow_count() == 0
    assert flows_of(first.cs) == flows_of(second.cs) == set()
    kinds = [each[0] for each in group.multicasts]
    assert kinds.count(MessageType.RESET) == 1


def test_a_cs_that_another_one_has_replaced_is_not_mirrored(group: CsGroup) -> None:
    """From the moment in which the DFS says that another one is active."""
    rare = {"heartbeat_ms": 3000, "vacant_ms": 9000, "silent_ms": 9000}
    first, second = start(group, 1, 2), start(group, 2, 1, redundancy=rare)
    third = start(group, 3, 1, 2)
    group.run(4)
    sharing = first.cs.peers[DFS_ID].sharing
    assert sharing is not None
    second.cs.group.name_successor(2, group.now)
    group.run(1, until=lambda: group.active == 2)
    assert group.active == 2
    before = flows_of(second.cs), flows_of(third.cs), drops(third, "multicast_not_followed")
    (source, port), (vip, vip_port) = client(50), VIP
    reply = encode(Reply(0, 0, 5, *FlowSignature(source, vip, port, vip_port, 6)), 2)
    group.multicast(sharing.seal(reply)[0])
    assert (flows_of(second.cs), flows_of(third.cs)) == before[:2]
    assert drops(third, "multicast_not_followed") == before[2] + 1
    assert group.agent.outbox.counters["drop_multicast_not_active"] > 0


def test_a_standby_without_its_dfs_mirrors_nothing_of_it(group: CsGroup) -> None:
    """It would not hear of a flow's end."""
    _, second = pair(group)
    second.cut()
    second.connect_at = None
    send(group, 1)
    assert flows_of(second.cs) == set()
    assert replies(group) == 1
    second.connect_at = group.now
    group.run(2)
    assert len(flows_of(second.cs)) == 1


def test_a_connection_that_is_new_begins_without_multicast(group: CsGroup) -> None:
    """The agent may have been started again, and have heard of no counter yet."""
    first, _ = pair(group)
    assert first.cs.group.multicast.is_used(first.cs.peers[DFS_ID], group.now)
    first.cut()
    assert not first.cs.group.multicast.is_used(first.cs.peers[DFS_ID], group.now)
    first.connect_at = group.now
    group.run(1)
    assert first.cs.group.multicast.is_used(first.cs.peers[DFS_ID], group.now)


def test_where_it_is_needed_the_name_of_the_group_is_in_hello(group: CsGroup) -> None:
    pair(group)
    assert group.agent.multicast.memberships() == {GROUP}


@pytest.mark.parametrize(
    ("changes", "to"),
    [
        ({}, GROUP),
        ({"flags": int(Flag.RETRY)}, DFS_ENDPOINT),
        ({"flags": int(Flag.PARKED), "frame": bytes(60)}, DFS_ENDPOINT),
        ({"flags": int(Flag.OUTBOUND)}, DFS_ENDPOINT),
        ({"detail": 1}, DFS_ENDPOINT),
    ],
    ids=["new", "repeated", "with its packet", "outbound", "asked again"],
)
def test_only_the_first_answer_about_a_new_flow_is_multicast(
    group: CsGroup, changes: dict[str, Any], to: tuple[str, int]
) -> None:
    """The DFS copies the others once it has carried them out, in the order that is right there."""
    first, _ = pair(group)
    link = group.agent.peers.by_identity[1, 1].link
    (source, port), (vip, vip_port) = client(50), VIP
    signature = FlowSignature(source, vip, port, vip_port, 6)
    new = Query(0, 0, 5, *signature, tcp_flags=SYN)
    for query in (new, new._replace(**changes)):
        link.send(query)
        ((_, sealed),) = group.agent.outbox.take_datagrams()
        answers = first.cs.process_batch([(sealed, DFS_ENDPOINT)], group.now)
    assert [address for _, address in answers] == [to]


def test_decisions_made_ahead_are_multicast_and_taken_at_both(group: CsGroup) -> None:
    first, second = start(group, 1, 2, grants=True), start(group, 2, 1, grants=True)
    group.run(2)
    for number in range(120):
        send(group, number)
    granted = [octets[0] for octets in group.multicasts].count(MessageType.GRANT)
    assert granted > 3
    assert second.cs.statistics.received[MessageType.GRANT] == granted  # and no copies
    sent = group.agent.outbox.sent
    assert sent["Taken"] > 0
    assert (sent["Reply"], first.cs.statistics.received[MessageType.TAKEN] > 0) == (0, True)
    group.run(1)
    assert len(flows_of(first.cs)) == 120
    assert flows_of(second.cs) == flows_of(first.cs)
    copy = second.cs.peers[DFS_ID].copy
    assert (copy.is_complete, copy.gaps, copy.differs) == (True, 0, False)


def test_a_grant_that_only_the_dfs_missed_is_repeated_and_all_agree(group: CsGroup) -> None:
    first, second = start(group, 1, 2, grants=True), start(group, 2, 1, grants=True)
    group.run(2)
    for number in range(120):
        group.deaf = number % 10 == 5
        send(group, number)
    group.deaf = False
    group.run(25)
    assert len(flows_of(first.cs)) == 120
    assert {flow[:2] for flow in flows_of(second.cs)} == {flow[:2] for flow in flows_of(first.cs)}
    assert second.cs.peers[DFS_ID].copy.is_complete


def test_a_late_reply_that_the_dfs_does_not_carry_out_is_forgotten_at_both(group: CsGroup) -> None:
    """The CS asks about the flow when it is idle, and the DFS says to all that there is none."""
    first, second = pair(group)
    link = group.agent.peers.by_identity[1, 1].link
    (source, port), (vip, vip_port) = client(50), VIP
    link.send(Query(0, 0, 5, *FlowSignature(source, vip, port, vip_port, 6), tcp_flags=SYN))
    ((_, sealed),) = group.agent.outbox.take_datagrams()
    ((reply, _),) = first.cs.process_batch([(sealed, DFS_ENDPOINT)], group.now)
    group.deaf = True  # nothing comes of it
    group.multicast(reply)
    group.deaf = False
    assert len(flows_of(first.cs)) == len(flows_of(second.cs)) == 1
    asked = second.cs.statistics.sent[MessageType.SYNC]
    group.run(400)
    assert flows_of(first.cs) == flows_of(second.cs) == set()
    assert second.cs.statistics.sent[MessageType.SYNC] == asked


@pytest.mark.parametrize("grants", [False, True], ids=["asked", "ahead"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_on_a_network_that_loses_multicasts_every_flow_is_served_and_all_agree(
    seed: int, grants: bool
) -> None:
    group = CsGroup(seed)
    first = start(group, 1, 2, 3, grants=grants)
    second = start(group, 2, 1, 3, grants=grants)
    third = start(group, 3, 1, 2, grants=grants)
    group.run(2)
    group.multicast_loss = 0.1
    for number in range(100):
        send(group, number)
        if number % 4 == 3:
            send(group, number - 2, RST, seq=101)
    group.run(0.5)
    assert group.agent.outbox.counters["query_timeouts"] == 0
    group.multicast_loss = 0.0
    group.run(40)
    live = {flow[:2] for flow in flows_of(first.cs)}
    assert len(live) == group.target.flow_count() == 75
    for standby in (second, third):
        assert {flow[:2] for flow in flows_of(standby.cs)} == live
        copy = standby.cs.peers[DFS_ID].copy
        assert (copy.is_complete, copy.differs) == (True, False)
    assert second.cs.peers[DFS_ID].copy.gaps > 0
