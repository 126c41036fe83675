# SPDX-License-Identifier: Apache-2.0
"""A mistake of the CS that one DFS meets ends that DFS's stream, and nothing of another's."""

from __future__ import annotations

from typing import Any

import pytest

from admin.faults import COUNTER
from control_segment.connections import Connections
from control_segment.links import Link
from csmb.connection import Connection
from csmb.constants import RETRY_MAX_S, Role
from csmb.errors import EncodeError
from csmb.events import MessageReceived
from csmb.messages import AddVs, GetVsList
from ssmb.messages import Query
from support.segments.dfs_double import CLIENT, SERVER, DfsDouble, Rig, changed_server, config

TWO = [{"address": "10.255.0.1"}, {"address": "10.255.0.3"}]

pytestmark = pytest.mark.faults


@pytest.fixture
def rig() -> Rig:
    return two_dfss()


def two_dfss() -> Rig:
    second = DfsDouble(1, segment_id=257, address="10.255.0.3")
    return Rig(config(data_flow_segments=TWO), DfsDouble(), second)


def served(rig: Rig, dfs: DfsDouble) -> bool:
    return dfs.query(rig, port=40000 + dfs.serial) is not None


def the_fault(rig: Rig) -> str:
    (line,) = rig.cs.faults.take_log()
    assert rig.cs.statistics.drops[COUNTER] == 1
    return line


def test_a_mistake_with_one_stream_ends_that_stream(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = rig.dfss
    take_message = Connections._message

    def mistaken(connections: Connections, index: int, event: MessageReceived, now: float) -> None:
        if index == 0:
            raise EncodeError("VS_LIST: 1472 octets, more than 1440")
        take_message(connections, index, event, now)

    monkeypatch.setattr(Connections, "_message", mistaken)
    first.connection.send(GetVsList(), rig.now)
    wait_s = rig.cs.connections.stream_received(0, first.connection.data_to_send(), rig.now)
    assert wait_s == RETRY_MAX_S
    assert "serving DFS 10.255.0.1 port 61019" in the_fault(rig)
    assert rig.cs.connections.links[0].connection is None
    assert not rig.cs.peers[256].is_connected
    second.csmb.clear()
    second.connection.send(GetVsList(), rig.now)
    rig.settle()
    rig.advance(0)
    assert len(second.csmb) == 1
    assert served(rig, second)


def test_a_mistake_at_ready_leaves_nothing_half_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back once it can."""
    dfs = DfsDouble()
    rig = Rig(None, dfs)
    dfs.disconnect(rig)
    with monkeypatch.context() as patch:
        patch.setattr(Link, "configure", lambda *_: 1 / 0)
        dfs.connection = Connection(
            Role.DFS, dfs.settings, random_octets=rig.random_octets, now=rig.now
        )
        rig.cs.connections.connected(0, rig.now)
        wait_s: float | None = None
        while wait_s is None:
            dfs.connection.receive_data(rig.cs.connections.stream_to_send(0), rig.now)
            said = dfs.connection.data_to_send()
            wait_s = rig.cs.connections.stream_received(0, said, rig.now)
        assert rig.cs.statistics.drops[COUNTER] == 1
        assert not rig.cs.peers[256].is_connected
        assert not rig.cs.connections.links[0].is_ready
    rig.cs.datagrams_to_send()  # under keys that the DFS has not taken
    rig.dfs.connect(rig)
    assert served(rig, rig.dfs)


def test_a_mistake_with_one_datagram_costs_that_datagram(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = rig.dfss

    class Mistaken:
        @property
        def is_proved(self) -> bool:
            raise ZeroDivisionError

    monkeypatch.setattr(rig.cs.peers[256], "authentication", Mistaken())
    monkeypatch.setattr(rig.cs.peers[256], "is_fast", False)
    monkeypatch.setattr(rig.cs.peers[257], "is_fast", False)
    batch = []
    for number, dfs in enumerate((first, second, first, second), 1):
        query = Query(0, 0, number, CLIENT, SERVER, number, 80, 6, 0, 2)
        batch.append((dfs.sealed(query), dfs.address))
    replies = rig.cs.process_batch(batch, rig.now)
    assert [address for _, address in replies] == [second.address] * 2
    assert rig.cs.statistics.drops[COUNTER] == 2


def test_a_mistake_with_one_timer_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    second = rig.cs.peers[257]
    handle_timer = type(second.authentication).handle_timer

    def mistaken(authentication: Any, now: float) -> Any:
        if authentication is rig.cs.peers[256].authentication:
            raise ZeroDivisionError
        return handle_timer(authentication, now)

    monkeypatch.setattr(type(second.authentication), "handle_timer", mistaken)
    rig.dfss[1].ssmb.clear()
    rig.advance(0.2)
    assert 1 <= rig.cs.statistics.drops[COUNTER] < 10
    assert rig.cs.get_timer() > rig.now - 0.05  # and it does not spin


def test_a_reload_that_one_stream_cannot_carry_reaches_every_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream that could not is closed; READY will send it everything."""
    second = rig.dfss[1]
    connection = rig.cs.connections.links[0].connection
    assert connection is not None

    def mistaken(*_: object) -> None:
        raise EncodeError("ADD_VS: does not fit")

    monkeypatch.setattr(connection, "send", mistaken)
    second.csmb.clear()
    rig.cs.apply_config(
        config(data_flow_segments=TWO, virtual_servers=changed_server(port=81)), rig.now
    )
    assert "reconfiguring DFS 10.255.0.1" in the_fault(rig)
    assert rig.cs.connections.is_closing(0)
    assert not rig.cs.connections.is_closing(1)
    assert rig.cs.connections.stream_received(0, b"", rig.now) is not None
    second.exchange(rig)
    assert any(isinstance(message, AddVs) for message in second.csmb)
