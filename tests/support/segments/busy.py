# SPDX-License-Identifier: Apache-2.0
"""Segments in the middle of their work, for whoever wants to disturb it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from csmb.messages import Config
from ssmb.codec import encode
from ssmb.constants import Flag
from ssmb.keys import SessionKeys
from ssmb.messages import (
    AppNotify,
    AppQuery,
    AuthChallenge,
    AuthResponse,
    Bridge,
    Delete,
    FlowState,
    Message,
    NewFlow,
    Query,
    Reap,
    Reset,
    Stats,
    Sync,
    SyncDone,
    Timeout,
)
from ssmb.seal import Sealer
from support.octets.frames import ACK, RST, SYN
from support.octets.hostile import Attacker, Hostile, Watch, counted
from support.segments import dfs_double
from support.segments.agent_rig import (
    CLIENT,
    VIP,
    AgentRig,
    FakeCs,
    newflow_for,
    reply_to,
    vs_list,
    web_server,
)
from support.segments.dfs_double import DfsDouble

WRONG_KEY: Final = bytes(range(16))
GENUINE: Final = 1300  # datagrams before anything else: more than a window
BATCH: Final = 64


class BusyAgent:
    """Flows established, waiting, refused and ending; an active CS, its standby, another group's
    CS that speaks version 1."""

    def __init__(self) -> None:
        self.rig = AgentRig()
        self.active = self.rig.cs(1)
        self.standby = self.rig.cs(2, active=False)
        self.other = self.rig.cs(3, group_id=2, ssmb_versions=((1, 0),))
        assert self.other.version == 1
        self.history: dict[int, list[bytes]] = {1: [], 3: []}
        for cs in (self.active, self.other):
            self._record(cs)
        self.active.tell(Config())
        self.active.tell(vs_list())
        self.other.tell(Config())
        self.other.tell(vs_list(web_server(virt_port=81)))
        for number in range(40):
            self.active.send(newflow_for(0x81000001 + number, src_port=2000 + number))
        for number in range(30):
            self.rig.client_sends(SYN, client=(CLIENT[0], 1000 + number))
        queries = self.active.take(Query)
        for query in queries[20:]:
            self.active.answer(query, error_code=1, flags=0)
        self.waiting = queries[0]
        ending = (CLIENT[0], 2039)
        self.rig.client_sends(ACK, client=ending, seq=1, ack=1)
        self.rig.node_sends(RST, client=ending, seq=1)
        assert len(self.rig.agent.endings.ended.lingering) == 1
        assert len(self.rig.agent.new_flows.pending) == 20
        for cs in (self.active, self.other):
            self._talk(cs)

    def _record(self, cs: FakeCs) -> None:
        history, seal = self.history[cs.settings.segment_id], cs.seal

        def recording(octets: bytes) -> bytes:
            history.append(seal(octets))
            return history[-1]

        cs.seal = recording  # type: ignore[method-assign]

    def _talk(self, cs: FakeCs) -> None:
        nobody = Reap(serial=5, src_ipaddr=CLIENT[0], dst_ipaddr=VIP[0], src_port=9, dst_port=9)
        while len(self.history[cs.settings.segment_id]) < GENUINE:
            cs.send(nobody)
        self.rig.advance(0.01)

    def messages(self, cs: FakeCs) -> list[bytes]:
        """One of each type that a CS sends, each of them felt if it came through."""
        flow = newflow_for(0x81000001, src_port=2000)
        where = flow.signature._asdict()
        messages: list[Message] = [
            reply_to(self.waiting),
            flow._replace(node_port=9999),
            NewFlow(**{**newflow_for(0x81000777)._asdict(), "src_port": 7}),
            Reap(serial=flow.serial, **where),
            Timeout(serial=flow.serial, **where),
            Reset(reset_id=5),
            Sync(sync_id=4),
            AuthChallenge(challenge_id=9, auth_data=bytes(32)),
            Bridge(packet_id=1, flags=int(Flag.MORE_FRAGS), frag_data=bytes(60)),
        ]
        return [encode(message, cs.version) for message in messages]

    def attacker(self, cs: FakeCs) -> Attacker:
        assert cs.keys is not None
        assert self.standby.keys is not None
        wrong = (WRONG_KEY, cs.keys.d2c, self.standby.keys.c2d)
        history = list(self.history.get(cs.settings.segment_id, ()))
        ours = Sealer(cs.keys.c2d, lane=1)
        return Attacker(self.messages(cs), cs.endpoint, ours.seal, wrong, history)

    def watch(self) -> Watch:
        agent = self.rig.agent
        return Watch({"agent": agent, "sent": self.rig.sent, "count": agent.outbox.counters})

    def receive(self, octets: bytes, endpoint: tuple[str, int]) -> None:
        self.rig.agent.receive_datagram(octets, endpoint, self.rig.now)


class BusyCs:
    """Sessions of two DFSs, one of which speaks version 1; some flows asked about, some ended."""

    def __init__(self) -> None:
        addresses = ("10.255.0.1", "10.255.0.3", "10.255.0.9")
        segments = [{"address": address} for address in addresses]
        self.unconnected = 2  # nobody is there
        self.old = DfsDouble(1, segment_id=257, address="10.255.0.3", ssmb_versions=((1, 0),))
        self.history: dict[int, list[bytes]] = {256: [], 257: []}
        self.keys: dict[int, SessionKeys] = {}
        self.rig = dfs_double.Rig(
            dfs_double.config(data_flow_segments=segments), DfsDouble(), self.old
        )
        self.rig.settle()
        for dfs in (self.rig.dfs, self.old):
            self._record(dfs)
            for port in range(60):
                assert dfs.query(self.rig, port=40000 + port) is not None
            self._end_one(dfs, 40059)
            while len(self.history[dfs.segment_id]) < GENUINE:
                dfs.send(self.rig, Stats(serial=1, src_ipaddr=dfs_double.CLIENT))
            self.rig.cs.receive_datagram(bytes(60), dfs.address, self.rig.now)  # a doubt begins
        self.rig.settle()
        self.rig.cs.datagrams_to_send()

    def _record(self, dfs: DfsDouble) -> None:
        history, sealed = self.history[dfs.segment_id], dfs.sealed

        def recording(message: Message) -> bytes:
            history.append(sealed(message))
            return history[-1]

        dfs.sealed = recording  # type: ignore[method-assign]

    def _end_one(self, dfs: DfsDouble, port: int) -> None:
        dfs.tell(self.rig, self._delete(dfs.serial, port, detail=3))

    @staticmethod
    def _delete(serial: int, port: int, **fields: Any) -> Delete:
        return Delete(
            serial=serial,
            src_ipaddr=dfs_double.CLIENT,
            dst_ipaddr=dfs_double.SERVER,
            src_port=port,
            dst_port=80,
            protocol=6,
            **fields,
        )

    def messages(self, dfs: DfsDouble) -> list[bytes]:
        """One of each type that a DFS sends; most are felt if they come through."""
        delete = self._delete(dfs.serial - 59, 40000)
        where: dict[str, Any] = {"serial": delete.serial, **delete.signature._asdict()}
        counts: dict[str, Any] = {"pkts_in": 9, "bytes_in": 99, "flags": int(Flag.HAS_STATS)}
        new: dict[str, Any] = {**where, "serial": dfs.serial + 1, "src_port": 7}
        messages: list[Message] = [
            delete,
            Query(**new, tcp_flags=SYN),
            Query(**where, tcp_flags=ACK),
            AppQuery(**new, app_data=b"SID"),
            Stats(**where, **counts),
            FlowState(
                **{**new, "serial": 0x01000055}, node_ipaddr=bytes(10) + b"\xff\xff\x0a\x01\x01\x02"
            ),
            SyncDone(sync_id=77, flow_count=3),
            Reset(reset_id=5),
            AuthResponse(challenge_id=1, auth_data=bytes(32), auth_nonce=bytes(32)),
            AppNotify(**where, app_data=b"SID"),
            Bridge(packet_id=1, flags=int(Flag.MORE_FRAGS), frag_data=bytes(60)),
        ]
        return [encode(message, dfs.version) for message in messages]

    def attacker(self, dfs: DfsDouble) -> Attacker:
        peer = self.rig.cs.peers[dfs.segment_id]
        assert peer.keys is not None
        current = peer.keys.current
        assert current is not None
        assert dfs._keys is not None
        assert dfs._keys.current is not None
        wrong = (WRONG_KEY, dfs._keys.current.key)
        history = list(self.history[dfs.segment_id])
        ours = Sealer(current.key, lane=1)
        return Attacker(self.messages(dfs), dfs.address, ours.seal, wrong, history)

    def watch(self) -> Watch:
        return Watch({"cs": self.rig.cs, "count": self.rig.cs.statistics.drops})

    def deliver(self, hostile: Iterator[Hostile]) -> Counter[str]:
        """In batches, as the runtime gives them; nothing is answered."""
        waiting: list[tuple[bytes, tuple[str, int]]] = []
        cs, now = self.rig.cs, self.rig.now

        def receive(octets: bytes, endpoint: tuple[str, int]) -> None:
            waiting.append((octets, endpoint))
            if len(waiting) >= BATCH:
                assert cs.process_batch(waiting, now) == []
                waiting.clear()

        expected = counted(hostile, receive)
        assert cs.process_batch(waiting, now) == []
        assert cs.datagrams_to_send() == []
        return expected
