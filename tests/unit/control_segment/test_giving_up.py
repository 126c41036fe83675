# SPDX-License-Identifier: Apache-2.0
"""What is down or gone gives up its flows, also those that never fall silent (9.8, 10.2)."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.reaper import ASKED_COSTS, RECORDS_AT_ONCE
from control_segment.wire import head_flags, signature_of, unpack_translation
from ssmb.constants import TCP, UDP, Asking, CloseReason, ErrorCode
from ssmb.messages import Delete, FlowState, Query, Reap, Reply, Stats
from support.segments.dfs_double import ACK, CONFIG, SYN, DfsDouble, Rig, changed_pool, config


def begin(rig: Rig, *, protocol: int = UDP, port: int = 40000) -> int:
    """A flow; its serial."""
    reply = rig.dfs.query(rig, protocol=protocol, dst_port=53 if protocol == UDP else 80, port=port)
    assert reply is not None
    assert not reply.error_code
    return reply.serial


def reaps(rig: Rig) -> list[Reap]:
    rig.advance(0.05)
    found = [message for message in rig.dfs.ssmb if isinstance(message, Reap)]
    rig.dfs.ssmb = []
    return found


def obey(rig: Rig, reap: Reap) -> None:
    rig.dfs.tell(rig, Delete(0, 0, reap.serial, *reap.signature, 0, reap.detail))


def set_state(rig: Rig, node: str, state: str) -> None:
    rig.cs.set_nodes("web", [node], weight=None, state=state, now=rig.now)


def reload(rig: Rig, **changes: Any) -> None:
    rig.cs.apply_config(config(**changes), rig.now)
    rig.settle()


def test_a_node_that_is_down_gives_up_its_udp_flows_at_once() -> None:
    rig = Rig()
    serial = begin(rig)
    assert rig.active()["web1"] == 1
    set_state(rig, "web1", "down")
    (reap,) = reaps(rig)
    assert (reap.serial, reap.detail) == (serial, CloseReason.NODE_FAIL)
    obey(rig, reap)
    begin(rig)  # the next datagram
    assert rig.active()["web1"] == 0
    assert sum(rig.active().values()) == 1


def test_the_next_datagram_is_decided_anew_also_if_its_query_overtakes_the_delete() -> None:
    rig = Rig()
    begin(rig)
    set_state(rig, "web1", "down")
    begin(rig)
    assert rig.active()["web1"] == 0
    assert sum(rig.active().values()) == 1


WITHOUT_WEB1 = changed_pool(web1=None)
OTHER_POOL = [
    CONFIG["pools"][0],
    {"name": "other", "nodes": [{"name": "n", "address": "10.1.2.2", "port": 53}]},
]
MOVED = [CONFIG["virtual_servers"][0], {**CONFIG["virtual_servers"][1], "pool": "other"}]


@pytest.mark.parametrize(
    "changes",
    [
        {"pools": WITHOUT_WEB1},
        {"pools": changed_pool(web1={"address": "10.1.1.99"})},
        {"pools": changed_pool(web1={"state": "down"})},
        {"virtual_servers": CONFIG["virtual_servers"][:1]},
        {"pools": OTHER_POOL, "virtual_servers": MOVED},
    ],
    ids=["node removed", "node replaced", "node down", "server removed", "another pool"],
)
def test_what_a_reload_takes_away_gives_up_its_udp_flows(changes: dict[str, Any]) -> None:
    rig = Rig()
    serial = begin(rig)
    begin(rig, protocol=TCP)  # goes on: it has an end of its own
    reload(rig, **changes)
    assert [reap.serial for reap in reaps(rig)] == [serial]


def test_a_reload_that_takes_nothing_away_ends_nothing() -> None:
    rig = Rig()
    begin(rig)
    begin(rig, protocol=TCP)
    reload(rig, pools=changed_pool("least_connections", web2=None))
    assert reaps(rig) == []


def test_a_draining_node_keeps_its_udp_flows_until_its_time_is_over() -> None:
    rig = Rig(config(settings={"drain_timeout_s": 20}))
    serial = begin(rig)
    begin(rig, protocol=TCP, port=2)
    set_state(rig, "web1", "draining")
    set_state(rig, "web2", "draining")
    for _ in range(19):
        rig.advance(1)
    assert reaps(rig) == []
    rig.advance(3)
    (reap,) = reaps(rig)
    assert (reap.serial, reap.detail) == (serial, CloseReason.ADMIN)


def test_a_node_that_is_enabled_again_in_time_keeps_its_flows() -> None:
    rig = Rig(config(settings={"drain_timeout_s": 20}))
    begin(rig)
    set_state(rig, "web1", "draining")
    rig.advance(15)
    set_state(rig, "web1", "enabled")
    rig.advance(15)
    set_state(rig, "web1", "draining")
    rig.advance(15)
    assert reaps(rig) == []


def test_without_a_drain_timeout_a_draining_node_keeps_its_flows() -> None:
    rig = Rig(config(settings={"drain_timeout_s": 0}))
    begin(rig)
    set_state(rig, "web1", "draining")
    rig.advance(300)
    assert [reap for reap in reaps(rig) if reap.detail] == []


@pytest.mark.parametrize("resets", [False, True])
def test_tcp_connections_of_a_node_that_is_down_end_by_choice(resets: bool) -> None:
    pool = {**CONFIG["pools"][0], "reset_when_down": resets}
    rig = Rig(config(pools=[pool]))
    serial = begin(rig, protocol=TCP)
    set_state(rig, "web1", "down")
    found = reaps(rig)
    assert [(reap.serial, reap.detail) for reap in found] == (
        [(serial, CloseReason.NODE_FAIL)] if resets else []
    )
    for reap in found:
        obey(rig, reap)
        answer = rig.dfs.query(rig, tcp_flags=ACK)  # what the client sends next
        assert answer is not None
        assert answer.error_code == ErrorCode.UNKNOWN
    assert rig.active()["web1"] == (0 if resets else 1)
    assert rig.cs.model.pools["web"].nodes["web1"].failed == 0  # it refused nothing


def test_a_reap_without_an_answer_is_repeated_as_it_was() -> None:
    rig = Rig()
    begin(rig)
    set_state(rig, "web1", "down")
    rig.advance(15)
    asked = reaps(rig)
    assert [reap.detail for reap in asked] == [CloseReason.NODE_FAIL] * 3
    assert rig.active()["web1"] == 0


def test_a_dfs_that_does_not_know_the_reason_is_asked_until_the_flow_is_silent() -> None:
    rig = Rig()
    begin(rig)
    set_state(rig, "web1", "down")
    for _ in range(10):
        for reap in reaps(rig):
            assert reap.idle_limit == 1
            rig.dfs.tell(rig, Stats(ErrorCode.CONNALIVE, 0, reap.serial, *reap.signature))
        rig.advance(1)
    rig.advance(2)
    assert reaps(rig)
    assert rig.active()["web1"] == 1


def test_what_an_earlier_cs_left_with_a_node_that_is_gone_ends_after_the_sync() -> None:
    first = Rig()
    begin(first)
    (flow,) = first.cs.table.by_key.values()
    assert flow.node.name == "web1"
    dfs = DfsDouble()
    dfs.flows = [state_of(first)]
    rig = Rig(config(pools=WITHOUT_WEB1), dfs)
    rig.advance(1)
    (reap,) = reaps(rig)
    assert reap.detail == CloseReason.ADMIN


def test_a_hundred_thousand_flows_are_given_up_piece_by_piece() -> None:
    """The pieces are what bounds the work of a turn; a fiftieth of the flows shows it."""
    rig = Rig(config(pools=changed_pool(web2=None, web3=None)))
    count = 2000
    for port in range(1, count + 1):
        begin(rig, port=port)
    rig.dfs.ssmb = []
    set_state(rig, "web1", "down")
    rig.cs.handle_timer(rig.now)
    rig.settle()
    asked = sum(flow.tries for flow in rig.cs.table.by_key.values())
    assert 0 < asked <= RECORDS_AT_ONCE // ASKED_COSTS
    rig.advance(0.5)
    assert len({reap.serial for reap in reaps(rig)}) == count


def state_of(rig: Rig) -> FlowState:
    """What a DFS would report of the only flow."""
    (flow,) = rig.cs.table.by_key.values()
    translation = unpack_translation(flow.tail)
    signature = signature_of(flow.key)
    fields = (0, head_flags(flow.head), flow.serial, *signature, 0, 0, *translation, 0, 0)
    return FlowState._make(fields)


# --- a SYN that its node does not answer (6.7, rule 8) -------------------------------------------


def ask_again(rig: Rig, serial: int, asking: Asking) -> Reply | None:
    signature = signature_of(next(iter(rig.cs.table.by_key)))
    query = Query(0, 0, serial, *signature, SYN, asking)
    found = [message for message in rig.dfs.tell(rig, query) if isinstance(message, Reply)]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("state", "asking", "moves"),
    [
        ("enabled", Asking.UNANSWERED, False),
        ("draining", Asking.UNANSWERED, True),
        ("down", Asking.UNANSWERED, True),
        ("draining", Asking.SILENT, False),
        ("down", Asking.SILENT, True),
        ("enabled", Asking.HALF_OPEN, False),
        ("draining", Asking.HALF_OPEN, False),
        ("down", Asking.HALF_OPEN, True),
    ],
)
def test_a_syn_without_an_answer_goes_elsewhere_where_its_node_takes_none(
    state: str, asking: Asking, moves: bool
) -> None:
    rig = Rig()
    serial = begin(rig, protocol=TCP)
    set_state(rig, "web1", state)
    reply = ask_again(rig, serial, asking)
    assert reply is not None
    assert (reply.serial, reply.error_code) == (serial, 0)
    assert rig.active()["web1"] == (0 if moves else 1)
    assert sum(rig.active().values()) == 1


def test_a_removed_node_keeps_the_connections_that_it_answered() -> None:
    rig = Rig()
    serial = begin(rig, protocol=TCP)
    (flow,) = rig.cs.table.by_key.values()
    reload(rig, pools=WITHOUT_WEB1)
    ask_again(rig, serial, Asking.SILENT)
    assert next(iter(rig.cs.table.by_key.values())) is flow
    ask_again(rig, serial, Asking.UNANSWERED)
    assert next(iter(rig.cs.table.by_key.values())).node.name != "web1"


def test_without_another_node_the_client_is_refused() -> None:
    rig = Rig(config(pools=changed_pool(web2=None, web3=None)))
    serial = begin(rig, protocol=TCP)
    set_state(rig, "web1", "down")
    reply = ask_again(rig, serial, Asking.UNANSWERED)
    assert reply is not None
    assert reply.error_code == ErrorCode.NOTAVAIL
    assert len(rig.cs.table) == 0


def test_a_flow_that_the_cs_does_not_hold_is_not_moved() -> None:
    """It may be a living connection, and the SYN a stranger's."""
    rig = Rig()
    serial = begin(rig, protocol=TCP)
    assert ask_again(rig, serial + 1, Asking.SILENT) is None
