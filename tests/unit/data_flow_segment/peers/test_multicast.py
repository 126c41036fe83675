# SPDX-License-Identifier: Apache-2.0
"""What a DFS does with what the active CS multicasts, and who gets copies then (11.2)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from csmb.constants import Flag as CsmbFlag
from csmb.messages import Config
from data_flow_segment.targets.contract import AskingPath
from ssmb.addresses import from_text
from ssmb.codec import encode
from ssmb.constants import ErrorCode, Flag, HeartbeatRole
from ssmb.messages import Delete, Heartbeat, Message, Query, Reply, Timeout
from ssmb.multicast import MISSED, GroupSealer, Origin
from support.octets.frames import SYN
from support.segments.agent_rig import CLIENT, DFS_ID, KEY, AgentRig, FakeCs, reply_to, vs_list

FLAGS: Final = int(CsmbFlag.SYNC_CAP | CsmbFlag.HEARTBEATS)
ADDRESS: Final = "239.191.0.19"
GROUP: Final = (ADDRESS, 61019)
NAMED: Final[dict[str, Any]] = {"standby_ipaddr": from_text(ADDRESS), "standby_port": 61019}
INTERVAL_MS: Final = 100


class Multicaster:
    """An active CS that has a multicast group."""

    def __init__(self, rig: AgentRig, cs: FakeCs) -> None:
        self.rig = rig
        self.cs = cs
        settings = cs.settings
        self.origin = Origin(settings.segment_id, settings.group_id, DFS_ID, settings.boot_id)
        self.sealer = GroupSealer(KEY, self.origin)

    def send(self, message: Message, arrived_on: str | None = None) -> bytes:
        octets = self.sealer.seal(encode(message, 2))
        self.rig.agent.receive_shared(octets, GROUP, arrived_on, self.rig.now)
        self.rig.settle()
        return octets

    def beat(self, *, is_heard: bool = True, **changes: Any) -> Heartbeat:
        """HEARTBEAT to the DFS, and to the group; return what the DFS answers."""
        settings = self.cs.settings
        fields: dict[str, Any] = {
            "role_epoch": settings.role_epoch,
            "segment_id": settings.segment_id,
            "group_id": settings.group_id,
            "boot_id": settings.boot_id,
            "role": HeartbeatRole.ACTIVE,
            "interval_ms": INTERVAL_MS,
            "nonce": self.sealer.next_counter,
            **changes,
        }
        heartbeat = Heartbeat(**fields)
        self.cs.send(heartbeat)
        if is_heard:
            self.send(heartbeat)
        return self.cs.take(Heartbeat)[-1]


def rig_of(**fields: Any) -> tuple[AgentRig, Multicaster, FakeCs]:
    """An active CS with the web server, which is heard, and a standby, which hears nothing yet."""
    rig = AgentRig(**fields)
    active = rig.cs(1, flags=FLAGS, boot_id=11, **NAMED)
    active.tell(Config())
    active.tell(vs_list())
    standby = rig.cs(2, active=False, flags=FLAGS, boot_id=22, **NAMED)
    multicaster = Multicaster(rig, active)
    multicaster.beat()
    multicaster.beat()
    standby.inbox.clear()
    return rig, multicaster, standby


def listen(standby: FakeCs, number: int, counter: int) -> Heartbeat:
    """The standby says whom it hears; return what the DFS answers."""
    settings = standby.settings
    standby.send(
        Heartbeat(
            segment_id=settings.segment_id,
            group_id=settings.group_id,
            boot_id=settings.boot_id,
            role=HeartbeatRole.STANDBY,
            interval_ms=INTERVAL_MS,
            nonce=number,
            echo=counter,
        )
    )
    return standby.take(Heartbeat)[-1]


def path_of(rig: AgentRig) -> AskingPath | None:
    """By which way the target asks."""
    known = rig.target.data_path.controls.told(1)
    return None if known is None else known.path


def decided(rig: AgentRig, active: Multicaster, arrived_on: str | None = None) -> Query:
    rig.client_sends(SYN)
    query = active.cs.one(Query)
    active.send(reply_to(query), arrived_on)
    return query


def test_the_groups_that_connected_css_name_are_joined() -> None:
    rig = AgentRig()
    assert rig.agent.multicast.memberships() == frozenset()
    first = rig.cs(1, **NAMED)
    second = rig.cs(3, group_id=2, standby_ipaddr=from_text("ff12::19"), standby_port=7)
    rig.cs(5, group_id=3)
    rig.cs(7, group_id=4, standby_ipaddr=from_text("10.255.0.9"), standby_port=61019)
    assert rig.agent.multicast.memberships() == {GROUP, ("ff12::19", 7)}
    second.leave()
    assert rig.agent.multicast.memberships() == {GROUP}
    first.leave()
    assert rig.agent.multicast.memberships() == frozenset()


def test_a_laboratory_has_no_multicast() -> None:
    rig = AgentRig(laboratory=True)
    rig.cs(1, **NAMED)
    assert rig.agent.multicast.memberships() == frozenset()


def test_the_answer_to_a_heartbeat_says_what_was_heard() -> None:
    rig, active, _ = rig_of()
    answer = active.beat()
    assert (answer.nonce, answer.echo) == (3, 2)
    assert answer.flags & Flag.ACK
    rig.advance(MISSED * INTERVAL_MS / 1000)
    assert active.beat(is_heard=False).echo == 0


def test_a_heartbeat_without_a_counter_means_no_multicast() -> None:
    _, active, _ = rig_of()
    assert active.beat(nonce=0, is_heard=False).echo == 0
    before = active.rig.count("drop_multicast_not_active")
    active.send(Heartbeat())
    assert active.rig.count("drop_multicast_not_active") == before + 1


def test_one_that_was_sent_as_a_standbys_begins_no_listening() -> None:
    """The CS does not know yet that it is active, and names whom it hears."""
    rig, active, _ = rig_of()
    active.beat(nonce=(77 << 16) + 5, echo=9, is_heard=False)
    assert active.beat().echo == 0
    assert active.beat().echo > 0
    assert rig.count("drop_multicast_too_old") == 0


def test_a_reply_by_multicast_is_carried_out_and_copied_to_who_does_not_hear_it() -> None:
    rig, active, standby = rig_of()
    decided(rig, active)
    assert rig.target.flow_count() == 1
    assert len(standby.take(Reply)) == 1


def test_a_standby_that_hears_the_active_cs_gets_no_copy() -> None:
    rig, active, standby = rig_of()
    answer = listen(standby, active.origin.number, 2)
    assert answer.echo == active.sealer.next_counter - 1  # what this DFS has heard
    decided(rig, active)
    assert rig.target.flow_count() == 1
    assert standby.take(Reply) == []
    # What came by the other way is copied all the same
    rig.client_sends(SYN, client=(CLIENT[0], 41000))
    active.cs.answer(active.cs.one(Query))
    assert len(standby.take(Reply)) == 1


@pytest.mark.parametrize("number", [0, 1, (12 << 16) + 1, (11 << 16) + 2])
def test_one_that_hears_another_cs_or_boot_gets_copies(number: int) -> None:
    rig, active, standby = rig_of()
    assert listen(standby, number, 2).echo == 0
    decided(rig, active)
    assert len(standby.take(Reply)) == 1


def test_after_a_take_over_who_heard_the_one_before_gets_copies() -> None:
    rig, active, _ = rig_of()
    third = rig.cs(3, active=False, flags=FLAGS, boot_id=33, **NAMED)
    listen(third, active.origin.number, 2)
    successor = rig.cs(4, role_epoch=9, flags=FLAGS, boot_id=44, **NAMED)
    second = Multicaster(rig, successor)
    second.beat()
    second.beat()
    third.inbox.clear()
    decided(rig, second)
    assert len(third.take(Reply)) == 1
    before = rig.count("drop_multicast_not_active")
    active.send(Reply())  # the one before is not obeyed
    assert rig.count("drop_multicast_not_active") == before + 1


def test_when_a_cs_is_active_again_its_listeners_must_say_so_again() -> None:
    """While it was none they may have stopped."""
    rig, active, standby = rig_of()
    listen(standby, active.origin.number, 2)
    successor = rig.cs(4, role_epoch=9, flags=FLAGS, boot_id=44, **NAMED)
    active.cs = rig.cs(1, role_epoch=10, flags=FLAGS, boot_id=11, **NAMED)
    assert rig.agent.peers.active_of(1) is rig.agent.peers.by_identity[1, 1]
    assert successor.closed is None
    active.cs.tell(Config())  # it knows that it is active, and may be asked
    standby.inbox.clear()
    decided(rig, active)
    assert len(standby.take(Reply)) == 1


def test_what_is_carried_out_is_sent_on_to_the_other_links_once() -> None:
    rig, active, _ = rig_of()
    rig.client_sends(SYN)
    octets = active.send(reply_to(active.cs.one(Query)), "eth1")
    assert rig.agent.outbox.take_forwards() == [(GROUP, "eth1", octets)]
    for link in ("eth1", "eth2"):
        rig.agent.receive_shared(octets, GROUP, link, rig.now)
    assert rig.agent.outbox.take_forwards() == []
    assert rig.count("drop_multicast_repeated") == 2


def test_nothing_that_is_not_carried_out_is_sent_on() -> None:
    rig, active, _ = rig_of()
    other = GroupSealer(KEY, active.origin._replace(dfs_id=300)).seal(encode(Reply(), 2))
    forged = GroupSealer(b"another key of octets", active.origin)
    forged.seal(b"")
    for octets in (other, forged.seal(encode(Reply(), 2)), bytes(100), b""):
        rig.agent.receive_shared(octets, GROUP, "eth1", rig.now)
    assert rig.agent.outbox.take_forwards() == []


def test_while_answers_come_by_multicast_the_agent_asks() -> None:
    rig, active, _ = rig_of(serial_key=bytes(16))
    assert path_of(rig) is None
    asks = rig.agent.offloads.who_asks(1)
    assert asks == "agent: the active CS answers by multicast"
    rig.advance(MISSED * INTERVAL_MS / 1000)
    active.beat(is_heard=False)
    rig.settle()
    assert path_of(rig) is not None


def test_who_heard_a_reply_that_came_too_late_hears_that_there_is_no_flow() -> None:
    rig, active, standby = rig_of()
    listen(standby, active.origin.number, 2)
    query = decided(rig, active)
    asked = Timeout(0, 0, query.serial + 5, *query.signature, idle_limit=1000)
    active.cs.send(asked)
    rig.advance(0.1)
    (own,), (copy,) = active.cs.take(Delete), standby.take(Delete)
    assert own.error_code == ErrorCode.NOFLOW
    assert copy == own._replace(flags=own.flags | Flag.REPLICA)
