# SPDX-License-Identifier: Apache-2.0
"""What a client meets where there is no place: dropped, reset, or a wait (9.9)."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.waiting import PER_SERVER_MAX
from ssmb.constants import CloseReason, ErrorCode
from ssmb.messages import Delete, Reply
from support.segments.dfs_double import Rig, changed_pool, changed_server, config


def full(at_limit: str = "wait", limit: int = 1, **changes: Any) -> tuple[Rig, list[Reply]]:
    """A virtual server at its limit; the REPLYs of the flows that it has."""
    fields = {"connection_limit": limit, "at_limit": at_limit, "limit_wait_s": 3, **changes}
    rig = Rig(config(virtual_servers=changed_server(**fields)))
    replies = [ask(rig, 1000 + number) for number in range(limit)]
    return rig, replies


def ask(rig: Rig, port: int, serial: int | None = None) -> Reply:
    reply = rig.dfs.query(rig, port=port, serial=serial)
    assert reply is not None
    return reply


def end(rig: Rig, reply: Reply) -> list[Reply]:
    """A flow ends; the REPLYs that come of it."""
    deleted = Delete(0, 0, reply.serial, *reply.signature, 0, CloseReason.FIN)
    return [message for message in rig.dfs.tell(rig, deleted) if isinstance(message, Reply)]


@pytest.mark.parametrize(
    ("at_limit", "code"),
    [("drop", ErrorCode.CONNLIMIT), ("reset", ErrorCode.BUSY), ("wait", ErrorCode.WAIT)],
)
def test_the_virtual_server_says_what_a_client_meets_at_a_limit(
    at_limit: str, code: ErrorCode
) -> None:
    rig, _ = full(at_limit)
    reply = ask(rig, 1)
    assert reply.error_code == code
    assert reply.idle_timeout == (3 if code == ErrorCode.WAIT else 0)


def test_unless_told_a_client_is_reset() -> None:
    rig = Rig(config(virtual_servers=changed_server(connection_limit=1)))
    ask(rig, 1)
    assert ask(rig, 2).error_code == ErrorCode.BUSY


def test_a_freed_place_goes_at_once_to_whoever_has_waited_longest() -> None:
    rig, (first,) = full()
    waiting = [ask(rig, port) for port in (1, 2, 3)]
    (served,) = end(rig, first)
    assert (served.serial, served.src_port, served.error_code) == (waiting[0].serial, 1, 0)
    (following,) = end(rig, served)
    assert following.src_port == 2
    assert sum(rig.active().values()) == 1


def test_the_repeat_of_its_query_gets_the_same_reply() -> None:
    """The one that came unasked may have been lost."""
    rig, (first,) = full()
    waiting = ask(rig, 1)
    rig.advance(1)
    assert ask(rig, 1, waiting.serial).idle_timeout == 2  # what is left
    (served,) = end(rig, first)
    again = ask(rig, 1, waiting.serial)
    assert (again.node_ipaddr, again.error_code) == (served.node_ipaddr, 0)
    assert sum(rig.active().values()) == 1


def test_who_has_waited_for_its_time_gets_no_place_any_more() -> None:
    rig, (first,) = full()
    waiting = ask(rig, 1)
    rig.advance(3.1)
    assert end(rig, first) == []
    assert rig.cs.statistics.refused["BUSY"] == 1
    assert ask(rig, 1, waiting.serial).error_code == 0  # a new one, and the place is free


def test_a_limit_that_is_raised_frees_places() -> None:
    rig, _ = full()
    waiting = ask(rig, 1)
    servers = changed_server(connection_limit=2, at_limit="wait")
    rig.dfs.ssmb = []
    rig.cs.apply_config(config(virtual_servers=servers), rig.now)
    rig.advance(1.1)
    (served,) = [message for message in rig.dfs.ssmb if isinstance(message, Reply)]
    assert served.serial == waiting.serial


def test_a_nodes_limit_is_waited_for_likewise() -> None:
    pools = changed_pool(web1={"connection_limit": 1}, web2=None, web3=None)
    servers = changed_server(at_limit="wait")
    rig = Rig(config(pools=pools, virtual_servers=servers))
    first = ask(rig, 1)
    waiting = ask(rig, 2)
    assert waiting.error_code == ErrorCode.WAIT
    (served,) = end(rig, first)
    assert served.serial == waiting.serial


def test_a_source_port_is_waited_for_likewise() -> None:
    source = {"address": "10.1.1.1", "ports": "5000-5000"}
    pools = changed_pool(web2=None, web3=None)
    servers = changed_server(at_limit="wait", source_translation=source)
    rig = Rig(config(pools=pools, virtual_servers=servers))
    first = ask(rig, 1)
    waiting = ask(rig, 2)
    assert waiting.error_code == ErrorCode.WAIT
    rig.dfs.ssmb = []
    end(rig, first)
    rig.advance(2.9)
    served = [message for message in rig.dfs.ssmb if isinstance(message, Reply)]
    assert [reply.serial for reply in served] == [waiting.serial]


def test_only_so_many_wait_and_the_next_one_is_reset() -> None:
    rig, (first,) = full()
    for port in range(1, PER_SERVER_MAX + 1):
        assert ask(rig, 2000 + port).error_code == ErrorCode.WAIT
    assert ask(rig, 1).error_code == ErrorCode.BUSY
    assert len(rig.cs.table.waiting) == PER_SERVER_MAX
    end(rig, first)
    assert len(rig.cs.table.waiting) == PER_SERVER_MAX - 1


def test_another_connection_from_a_waiting_port_takes_its_turn_anew() -> None:
    rig, (first,) = full()
    ask(rig, 1)
    ask(rig, 2)
    later = ask(rig, 1)
    assert len(rig.cs.table.waiting) == 2
    (served,) = end(rig, first)
    assert served.src_port == 2
    (served,) = end(rig, served)
    assert served.serial == later.serial


def test_who_waits_for_a_virtual_server_that_is_removed_hears_it() -> None:
    rig, (first,) = full()
    waiting = ask(rig, 1)
    rig.dfs.ssmb = []
    rig.cs.apply_config(config(virtual_servers=[]), rig.now)
    rig.advance(1.1)
    (told,) = [message for message in rig.dfs.ssmb if isinstance(message, Reply)]
    assert (told.serial, told.error_code) == (waiting.serial, ErrorCode.NOTAVAIL)
    assert end(rig, first) == []
