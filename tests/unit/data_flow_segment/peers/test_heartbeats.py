# SPDX-License-Identifier: Apache-2.0
"""HEARTBEAT: answered, copied, and missed (wire protocol 11.8)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from csmb.constants import Flag as CsmbFlag
from csmb.messages import Config
from data_flow_segment.peers.heartbeats import INTERVAL_MIN_MS, MISSED
from ssmb.constants import Flag, HeartbeatRole
from ssmb.messages import Heartbeat, Query, Reply
from support.octets.frames import SYN
from support.segments.agent_rig import CLIENT, AgentRig, FakeCs, redundant_rig

FLAGS = int(CsmbFlag.SYNC_CAP | CsmbFlag.HEARTBEATS)
SERIAL_KEY = bytes(range(16))
INTERVAL_MS = 100
SILENT_S = MISSED * INTERVAL_MS / 1000


def beat(cs: FakeCs, **changes: Any) -> Heartbeat:
    fields: dict[str, Any] = {
        "role_epoch": cs.settings.role_epoch,
        "segment_id": cs.settings.segment_id,
        "group_id": cs.settings.group_id,
        "boot_id": cs.settings.boot_id,
        "reach": 1,
        "total": 1,
        "role": HeartbeatRole.ACTIVE if cs.settings.active else HeartbeatRole.STANDBY,
        "interval_ms": INTERVAL_MS,
        "flow_count": 3,
        "flow_digest": 1 << 60,
        **changes,
    }
    sent = Heartbeat(**fields)
    cs.send(sent)
    return sent


rig_of = partial(redundant_rig, FLAGS)


def test_the_sender_hears_that_it_was_heard_and_the_standbys_get_a_copy() -> None:
    _, active, standby = rig_of()
    sent = beat(active)
    assert active.take(Heartbeat) == [sent._replace(flags=int(Flag.ACK))]
    assert standby.take(Heartbeat) == [sent._replace(flags=int(Flag.REPLICA))]


def test_a_standby_is_answered_and_nothing_of_it_is_copied() -> None:
    rig, active, standby = rig_of()
    sent = beat(standby)
    assert standby.take(Heartbeat) == [sent._replace(flags=int(Flag.ACK))]
    assert active.take(Heartbeat) == []
    assert rig.count("drop_not_active") == rig.count("invalid_msg") == 0


def test_a_standby_that_knows_no_heartbeats_gets_none() -> None:
    _, active, standby = rig_of(standby_flags=int(CsmbFlag.SYNC_CAP))
    beat(active)
    assert standby.take(Heartbeat) == []


@pytest.mark.parametrize(
    "changes", [{"segment_id": 2}, {"group_id": 2}, {"role": 3}, {"role": 255}]
)
def test_one_that_is_not_its_senders_is_invalid(changes: dict[str, int]) -> None:
    rig, active, standby = rig_of()
    beat(active, **changes)
    assert rig.count("invalid_msg") == 1
    assert active.take(Heartbeat) == standby.take(Heartbeat) == []
    rig.advance(1)
    assert rig.count("cs_silent") == 0  # it promised nothing


def test_one_of_a_cs_that_announced_none_is_invalid() -> None:
    rig = AgentRig()
    cs = rig.cs(1)
    beat(cs)
    assert rig.count("invalid_msg") == 1
    assert cs.take(Heartbeat) == []


def test_the_copy_of_a_reply_goes_before_that_of_the_heartbeat_behind_it() -> None:
    rig, active, standby = rig_of()
    rig.client_sends(SYN, seq=1)
    active.answer(active.one(Query))
    beat(active)
    kinds = [type(message) for message in standby.inbox]
    assert kinds.index(Reply) < kinds.index(Heartbeat)


def take_over(cs: FakeCs, role_epoch: int) -> None:
    """It claims, is obeyed, and configures."""
    cs.connection.announce(active=True, role_epoch=role_epoch, now=cs.rig.now)
    cs.exchange()
    cs.rig.settle()
    cs.tell(Config())


# --- silence -------------------------------------------------------------------------------------


def asks(rig: AgentRig) -> bool:
    """Whether the data path asks by itself."""
    known = rig.target.data_path.controls.told(1)
    return known is not None and known.path is not None


def test_a_silent_active_cs_is_not_asked_by_the_data_path_until_it_is_heard() -> None:
    rig, active, _ = rig_of(serial_key=SERIAL_KEY)
    beat(active)
    rig.advance(SILENT_S - 0.001)
    assert asks(rig)
    rig.advance(0.002)
    assert not asks(rig)
    assert rig.count("cs_silent") == 1
    assert rig.agent.offloads.who_asks(1) == "agent: the active CS has missed three heartbeats"
    (line,) = rig.agent.outbox.log
    assert line == "CS 1 (group 1, active) has missed three heartbeats: new flows wait"
    beat(active)
    assert asks(rig)
    assert rig.agent.offloads.who_asks(1) == "data path"


def test_a_cs_that_never_sent_a_heartbeat_is_never_silent() -> None:
    rig, _, _ = rig_of(serial_key=SERIAL_KEY)
    rig.advance(10)
    assert asks(rig)


def test_a_cs_that_promises_no_next_one_is_not_missed() -> None:
    rig, active, _ = rig_of(serial_key=SERIAL_KEY)
    beat(active)
    beat(active, interval_ms=0)
    rig.advance(10)
    assert asks(rig)


def test_a_cs_that_promises_too_much_is_given_time() -> None:
    rig, active, _ = rig_of(serial_key=SERIAL_KEY)
    beat(active, interval_ms=1)
    rig.advance(MISSED * INTERVAL_MIN_MS / 1000 - 0.001)
    assert rig.count("cs_silent") == 0


def test_a_flow_that_a_silent_cs_was_asked_about_is_asked_again_when_it_is_heard() -> None:
    rig, active, _ = rig_of()
    beat(active)
    rig.advance(0.3)
    rig.client_sends(SYN, seq=1)
    rig.advance(2)  # the repeats are spent long since
    assert rig.count("query_timeouts") == 0
    active.take(Query)
    beat(active)
    query = active.one(Query)
    assert query.flags & Flag.RETRY
    active.answer(query)
    assert len(rig.sent) == 1


def test_flows_that_a_dead_cs_was_asked_about_are_asked_about_at_the_next_one() -> None:
    """Two seconds later, also those whose repeats were nearly spent."""
    rig, active, standby = rig_of()
    ports = {1000, 1001, 1002}
    for port in sorted(ports):
        beat(active)
        rig.client_sends(SYN, client=(CLIENT[0], port), seq=1)
        rig.advance(0.09)
    rig.advance(2.0)
    take_over(standby, 2)
    queries = standby.take(Query)
    assert {query.src_port for query in queries} == ports
    for query in queries:
        standby.answer(query)
    assert len(rig.sent) == len(ports)
    assert rig.count("query_timeouts") == 0


def test_a_flow_that_a_living_cs_does_not_answer_is_given_up_as_ever() -> None:
    rig, active, _ = rig_of()
    rig.client_sends(SYN, seq=1)
    for _ in range(8):
        beat(active)
        rig.advance(0.1)
    assert rig.count("query_timeouts") == 1


def test_a_silent_cs_that_is_replaced_and_comes_back_counts_anew() -> None:
    rig, active, standby = rig_of(serial_key=SERIAL_KEY)
    beat(active)
    rig.advance(1)
    take_over(standby, 2)
    assert asks(rig)
    take_over(active, 3)
    rig.advance(1)
    assert asks(rig)


def test_very_many_flows_that_wait_are_asked_about_a_few_at_a_time() -> None:
    rig, active, standby = rig_of()
    active.leave()
    for number in range(1500):
        rig.client_sends(SYN, client=(CLIENT[0], 1000 + number), seq=1)
    take_over(standby, 2)
    assert len(standby.take(Query)) == 512
    rig.advance(0.021)
    assert len({query.src_port for query in standby.take(Query)}) == 1500 - 512
    assert rig.count("query_retries") == 0


def test_a_cs_that_took_over_is_asked_when_it_knows_that_it_is_active() -> None:
    """A QUERY that overtakes the HELLO were dropped, and nobody repeats one of the data path's."""
    rig, active, standby = rig_of(serial_key=SERIAL_KEY)
    active.leave()
    assert rig.client_sends(SYN, seq=1) == []
    standby.connection.announce(active=True, role_epoch=2, now=rig.now)
    standby.exchange()
    rig.settle()
    assert not asks(rig)
    assert standby.take(Query) == []
    standby.tell(Config())
    assert asks(rig)
    assert len(standby.take(Query)) == 1


def test_a_cs_that_took_over_and_does_not_configure_is_asked_after_a_moment() -> None:
    rig, active, standby = rig_of(serial_key=SERIAL_KEY)
    active.leave()
    rig.client_sends(SYN, seq=1)
    standby.connection.announce(active=True, role_epoch=2, now=rig.now)
    standby.exchange()
    rig.settle()
    rig.advance(0.049)
    assert standby.take(Query) == []
    rig.advance(0.002)
    assert asks(rig)
    assert len(standby.take(Query)) == 1
