# SPDX-License-Identifier: Apache-2.0
"""The Control Segment as a whole: links, roles, retries, who is talked to and when."""

from __future__ import annotations

import pytest

from admin.answers import ControlSegmentStatus
from control_segment.links import Link
from control_segment.pools import Pool
from control_segment.runtime.admin import handle
from csmb.constants import RETRY_MAX_S, RETRY_MIN_S
from csmb.constants import ErrorCode as CsmbErrorCode
from csmb.constants import Flag as CsmbFlag
from csmb.events import Closed
from csmb.messages import Config, Hello, VsList
from ssmb.messages import Query, Reply, Timeout
from support.segments.dfs_double import CLIENT, SERVER, DfsDouble, Rig, changed_pool, config


def test_a_dfs_that_cannot_be_reached_is_tried_ever_slower_up_to_half_a_minute() -> None:
    """Every second for half a minute: a restarted agent is back by then."""
    link = Link(bytes)
    waits = [link.failed("refused") for _ in range(37)]
    assert waits[:30] == pytest.approx([1.0] * 30)
    assert waits[30:] == pytest.approx([2.0, 4.0, 8.0, 16.0, 24.0, 24.0, 24.0])


@pytest.mark.parametrize(("octet", "share"), [(0, 0.0), (0x80, 0.5), (0xFF, 1.0)])
def test_every_wait_is_between_one_second_and_thirty_with_jitter(octet: int, share: float) -> None:
    link = Link(lambda count: bytes([octet]) * count)
    waits = [link.failed("refused") for _ in range(35)]
    assert waits[0] == pytest.approx(1 + share / 4, abs=0.002)
    assert all(RETRY_MIN_S <= wait <= RETRY_MAX_S for wait in waits)
    assert waits[-1] == pytest.approx(24 + 6 * share, abs=0.05)


def test_a_connection_that_held_makes_the_next_tries_quick() -> None:
    rig = Rig()
    for _ in range(5):
        rig.cs.connections.links[0].failed("refused")
    rig.now += 2
    waits = [
        rig.dfs.disconnect(rig),
        *(rig.cs.connections.connect_failed(0, "refused") for _ in range(3)),
    ]
    assert waits == pytest.approx([0.15, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("held_s", [1.0, 1.5, 3600.0])
def test_every_connection_that_served_begins_the_waits_anew(held_s: float) -> None:
    """An agent that is restarted again and again is not waited for longer and longer."""
    rig = Rig()
    for _ in range(10):
        rig.now += held_s
        waits = [rig.dfs.disconnect(rig), rig.cs.connections.connect_failed(0, "refused")]
        assert waits == pytest.approx([0.15, 0.5])
        rig.dfs.connect(rig)


def test_a_connection_that_is_lost_again_and_again_at_once_is_tried_once_a_second() -> None:
    rig = Rig()
    waits = []
    for held_s in (0.0, 0.5, 0.99, 0.5):
        rig.now += held_s
        waits.append(rig.dfs.disconnect(rig))
        rig.dfs.connect(rig)
    assert waits == pytest.approx([1.0] * 4)


def test_somebody_who_never_proves_who_he_is_is_tried_slower() -> None:
    """Until the right one is there: then it begins anew."""
    rig = Rig()
    waits = [rig.dfs.disconnect(rig)]
    for _ in range(6):
        rig.cs.connections.connected(0, rig.now)
        waits.append(rig.cs.connections.stream_received(0, b"", rig.now) or 0.0)
    assert waits == pytest.approx([1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 24.0])
    rig.dfs.connect(rig)
    rig.now += 1
    assert rig.dfs.disconnect(rig) == pytest.approx(0.15)


def test_a_refusal_waits_as_it_says_however_long_the_connection_held() -> None:
    link = Rig().cs.connections.links[0]
    assert link.closed(Closed("refused", CsmbErrorCode.AUTHFAIL, 30.0), 5000.0) == 30.0
    assert link.failed("refused") >= RETRY_MIN_S


def test_the_same_failure_is_logged_once() -> None:
    rig = Rig()
    rig.dfs.disconnect(rig)
    rig.cs.log.clear()
    for _ in range(3):
        rig.cs.connections.connect_failed(0, "refused")
    assert rig.cs.log == ["DFS 10.255.0.1 port 61019: refused"]


def test_decisions_go_on_while_csmb_is_away() -> None:
    rig = Rig()
    rig.dfs.disconnect(rig)
    reply = rig.dfs.query(rig)
    assert reply is not None
    assert reply.error_code == 0


def test_a_cs_that_is_not_active_tells_nothing_and_answers_no_query() -> None:
    rig = Rig(config(active=False))
    assert rig.dfs.csmb == []
    assert rig.dfs.query(rig) is None
    assert rig.cs.statistics.drops["not_active"] == 1


def test_a_cs_that_is_told_not_to_be_active_steps_back() -> None:
    hellos: list[Hello] = []

    def another_is_active(hello: Hello) -> int:
        hellos.append(hello)
        return CsmbErrorCode.NOTACTIVE if hello.flags & CsmbFlag.ACTIVE else CsmbErrorCode.OK

    rig = Rig(None, DfsDouble(accept_hello=another_is_active))
    assert rig.cs.connections.links[0].is_ready
    assert not hellos[-1].flags & CsmbFlag.ACTIVE
    assert rig.dfs.query(rig) is None


def test_with_a_dfs_that_names_no_epoch_a_waiting_cs_never_raises_its_own() -> None:
    """A DFS of an earlier release: a raised epoch would displace a CS that it does not mention."""
    hellos: list[Hello] = []
    is_there = True

    def another_is_active(hello: Hello) -> int:
        hellos.append(hello)
        claims = hello.flags & CsmbFlag.ACTIVE
        return CsmbErrorCode.NOTACTIVE if claims and is_there else CsmbErrorCode.OK

    rig = Rig(None, DfsDouble(accept_hello=another_is_active))
    rig.advance(60)
    assert rig.dfs.csmb == []
    assert sum(1 for line in rig.cs.log if "this one waits" in line) == 1
    is_there = False
    rig.advance(15)
    assert {type(message) for message in rig.dfs.csmb} == {Config, VsList}
    assert {hello.role_epoch for hello in hellos} == {1}


def test_a_role_is_shown() -> None:
    rig = Rig(None, DfsDouble(accept_hello=lambda hello: CsmbErrorCode.NOTACTIVE))
    status = handle(rig.cs, "status", {}, rig.now)
    assert isinstance(status, ControlSegmentStatus)
    (dfs,) = status.data_flow_segments
    assert (dfs.ready, dfs.active, dfs.group_role, dfs.role_epoch) == (True, False, "standby", 1)


def test_a_reply_takes_the_waiting_timeouts_along() -> None:
    rig = Rig()
    rig.dfs.query(rig, port=1)
    flow = next(iter(rig.cs.table.by_key.values()))
    rig.cs.dispatch.send_low(flow.peer, Timeout(serial=flow.serial), rig.now)
    query = Query(0, 0, 9, CLIENT, SERVER, 2, 80, 6, tcp_flags=2)
    before = len(rig.dfs.ssmb)
    rig.dfs.tell(rig, query)
    assert sorted(type(message).__name__ for message in rig.dfs.ssmb[before:]) == [
        "Reply",
        "Timeout",
    ]


def test_replies_of_a_batch_come_back_in_order() -> None:
    rig = Rig()
    datagrams = [
        (
            rig.dfs.sealed(Query(0, 0, port, CLIENT, SERVER, port, 80, 6, tcp_flags=2)),
            rig.dfs.address,
        )
        for port in range(1, 65)
    ]
    replies = rig.cs.process_batch(datagrams, rig.now)
    before = len(rig.dfs.ssmb)
    for octets, address in replies:
        assert address == rig.dfs.address
        rig.dfs.take(rig, octets)
    serials = [message.serial for message in rig.dfs.ssmb[before:] if isinstance(message, Reply)]
    assert serials == list(range(1, 65))


def test_two_addresses_of_one_dfs_are_one_dfs() -> None:
    configuration = config(
        data_flow_segments=[{"address": "10.255.0.1"}, {"address": "10.254.0.1"}]
    )
    rig = Rig(configuration, DfsDouble(0))
    rig.dfs.address = ("nowhere", 0)  # datagrams go to the one double that has the newest keys
    second = DfsDouble(1)
    second._keys = rig.dfs._keys  # of the same DFS
    rig.dfss.append(second)
    second.connect(rig)
    assert list(rig.cs.peers) == [256]
    assert second.query(rig) is not None
    second.disconnect(rig)
    assert second.query(rig, port=2) is not None  # losing one connection is no event


def test_a_pool_that_did_not_change_goes_on_with_its_round() -> None:
    configuration = config(pools=changed_pool())
    pool = Pool(configuration.pools[0])
    picked = [pool.method.pick(bytes(37), 0.0)]
    pool.apply(configuration.pools[0])
    picked += [pool.method.pick(bytes(37), 0.0) for _ in range(2)]
    assert [node.name for node in picked if node is not None] == ["web1", "web2", "web3"]
