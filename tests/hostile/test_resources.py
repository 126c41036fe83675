# SPDX-License-Identifier: Apache-2.0
"""What somebody without the key can use up: connections, memory, places in tables.  All of it is
bounded, and none of it keeps a CS out."""

from __future__ import annotations

import asyncio
import random
import socket
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import pytest

from csmb.connection import MESSAGES_BEFORE_READY_MAX, Connection
from csmb.constants import AUTH_WAIT_S, CSMB_MSG_MAX, Role
from csmb.transitions import State
from data_flow_segment.peers.admission import FRESH_S, SOURCE_MAX, STRANGERS_MAX
from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
from data_flow_segment.runtime.sockets import UNREAD_MAX, CsmbProtocol
from data_flow_segment.runtime.streams import ACCEPTS_AT_ONCE, Streams
from ssmb.seal import Opener, Sealer
from support.octets.hostile_streams import Scene
from support.ports import free_port
from support.segments.agent_rig import AgentRig
from support.segments.busy import BusyAgent
from support.segments.csmb_pair import START, ScriptedPeer, connect
from support.segments.real_dfs import run_with_dfs

MEBI: Final = 1 << 20
SIEGE: Final = 5_000
HALF_A_HELLO: Final = Scene(Role.DFS, State.HELLO_WAIT).genuine[0][:30]


def held_by(work: Callable[[], None]) -> int:
    """Octets of memory at most while something is done."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- the agent ---------------------------------------------------------------------------------


def test_thousands_of_half_open_connections_hold_little_and_keep_no_cs_out() -> None:
    busy = BusyAgent()
    sessions, rig = busy.rig.agent.connections, busy.rig

    def besiege() -> None:
        for number in range(SIEGE):
            rig.now += 2 * FRESH_S / STRANGERS_MAX
            connection = sessions.connection_made(rig.now, f"192.0.2.{number % 200}")
            assert connection is not None
            sessions.receive(connection, HALF_A_HELLO, rig.now)
            for touched in sessions.take_touched():
                sessions.octets_to_send(touched)
            sessions.take_log()
            unproved = sum(session.peer is None for session in sessions._accepted.values())
            assert unproved <= STRANGERS_MAX
            if number == SIEGE // 2:
                rig.cs(9, group_id=9)

    assert held_by(besiege) < MEBI
    assert (9, 9) in rig.agent.peers.by_identity
    assert (1, 1) in rig.agent.peers.by_identity, "those who were there stay"
    assert rig.count("csmb_auth_failures") == SIEGE - STRANGERS_MAX


def test_a_flood_does_not_push_out_who_has_just_come() -> None:
    rig = AgentRig()
    made = rig.agent.connections.connection_made
    numbers = [made(rig.now, f"192.0.2.{number % 250}") for number in range(1000)]
    assert numbers.count(None) == 1000 - STRANGERS_MAX
    assert None not in numbers[:STRANGERS_MAX]
    assert rig.count("csmb_auth_failures") == 1000 - STRANGERS_MAX


def test_a_turn_of_the_loop_accepts_a_few_of_many() -> None:
    """Between two turns packets are handled, and SSMB is read."""
    rig = AgentRig()
    turns: list[int] = []

    def heard() -> int:
        return rig.count("csmb_connections") + rig.count("csmb_auth_failures")

    all_heard = asyncio.Event()

    class Owner:
        def settle(self) -> None:
            turns.append(heard())
            if heard() == SOURCE_MAX + STRANGERS_MAX:
                all_heard.set()

        def fail(self, error: Exception) -> None:
            raise error

        go_on_after = fail

    async def flood() -> None:
        streams = Streams(Owner(), rig.agent.connections, lambda: rig.now)
        port = free_port()
        streams.listen("127.0.0.1", port)
        number = SOURCE_MAX + STRANGERS_MAX
        callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
        for caller in callers:
            caller.send(HALF_A_HELLO[:1])
        await all_heard.wait()
        await streams.close()
        for caller in callers:
            caller.close()

    asyncio.run(flood())
    steps = [after - before for before, after in pairwise([0, *turns])]
    assert max(steps) <= ACCEPTS_AT_ONCE


def test_each_ends_by_itself_however_slowly_it_speaks() -> None:
    """An octet now and then is no sign of life before READY."""
    rig = AgentRig()
    number = rig.agent.connections.connection_made(rig.now)
    assert number is not None
    began = rig.now
    while not rig.agent.connections.octets_to_send(number)[1]:
        rig.agent.connections.receive(number, HALF_A_HELLO[:1], rig.now)
        rig.advance(0.1)
        assert rig.now - began < AUTH_WAIT_S + 0.2


def test_wrong_keys_leave_nothing_behind() -> None:
    rig = AgentRig()

    def try_keys() -> None:
        for number in range(500):
            cs = rig.cs(1 + number % 100, prepare=False, key=number.to_bytes(16, "big"))
            assert cs.closed is not None
            rig.css.clear()
            rig.agent.connections.take_log()
            rig.agent.connections.take_touched()

    assert held_by(try_keys) < MEBI
    assert rig.agent.connections._accepted == {}
    assert rig.agent.peers.by_identity == {}
    assert rig.count("csmb_auth_failures") == 500


def test_a_flood_of_datagrams_holds_nothing() -> None:
    busy = BusyAgent()
    dice = random.Random(31)
    lanes = busy.attacker(busy.active)

    def flood() -> None:
        for number in range(20_000):
            octets = dice.randbytes(2048 if number % 2 else 100)
            busy.receive(octets, ("192.0.2.66", number & 0xFFFF))
            busy.receive(octets, lanes.endpoint)

    assert held_by(flood) < MEBI


# --- a connection ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", [State.HELLO_WAIT, State.AUTH_WAIT, State.READY])
def test_a_connection_waits_for_no_more_than_one_message(role: Role, state: State) -> None:
    connection = Scene(role, state).connection
    inbound = connection._actions.inbound
    head = bytes(6) + CSMB_MSG_MAX.to_bytes(2, "big")
    connection.receive_data(head, START)
    for _ in range(CSMB_MSG_MAX - len(head)):
        connection.receive_data(b"\0", START)
        assert len(inbound._buffer) <= CSMB_MSG_MAX
    connection.receive_data(bytes(8), START)
    assert connection.is_closed
    assert len(inbound._buffer) == 0


@pytest.mark.parametrize("length", [CSMB_MSG_MAX + 4, 65532, 65535, 0, 8, 13])
def test_a_length_that_cannot_be_ends_it_at_once(length: int) -> None:
    for role in Role:
        connection = connect(role)
        connection.receive_data(b"\0\1\0\1\0\0" + length.to_bytes(2, "big"), START)
        assert connection.is_closed


@pytest.mark.parametrize("role", Role)
def test_who_proves_nothing_gets_few_answers(role: Role) -> None:
    """Whatever it sends, what waits for it to read is small."""
    connection = connect(role)
    peer = ScriptedPeer(connection)
    peer.reach(State.AUTH_WAIT)
    sent = 0
    while not connection.is_closed:
        peer.say(peer.hello(boot_id=sent))
        sent += 1
    assert sent <= MESSAGES_BEFORE_READY_MAX
    assert len(connection.data_to_send()) < 16 * 1024
    kept = sum(1 for _ in iter(connection.next_event, None))
    assert kept <= MESSAGES_BEFORE_READY_MAX + 2


def test_counters_of_every_lane_are_all_that_a_key_remembers() -> None:
    sealers = [Sealer(bytes(16), lane) for lane in range(256)]
    opener = Opener(bytes(16))

    def listen() -> None:
        for _ in range(40):
            for sealer in sealers:
                opener.open(sealer.seal(b"message"))

    assert held_by(listen) < 256 * 1024


# --- sockets -----------------------------------------------------------------------------------


async def handshake(dfs: DataFlowSegmentRuntime) -> bool:
    """A CS connects and proves itself; False if it was cut off."""
    settings = AgentRig().cs(1).settings
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", dfs.config.csmb.port)
    connection = Connection(Role.CS, settings, random_octets=random.randbytes, now=loop.time())
    try:
        while not connection.is_ready and not connection.is_closed:
            writer.write(connection.data_to_send())
            connection.receive_data(await reader.read(4096), loop.time())
        writer.write(connection.data_to_send())
        return connection.is_ready
    except ConnectionError:
        return False
    finally:
        writer.close()


def test_a_cs_gets_in_while_somebody_holds_every_connection_open() -> None:
    async def scenario(dfs: DataFlowSegmentRuntime) -> None:
        held: list[asyncio.StreamWriter] = []
        for _ in range(3 * STRANGERS_MAX):
            _, writer = await asyncio.open_connection("127.0.0.1", dfs.config.csmb.port)
            writer.write(HALF_A_HELLO)
            held.append(writer)
        await asyncio.sleep(2 * FRESH_S)
        assert len(dfs.agent.connections._accepted) <= SOURCE_MAX
        assert len(dfs._streams) <= SOURCE_MAX
        assert await handshake(dfs)
        for writer in held:
            writer.transport.abort()

    run_with_dfs(scenario)


def test_a_peer_that_never_reads_is_cut_off() -> None:
    async def scenario(_: DataFlowSegmentRuntime) -> None:
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[CsmbProtocol] = asyncio.Queue()
        ended = asyncio.Event()

        def received(_: CsmbProtocol, octets: bytes) -> None:
            if not octets:
                ended.set()

        server = await loop.create_server(
            lambda: CsmbProtocol(made.put_nowait, received), "127.0.0.1"
        )
        port = server.sockets[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            transport = (await made.get()).transport
            assert transport is not None
            most = 0
            while not ended.is_set():
                transport.write(bytes(64 * 1024))
                most = max(most, transport.get_write_buffer_size())
                await asyncio.sleep(0)
        server.close()
        assert most <= UNREAD_MAX + 64 * 1024

    run_with_dfs(scenario)
