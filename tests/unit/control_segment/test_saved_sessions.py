# SPDX-License-Identifier: Apache-2.0
"""Sessions without a DFS flow outlive a restart of the CS."""

from __future__ import annotations

from typing import Any

from admin.state import Kind, Section, decode, encode
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import Delete, Reply
from support.segments.dfs_double import ACK, Rig, changed_pool, changed_server, config

WALL = 1_790_000_000.0


def idle_sessions(rig: Rig, ports: range) -> dict[int, Reply]:
    """Connections whose flow ended by idling; what the DFS heard about each."""
    replies = {}
    for port in ports:
        reply = rig.dfs.query(rig, port=port)
        assert reply is not None
        replies[port] = reply
        rig.dfs.tell(rig, Delete(0, 0, reply.serial, *reply.signature, detail=CloseReason.IDLE))
    return replies


def kept(rig: Rig) -> list[Section]:
    octets = b"".join(encode(1, WALL, rig.cs.saved_sessions.sections(rig.now, WALL)))
    return decode(octets, 1).sections


def restarted(sections: list[Section], later_s: float = 60, **changes: Any) -> tuple[Rig, int]:
    rig = Rig(config(**changes), boot_id=2)
    rig.now += 77_000  # another process, another clock
    return rig, rig.cs.saved_sessions.restore(sections, rig.now, WALL + later_s)


def test_an_idle_connection_goes_on_at_its_node_after_a_restart() -> None:
    first = Rig()
    before = idle_sessions(first, range(1, 10))
    rig, count = restarted(kept(first))
    assert count == 9
    assert sum(rig.active().values()) == 0  # no limit counts them
    for port, reply in before.items():
        again = rig.dfs.query(rig, port=port, tcp_flags=ACK)
        assert again is not None
        assert (again.error_code, again.flags) == (0, reply.flags)
        assert again.translation == reply.translation
    assert sum(rig.active().values()) == 9


def test_a_source_port_stays_with_its_session() -> None:
    source = {"address": "10.1.1.1", "ports": "5000-5001"}
    fields: dict[str, Any] = {
        "virtual_servers": changed_server(source_translation=source),
        "pools": changed_pool(web2=None, web3=None),
    }
    first = Rig(config(**fields))
    (reply,) = idle_sessions(first, range(1, 2)).values()
    assert reply.flags & Flag.TRANSLATE_SRC
    rig, _ = restarted(kept(first), **fields)
    other = rig.dfs.query(rig, port=2)
    assert other is not None
    assert {reply.snat_port, other.snat_port} == {5000, 5001}


def test_an_old_session_is_not_taken_and_a_kept_one_ends_at_its_time() -> None:
    first = Rig()
    idle_sessions(first, range(1, 3))
    sections = kept(first)
    assert restarted(sections, later_s=7440)[1] == 0
    rig, count = restarted(sections, later_s=7000)
    assert count == 2
    rig.advance(430)
    assert len(rig.cs.table) == 2
    rig.advance(20)
    assert len(rig.cs.table) == 0


def test_flows_that_a_dfs_has_are_not_kept() -> None:
    rig = Rig()
    rig.dfs.query(rig, port=1)
    assert kept(rig) == []
    changes = rig.cs.saved_sessions.changes
    idle_sessions(rig, range(2, 3))
    assert rig.cs.saved_sessions.changes != changes
    assert [section.kind for section in kept(rig)] == [Kind.SESSIONS]


def test_another_connection_from_the_same_port_begins_anew() -> None:
    first = Rig()
    idle_sessions(first, range(1, 2))
    rig, _ = restarted(kept(first))
    assert rig.dfs.query(rig, port=1, serial=777) is not None
    (flow,) = rig.cs.table.by_key.values()
    assert (flow.serial, flow.peer.segment_id) == (777, 256)


def test_a_session_of_a_node_that_is_gone_or_down() -> None:
    first = Rig()
    before = idle_sessions(first, range(1, 2))
    (node,) = {reply.node_ipaddr for reply in before.values()}
    sections = kept(first)
    down, _ = restarted(sections, pools=changed_pool(web1={"state": "down"}))
    reply = down.dfs.query(down, port=1, tcp_flags=ACK)
    assert reply is not None
    assert reply.error_code == ErrorCode.NOTAVAIL
    removed, _ = restarted(sections, pools=changed_pool(web1=None))
    reply = removed.dfs.query(removed, port=1, tcp_flags=ACK)
    assert reply is not None
    assert reply.node_ipaddr == node  # TCP goes on where it is


def test_records_of_another_size_are_passed_over() -> None:
    first = Rig()
    idle_sessions(first, range(1, 2))
    odd = [section._replace(record_size=19) for section in kept(first)]
    assert restarted(odd)[1] == 0


def test_a_full_table_takes_as_many_as_fit() -> None:
    first = Rig()
    idle_sessions(first, range(1, 30))
    rig, _ = restarted(kept(first), settings={"flow_capacity": 20})
    assert len(rig.cs.table) == 20
