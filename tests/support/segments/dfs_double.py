# SPDX-License-Identifier: Apache-2.0
"""A CS and a scripted DFS in one process, with virtual time: what the CS's tests speak through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from control_segment.config import ControlSegmentConfig
from control_segment.segment import ControlSegment
from csmb.connection import Connection
from csmb.constants import Role
from csmb.events import HelloReceived, MessageReceived, Ready
from csmb.messages import Ack, Hello
from csmb.settings import ConnectionSettings
from csmb.versions import Versions
from ssmb.addresses import from_text
from ssmb.codec import decode_datagram, encode
from ssmb.keys import auth_proof
from ssmb.messages import AuthChallenge, AuthResponse, Message, Query, Reply, Sync, SyncDone
from ssmb.seal import KeyRing, Seals

KEY = b"0123456789abcdef"
CLIENT = from_text("198.51.100.7")
SERVER = from_text("203.0.113.10")
SYN, ACK, FIN_ACK = 0x02, 0x10, 0x11
CONFIG: dict[str, Any] = {
    "segment_id": 1,
    "ssmb": {"address": "10.255.0.2"},
    "key_file": "cluster.key",
    "data_flow_segments": [{"address": "10.255.0.1"}],
    "pools": [
        {
            "name": "web",
            "nodes": [
                {"name": "web1", "address": "10.1.1.2", "port": 8080},
                {"name": "web2", "address": "10.1.1.3", "port": 8080},
                {"name": "web3", "address": "10.1.1.4", "port": 8080},
            ],
        }
    ],
    "virtual_servers": [
        {
            "name": "www",
            "address": "203.0.113.10",
            "port": 80,
            "protocol": "tcp",
            "pool": "web",
        },
        {
            "name": "dns",
            "address": "203.0.113.10",
            "port": 53,
            "protocol": "udp",
            "pool": "web",
        },
    ],
}


def config(**changes: Any) -> ControlSegmentConfig:
    """Return the configuration of most tests, with other values at the top level."""
    return ControlSegmentConfig.model_validate({**CONFIG, **changes})


def changed_pool(method: str = "round_robin", **nodes: dict[str, Any] | None) -> list[Any]:
    """Return the pool `web`: nodes changed by name, left out if None."""
    pool = CONFIG["pools"][0]
    kept = [
        {**node, **(nodes.get(node["name"]) or {})}
        for node in pool["nodes"]
        if node["name"] not in nodes or nodes[node["name"]] is not None
    ]
    return [{**pool, "method": method, "nodes": kept}]


def changed_server(**changes: Any) -> list[Any]:
    """Return the virtual servers, the first one changed."""
    first, *others = CONFIG["virtual_servers"]
    return [{**first, **changes}, *others]


class DfsDouble:
    """Speaks CSMB and SSMB with a CS as a DFS does, and remembers what it was told."""

    def __init__(
        self,
        index: int = 0,
        *,
        segment_id: int = 256,
        boot_id: int = 7,
        address: str = "10.255.0.1",
        ssmb_versions: Versions = ((1, 0), (2, 0)),
        csmb_versions: Versions = ((1, 0), (2, 0)),
        laboratory: bool = False,
        accept_hello: Callable[[Hello], int] = lambda hello: 0,
    ) -> None:
        self.index = index
        self.segment_id = segment_id
        self.address = (address, 61019)
        self.settings = ConnectionSettings(
            segment_id=segment_id,
            key=b"" if laboratory else KEY,
            boot_id=boot_id,
            ssmb_ipaddr=from_text(address),
            ssmb_port=61019,
            flow_capacity=65536,
            ssmb_versions=ssmb_versions,
            csmb_versions=csmb_versions,
            laboratory=laboratory,
            accept_hello=accept_hello,
        )
        self.version = 2
        self.csmb: list[Any] = []  # messages received
        self.cs_hello = Hello()  # the last one
        self.ssmb: list[Message] = []
        self.flows: list[Message] = []  # what SYNC is answered with
        self.loses: Callable[[Message], bool] = lambda message: False
        self.answers_challenges = True
        self.answers_sync = True
        self.reconnect_s: float | None = None  # the CS has closed the connection
        self.serial = 100
        self._keys: KeyRing | None = None
        self._sealer: Seals | None = None

    def connect(self, rig: Rig) -> None:
        """Open TCP, and talk until nobody has anything to say."""
        self.connection = Connection(
            Role.DFS, self.settings, random_octets=rig.random_octets, now=rig.now
        )
        rig.cs.connections.connected(self.index, rig.now)
        rig.settle()

    def disconnect(self, rig: Rig) -> float:
        """Close TCP; return when the CS wants to reconnect."""
        wait = rig.cs.connections.stream_received(self.index, b"", rig.now)
        assert wait is not None
        return wait

    def _is_hung_up_on(self, rig: Rig, last: bytes) -> bool:
        """Whether the CS has closed the connection; `last`: its last octets."""
        if rig.cs.connections.is_closing(self.index):
            self.reconnect_s = rig.cs.connections.stream_received(self.index, b"", rig.now)
        if rig.cs.connections.links[self.index].connection is not None:
            return False
        self.connection.receive_data(last, rig.now)
        self.connection.receive_data(b"", rig.now)
        return True

    def exchange(self, rig: Rig) -> bool:
        """Carry CSMB octets both ways; return whether there were any."""
        to_dfs = rig.cs.connections.stream_to_send(self.index)
        if self._is_hung_up_on(rig, to_dfs):
            return False
        if to_dfs:
            self.connection.receive_data(to_dfs, rig.now)
        while event := self.connection.next_event():
            if isinstance(event, Ready):
                self.version = event.ssmb_version[0]
                if event.ssmb_keys is not None:
                    self._keys = self._keys or KeyRing()
                    self._keys.add(event.ssmb_keys.c2d, event.ssmb_keys.d2c)
                    self._sealer = self._keys.sealer
            elif isinstance(event, HelloReceived):
                self.cs_hello = event.hello
            elif isinstance(event, MessageReceived):
                self.csmb.append(event.message)
                kind = {"Config": 5, "AddVs": 6, "DelVs": 7, "VsList": 8}
                code = kind.get(type(event.message).__name__)
                if code is not None:
                    ack = Ack(0, 0, code, event.serial_global, event.serial_bytype)
                    self.connection.send(ack, rig.now)
        to_cs = self.connection.data_to_send()
        if to_cs:
            self.reconnect_s = rig.cs.connections.stream_received(self.index, to_cs, rig.now)
        return bool(to_dfs or to_cs)

    def take(self, rig: Rig, octets: bytes) -> None:
        """Receive an SSMB datagram."""
        opened = octets if self._keys is None else self._keys.open(octets, rig.now)
        decoded = decode_datagram(opened, self.version)
        assert decoded.malformed is None
        for message in decoded.messages:
            self.ssmb.append(message)
            if isinstance(message, AuthChallenge) and self.answers_challenges:
                nonce = rig.random_octets(32)
                proof = auth_proof(
                    KEY,
                    message.challenge_id,
                    message.auth_data,
                    nonce,
                    dfs_id=self.segment_id,
                    cs_id=1,
                )
                self.send(
                    rig,
                    AuthResponse(
                        challenge_id=message.challenge_id, auth_data=proof, auth_nonce=nonce
                    ),
                )
            elif isinstance(message, Sync) and self.answers_sync:
                for flow in self.flows:
                    if not self.loses(flow):
                        self.send(rig, flow)
                self.send(rig, SyncDone(sync_id=message.sync_id, flow_count=len(self.flows)))

    def sealed(self, message: Message) -> bytes:
        """Return a datagram to the CS."""
        return self.seal(encode(message, self.version))

    def seal(self, octets: bytes) -> bytes:
        """Return octets, whatever they are, as a datagram to the CS."""
        return octets if self._sealer is None else self._sealer.seal(octets)

    def send(self, rig: Rig, message: Message) -> None:
        """Send a message; the CS's answers are not carried yet."""
        rig.cs.receive_datagram(self.sealed(message), self.address, rig.now)

    def tell(self, rig: Rig, message: Message) -> list[Message]:
        """Send a message; return what comes back."""
        before = len(self.ssmb)
        self.send(rig, message)
        rig.settle()
        return self.ssmb[before:]

    def query(
        self,
        rig: Rig,
        *,
        port: int = 40000,
        client: bytes = CLIENT,
        server: bytes = SERVER,
        dst_port: int = 80,
        protocol: int = 6,
        tcp_flags: int = SYN,
        serial: int | None = None,
        flags: int = 0,
        frame: bytes = b"",
    ) -> Reply | None:
        """Ask about a flow; return the REPLY if there is one."""
        if serial is None:
            self.serial += 1
            serial = self.serial
        query = Query(
            flags=flags,
            serial=serial,
            src_ipaddr=client,
            dst_ipaddr=server,
            src_port=port,
            dst_port=dst_port,
            protocol=protocol,
            tcp_flags=tcp_flags if protocol == 6 else 0,
            frame=frame,
        )
        replies = [message for message in self.tell(rig, query) if isinstance(message, Reply)]
        assert len(replies) <= 1
        return replies[0] if replies else None


class Rig:
    """A CS with its DFSs, and the time."""

    def __init__(
        self,
        configuration: ControlSegmentConfig | None = None,
        *dfss: DfsDouble,
        boot_id: int = 1,
        new_keys: Callable[[], KeyRing] = KeyRing,
    ) -> None:
        self.now = 1000.0
        self._random = 0
        self.dfss = list(dfss) or [DfsDouble()]
        configuration = configuration or config()
        self.cs = ControlSegment(
            configuration,
            key=b"" if configuration.laboratory_no_authentication else KEY,
            cs_boot_id=boot_id,
            now=self.now,
            random_octets=self.random_octets,
            new_keys=new_keys,
        )
        for dfs in self.dfss:
            dfs.connect(self)

    @property
    def dfs(self) -> DfsDouble:
        """The first DFS."""
        return self.dfss[0]

    def random_octets(self, count: int) -> bytes:
        """Return other octets each time, the same in each run."""
        self._random += 1
        return self._random.to_bytes(4, "big") * (count // 4)

    def settle(self) -> None:
        """Carry everything until all are quiet."""
        busy = True
        while busy:
            busy = False
            connected = [dfs for dfs in self.dfss if hasattr(dfs, "connection")]
            while sum(dfs.exchange(self) for dfs in connected):  # each one, so not any()
                busy = True
            for octets, address in self.cs.datagrams_to_send():
                busy = True
                for dfs in self.dfss:
                    if dfs.address == address:
                        dfs.take(self, octets)

    def advance(self, seconds: float) -> None:
        """Let time pass; every timer rings when it is due."""
        end = self.now + seconds
        while True:
            timers = [self.cs.get_timer()]
            for dfs in self.dfss:
                timer = self.cs.connections.stream_timer(dfs.index)
                timers += [] if timer is None else [timer]
            due = min(timers)
            if due > end:
                break
            self.now = max(self.now, due)
            self.cs.handle_timer(self.now)
            for dfs in self.dfss:
                ended = self.cs.connections.stream_timer_due(dfs.index, self.now)
                dfs.reconnect_s = ended or dfs.reconnect_s
            self.settle()
        self.now = end

    def active(self) -> dict[str, int]:
        """Return the sessions of each configured node."""
        return {
            name: node.active
            for pool in self.cs.model.pools.values()
            for name, node in pool.nodes.items()
        }
