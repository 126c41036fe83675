# SPDX-License-Identifier: Apache-2.0
"""The agent's part of grants, with a CS that the test plays by hand (wire protocol 13)."""

from __future__ import annotations

from typing import Any

import pytest

from csmb.constants import Flag as CsmbFlag
from csmb.messages import Config, DelVs
from data_flow_segment.flows.leases import EARLY_S
from data_flow_segment.targets.grants import GrantState
from ssmb.codec import struct_of
from ssmb.constants import (
    GRANTED_MAX,
    LEASE_INTERVAL_MS,
    LEASE_RETRY_MS,
    ErrorCode,
    Flag,
    GrantContent,
)
from ssmb.grants import (
    SUPERSEDED,
    TakenFlow,
    flows_of,
    following,
    pack_clients,
    pack_decisions,
    pack_nodes,
)
from ssmb.messages import Delete, Grant, Lease, Query, Reset, Taken, Translation
from support.octets.frames import SYN
from support.segments.agent_rig import CLIENT, NODE, TRANSLATE, VIP, AgentRig, FakeCs, vs_list

FLAGS = int(CsmbFlag.SYNC_CAP | CsmbFlag.GRANTS)
SERIAL = 0x81000010
GENERATION = 5
ROW = (0, TRANSLATE, struct_of(Translation, 2).pack(*Translation(NODE[0], node_port=NODE[1])))


def granting_rig(**changes: Any) -> tuple[AgentRig, FakeCs]:
    rig = AgentRig()
    cs = rig.cs(flags=FLAGS, **changes)
    cs.tell(Config())
    cs.tell(vs_list())
    return rig, cs


def leased(rig: AgentRig, cs: FakeCs, valid_ms: int = 50) -> Lease:
    """Answer the latest question; return it."""
    asked = cs.take(Lease)[-1]
    cs.send(asked._replace(valid_ms=valid_ms))
    return asked


def grant(lease: Lease, part: int, decisions: int = 0, **changes: Any) -> Grant:
    """A part for the web server; decisions to NODE, a hundred serials to each part."""
    rows = [ROW] if decisions else []
    fields: dict[str, Any] = {
        "serial": SERIAL + 100 * part if decisions else 0,
        "virt_ipaddr": VIP[0],
        "virt_port": VIP[1],
        "protocol": 6,
        "generation": GENERATION,
        "lease_id": lease.lease_id,
        "part": part,
        "node_count": len(rows),
        "grant_data": pack_nodes(rows) + pack_decisions([(0, 0)] * decisions),
        **changes,
    }
    return Grant(**fields)


def acks(cs: FakeCs) -> list[tuple[int, int]]:
    return [(each.generation, each.part) for each in cs.take(Grant) if each.flags & Flag.ACK]


def told(rig: AgentRig, cs: FakeCs) -> list[TakenFlow]:
    """What TAKENs say, but for what never came."""
    rig.advance(0.011)
    flows = [flow for taken in cs.take(Taken) for flow in flows_of(taken.taken_data)]
    return [flow for flow in flows if flow.error_code != SUPERSEDED]


def state(rig: AgentRig) -> GrantState:
    (found,) = rig.target.grant_states()
    return found


def syn(rig: AgentRig, port: int) -> int:
    """A client's SYN; how many frames left at once."""
    return len(rig.client_sends(SYN, client=(CLIENT[0], port)))


# --- leases -------------------------------------------------------------------------------------


def test_a_lease_is_opened_as_soon_as_the_cs_may_be_asked_and_only_then() -> None:
    rig = AgentRig()
    cs = rig.cs(flags=FLAGS, prepare=False)
    rig.advance(1)
    assert cs.take(Lease) == []
    cs.challenge()
    assert cs.take(Lease) == []  # its RESET is not acknowledged yet
    cs.acknowledge_resets()
    first = cs.one(Lease)
    assert first.lease_id
    assert first.timestamp == int(rig.now * 1000) & 0xFFFFFFFF
    rig.advance(0.5)
    again = cs.take(Lease)
    assert len(again) == 500 // LEASE_RETRY_MS  # until it is answered
    assert {each.lease_id for each in again} == {first.lease_id}
    cs.send(again[-1]._replace(valid_ms=50))
    rig.advance(5)
    assert cs.take(Lease) == []  # nothing is held


def test_a_cs_that_grants_nothing_is_not_asked_for_leases() -> None:
    rig = AgentRig()
    cs = rig.cs()
    rig.advance(1)
    assert cs.take(Lease) == []
    cs.send(Lease(lease_id=1, valid_ms=50))
    cs.send(Grant(flags=Flag.ADDR16, lease_id=1, generation=1, part=1))
    assert rig.count("drop_no_grants") == 2
    assert acks(cs) == []


def test_the_time_counts_from_the_question() -> None:
    rig, cs = granting_rig()
    asked = leased(rig, cs)
    cs.send(grant(asked, 1, 3))
    rig.advance(0.049)
    question = cs.take(Lease)
    assert syn(rig, 2000) == 1
    rig.advance(0.002)
    assert syn(rig, 2001) == 0
    # an answer that was long on its way gives what is left, and a very late one nothing
    old = asked._replace(valid_ms=50)
    cs.send(old)
    assert syn(rig, 2002) == 0
    late = question[-1]._replace(valid_ms=50)
    assert rig.now < late.timestamp % 2**32 / 1000 + 0.05
    cs.send(late)
    assert syn(rig, 2003) == 1


def test_a_question_goes_along_with_what_goes_a_moment_before_its_time() -> None:
    rig, cs = granting_rig()
    cs.send(grant(leased(rig, cs), 1, 3))
    rig.advance(LEASE_INTERVAL_MS / 1000)
    cs.take(Lease)
    rig.now += LEASE_INTERVAL_MS / 1000 - EARLY_S
    rig.settle()
    assert len(cs.take(Lease)) == 1
    rig.now += EARLY_S
    rig.settle()
    assert cs.take(Lease) == []


def test_an_answer_takes_no_time_away_and_gives_no_more_than_the_protocol_allows() -> None:
    rig, cs = granting_rig()
    asked = leased(rig, cs)
    cs.send(grant(asked, 1, 5))
    cs.send(asked._replace(valid_ms=0))
    cs.send(asked._replace(valid_ms=10))
    rig.advance(0.03)
    assert syn(rig, 2000) == 1
    leased(rig, cs, 60_000)
    rig.advance(0.08)
    assert syn(rig, 2001) == 0


def test_who_holds_grants_asks_every_ten_ms() -> None:
    rig, cs = granting_rig()
    cs.send(grant(leased(rig, cs), 1, 3))
    cs.take(Lease)
    rig.advance(0.1)
    assert 9 <= len(cs.take(Lease)) <= 11


def test_another_active_cs_or_a_reset_begins_with_another_lease() -> None:
    rig, cs = granting_rig()
    first = leased(rig, cs)
    cs.send(grant(first, 1, 3))
    cs.send(Reset(reset_id=7, reset_scope=1))
    second = cs.take(Lease)[-1]
    assert second.lease_id == first.lease_id + 1
    assert syn(rig, 2000) == 0
    cs.take(Grant)
    cs.send(grant(first, 2, 3))  # of the lease that is over
    assert acks(cs) == []
    assert rig.count("grants_stale") == 1
    other = rig.cs(2, flags=FLAGS, role_epoch=2)
    third = other.take(Lease)[-1]
    assert third.lease_id == second.lease_id + 1


# --- GRANT --------------------------------------------------------------------------------------


def test_parts_are_carried_out_in_order_and_confirmed() -> None:
    rig, cs = granting_rig()
    lease = leased(rig, cs)
    cs.send(grant(lease, 1, 2))
    cs.send(grant(lease, 3, 2))
    assert acks(cs) == [(GENERATION, 1), (GENERATION, 1)]
    assert state(rig).given == 2
    cs.send(grant(lease, 2, 2))
    cs.send(grant(lease, 2, 2))  # a repeat
    assert acks(cs) == [(GENERATION, 3), (GENERATION, 3)]
    assert state(rig).given == 6
    for port in range(2000, 2006):
        assert syn(rig, port) == 1
    serials = [flow.serial for flow in told(rig, cs)]
    assert serials == [SERIAL + 100 * part + at for part in (1, 2, 3) for at in (0, 1)]


def test_a_new_generation_ends_the_one_before_and_what_is_left_comes_back() -> None:
    rig, cs = granting_rig()
    lease = leased(rig, cs)
    cs.send(grant(lease, 1, 3))
    cs.send(grant(lease, 2, 2))
    syn(rig, 2000)
    told(rig, cs)
    cs.send(grant(lease, 1, generation=GENERATION + 1))
    assert acks(cs)[-1] == (GENERATION + 1, 1)
    back = told(rig, cs)
    assert [(flow.error_code, flow.serial, flow.timestamp) for flow in back] == [
        (ErrorCode.NOFLOW, SERIAL + 101, 2),
        (ErrorCode.NOFLOW, SERIAL + 200, 2),
    ]
    assert syn(rig, 2001) == 0
    cs.send(grant(lease, 3, 2))  # late, of the generation that is over
    assert acks(cs) == [(GENERATION + 1, 1)]
    assert syn(rig, 2002) == 0


def test_a_later_part_of_a_new_generation_is_enough_to_end_the_old_one() -> None:
    rig, cs = granting_rig()
    lease = leased(rig, cs)
    cs.send(grant(lease, 1, 3))
    cs.send(grant(lease, 2, 3, generation=GENERATION + 1))
    assert acks(cs)[-1] == (GENERATION + 1, 0)
    assert syn(rig, 2000) == 0
    cs.send(grant(lease, 1, generation=GENERATION + 1))
    assert acks(cs)[-1] == (GENERATION + 1, 2)
    assert syn(rig, 2001) == 1


def test_the_cs_hears_what_never_came() -> None:
    rig, cs = granting_rig()
    lease = leased(rig, cs)
    cs.send(grant(lease, 1, 3))
    cs.send(grant(lease, 3, 2))  # the second part is lost
    cs.send(grant(lease, 1, generation=GENERATION + 2))
    rig.advance(0.011)
    flows = [flow for taken in cs.take(Taken) for flow in flows_of(taken.taken_data)]
    superseded = [flow for flow in flows if flow.error_code == SUPERSEDED]
    assert [(flow.serial, flow.timestamp) for flow in superseded] == [
        (0, GENERATION),
        (SERIAL + 102, GENERATION + 2),
    ]
    destination = superseded[0].signature
    assert (destination.dst_ipaddr, destination.dst_port, destination.protocol) == (*VIP, 6)


@pytest.mark.parametrize(
    "changes",
    [
        {"virt_port": 81},
        {"kind": 9},
    ],
    ids=["unknown virtual server", "unknown kind"],
)
def test_what_cannot_be_carried_out_comes_back(changes: dict[str, Any]) -> None:
    rig, cs = granting_rig()
    cs.send(grant(leased(rig, cs), 1, 3, **changes))
    assert acks(cs) == [(GENERATION, 1)]
    (flow,) = told(rig, cs)
    assert (flow.error_code, flow.serial, flow.timestamp) == (ErrorCode.NOFLOW, SERIAL + 100, 3)
    assert syn(rig, 2000) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"grant_data": b"\0\0\0"},
        {"node_count": 9},
        {"content": 7},
        {"content": int(GrantContent.TABLE), "first": 16384, "node_count": 0, "grant_data": b"\0"},
        {"grant_data": pack_nodes([(64, TRANSLATE, ROW[2])])},
    ],
)
def test_a_malformed_grant_is_counted(changes: dict[str, Any]) -> None:
    rig, cs = granting_rig()
    cs.send(grant(leased(rig, cs), 1, 1, **changes))
    assert rig.count("invalid_msg") == 1
    assert syn(rig, 2000) == 0


def test_clients_reach_the_target() -> None:
    rig, cs = granting_rig()
    lease = leased(rig, cs)
    cs.send(grant(lease, 1, 4, kind=3))
    clients = pack_clients([(CLIENT[0], 0, 60)])
    content = int(GrantContent.CLIENTS)
    cs.send(grant(lease, 2, kind=3, content=content, grant_data=clients))
    assert syn(rig, 2000) == 1
    other = CLIENT[0][:15] + b"\x09"
    assert rig.client_sends(SYN, client=(other, 2000)) == []
    assert len(cs.take(Query)) == 1


def test_a_virtual_server_that_is_removed_gives_everything_back() -> None:
    rig, cs = granting_rig()
    lease = leased(rig, cs)
    cs.send(grant(lease, 1, 3))
    cs.tell(DelVs(0, VIP[0], VIP[1], 6))
    (flow,) = told(rig, cs)
    assert (flow.serial, flow.timestamp) == (SERIAL + 100, 3)
    cs.send(grant(lease, 2, 2))
    (flow,) = told(rig, cs)
    assert (flow.serial, flow.timestamp) == (SERIAL + 200, 2)


# --- flows --------------------------------------------------------------------------------------


def test_a_flow_that_took_a_grant_ends_like_any_other() -> None:
    rig, cs = granting_rig()
    cs.send(grant(leased(rig, cs), 1, 3))
    syn(rig, 2000)
    assert [flow.serial for flow in told(rig, cs)] == [SERIAL + 100]
    rig.node_sends(0x14, client=(CLIENT[0], 2000), seq=0, ack=1)
    rig.advance(0.02)
    assert [message.serial for message in cs.take(Delete)] == [SERIAL + 100]


def test_a_flow_that_takes_a_grant_while_it_is_asked_about_is_asked_about_no_longer() -> None:
    rig, cs = granting_rig()
    lease = leased(rig, cs)
    assert syn(rig, 2000) == 0
    query = cs.one(Query)
    cs.send(grant(lease, 1, 3))
    assert syn(rig, 2000) == 2  # and the one that was held
    assert rig.count("queries_overtaken") == 1
    assert len(rig.agent.new_flows.pending) == 0
    cs.answer(query, node_ipaddr=NODE[0][:15] + b"\x09")
    assert rig.count("replies_stale") == 1
    (flow,) = told(rig, cs)
    found = rig.target.lookup(flow.signature)
    assert found is not None
    assert found.entry.serial == SERIAL + 100


def test_taken_is_repeated_until_a_lease_confirms_it_and_copied_to_standbys() -> None:
    rig, cs = granting_rig()
    standby = rig.cs(2, flags=FLAGS, active=False)
    cs.send(grant(leased(rig, cs), 1, 3))
    assert [bool(each.flags & Flag.REPLICA) for each in standby.take(Grant)] == [True]
    syn(rig, 2000)
    rig.advance(0.08)
    sent, copies = cs.take(Taken), standby.take(Taken)
    assert [each.sequence for each in sent].count(1) > 1
    assert all(each.flags & Flag.REPLICA for each in copies)
    last = max(each.sequence for each in sent)
    cs.send(cs.take(Lease)[-1]._replace(sequence=last, valid_ms=50))
    rig.advance(0.2)
    assert cs.take(Taken) == []


def test_serials_of_a_grant_go_round() -> None:
    rig, cs = granting_rig()
    cs.send(grant(leased(rig, cs), 1, 3, serial=0x81FFFFFE))
    for port in (2000, 2001, 2002):
        syn(rig, port)
    serials = [flow.serial for flow in told(rig, cs)]
    assert serials == [following(0x81FFFFFE, at) for at in range(3)]


def test_what_is_left_of_a_long_generation_is_known_without_all_of_it() -> None:
    rig, cs = granting_rig()
    lease = leased(rig, cs)
    parts, each = 40, 100
    for part in range(1, parts + 1):
        cs.send(grant(lease, part, each, serial=SERIAL + 1000 * part))
        for port in range(each - 1):  # one is left of each part
            syn(rig, 1024 + (part - 1) * each + port)
        told(rig, cs)
        leased(rig, cs)
    (ring,) = rig.agent.grants.rings.values()
    assert len(ring.ranges) <= GRANTED_MAX // each + 1
    cs.send(grant(lease, 1, generation=GENERATION + 1))
    back = [(flow.serial, flow.timestamp) for flow in told(rig, cs)]
    assert back == [(SERIAL + 1000 * parts + each - parts, parts)]
