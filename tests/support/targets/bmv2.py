# SPDX-License-Identifier: Apache-2.0
"""BMv2 between two cables, and a small P4Runtime client for tests of the P4 program itself.

      clients' end  far ==== ext0 (port 1)  [simple_switch_grpc]  int0 (port 2) ==== far  nodes' end

The switch lives in a namespace without addresses: whatever comes out of it is its own.  gRPC goes
over a Unix socket, which namespaces do not divide.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from data_flow_segment.targets.p4runtime.constants import PORT_AGENT
from splitplane.lab.switch import SWITCH, listens, switch_command
from support.targets.rig import TARGET_MAC, Side
from support.targets.veth_rig import FAR, INTERFACE, missing_for_veth, run
from support.targets.wire import Wire, inside

PROGRAM: Final = Path(__file__).parents[3] / "p4"
PORT: Final = {Side.EXTERNAL: 1, Side.INTERNAL: 2}
DEVICE_ID: Final = 1
START_S: Final = 20.0

_serials = itertools.count(1)


def missing_for_bmv2() -> str | None:
    """Why BMv2 cannot be run here, None if it can."""
    if shutil.which(SWITCH) is None:
        return f"{SWITCH} is not on the PATH (p4lang's package p4lang-bmv2 has it)"
    try:
        importlib.import_module("finsy.proto")
    except ImportError:
        return "the Python package finsy is needed (P4Runtime's messages)"
    return missing_for_veth()


class Cables:
    """Three namespaces; the switch's interfaces have no addresses and say nothing themselves."""

    def __init__(self) -> None:
        name = f"bmv{os.getpid()}-{next(_serials)}"
        self.switch = f"{name}-s"
        self.ends = {Side.EXTERNAL: f"{name}-c", Side.INTERNAL: f"{name}-n"}
        try:
            for namespace in (self.switch, *self.ends.values()):
                run("ip", "netns", "add", namespace)
                silent = "net.ipv6.conf.default.disable_ipv6=1"
                run("ip", "netns", "exec", namespace, "sysctl", "-qw", silent)
            for side, end in self.ends.items():
                self._connect(side, end)
            self.wires = {side: self._wire(side) for side in Side}
        except BaseException:
            self.close()
            raise

    def _connect(self, side: Side, end: str) -> None:
        name = INTERFACE[side]
        peer = ("peer", "name", FAR, "netns", end)
        run("ip", "-n", self.switch, "link", "add", name, "type", "veth", *peer)
        for namespace, interface in ((self.switch, name), (end, FAR)):
            run(
                "ip", "-n", namespace, "link", "set", interface, "arp", "off", "promisc", "on", "up"
            )
            off = ("tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
            run("ip", "netns", "exec", namespace, "ethtool", "-K", interface, *off)

    def _wire(self, side: Side) -> Wire:
        with inside(self.ends[side]):
            return Wire(FAR)

    def close(self) -> None:
        for wire in getattr(self, "wires", {}).values():
            wire.close()
        for namespace in (self.switch, *self.ends.values()):
            with contextlib.suppress(RuntimeError):
                run("ip", "netns", "delete", namespace)


@contextlib.contextmanager
def running_switch(cables: Cables, at: Path | None = None, **differently: Any) -> Iterator[str]:
    """simple_switch_grpc without a program; its gRPC address (a socket in the folder `at`).

    `differently`: of what `switch_command` takes.
    """
    with contextlib.ExitStack() as stack:
        folder = at or stack.enter_context(tempfile.TemporaryDirectory(prefix="p4-"))
        grpc = Path(folder, "grpc")
        links = {PORT[side]: INTERFACE[side] for side in Side}
        switch_words = switch_command(links, DEVICE_ID, grpc, **differently)
        command = ["ip", "netns", "exec", cables.switch, *switch_words]
        with Path(folder, "log").open("wb") as log:
            switch = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                _await_socket(grpc, switch)
                yield f"unix:{grpc}"
            finally:
                switch.terminate()
                switch.wait(10)


def _await_socket(path: Path, switch: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and switch.poll() is None:
        if listens(path):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{SWITCH} does not listen (exit {switch.poll()})")


def value_octets(value: int | bytes) -> bytes:
    """P4Runtime's canonical form: big endian, no leading zeros, never empty."""
    octets = value if isinstance(value, bytes) else value.to_bytes(16, "big")
    return octets.lstrip(b"\0") or b"\0"


class PacketUp(NamedTuple):
    """A packet-in: the header's fields by name, and what follows it."""

    fields: Mapping[str, int]
    octets: bytes


class P4Client:
    """The primary controller of one switch, for one test at a time."""

    def __init__(self, address: str, program: Path = PROGRAM, name: str = "dfs") -> None:
        grpc: Any = importlib.import_module("grpc")
        proto: Any = importlib.import_module("finsy.proto")
        text: Any = importlib.import_module("google.protobuf.text_format")
        self._p4r = proto.p4r
        self.info = proto.p4i.P4Info()
        text.Parse((program / f"{name}.p4info.txtpb").read_text(), self.info)
        self._json = (program / f"{name}.json").read_bytes()
        self._channel = grpc.insecure_channel(address)
        self._stub = proto.p4r_grpc.P4RuntimeStub(self._channel)
        self._requests: queue.Queue[Any] = queue.Queue()
        self._packets: queue.Queue[PacketUp] = queue.Queue()
        self.notifications: queue.Queue[Any] = queue.Queue()
        self._arbitrated = threading.Event()
        self._tables = {self._last(t.preamble.name): t for t in self.info.tables}
        self._actions = {self._last(a.preamble.name): a for a in self.info.actions}
        self._headers = {h.preamble.name: h for h in self.info.controller_packet_metadata}
        self._stream = self._stub.StreamChannel(iter(self._requests.get, None))
        threading.Thread(target=self._listen, daemon=True).start()
        self._arbitrate()

    @staticmethod
    def _last(name: str) -> str:
        return name.rpartition(".")[2]

    # --- session -------------------------------------------------------------------------------

    def _arbitrate(self) -> None:
        update = self._p4r.MasterArbitrationUpdate(
            device_id=DEVICE_ID, election_id=self._p4r.Uint128(low=1)
        )
        self._requests.put(self._p4r.StreamMessageRequest(arbitration=update))
        if not self._arbitrated.wait(10):
            raise RuntimeError("the switch does not answer the arbitration")

    def _listen(self) -> None:
        with contextlib.suppress(Exception):  # the stream ends with the channel
            for message in self._stream:
                self._take(message)

    def _take(self, message: Any) -> None:
        kind = message.WhichOneof("update")
        if kind == "arbitration":
            self._arbitrated.set()
        elif kind == "packet":
            names = {m.id: m.name for m in self._headers["packet_in"].metadata}
            fields = {
                names[m.metadata_id]: int.from_bytes(m.value, "big")
                for m in message.packet.metadata
            }
            self._packets.put(PacketUp(fields, message.packet.payload))
        else:
            self.notifications.put(message)

    def push(self) -> None:
        """Make the program the switch's own, and lead copies to the agent's port."""
        config = self._p4r.ForwardingPipelineConfig(p4info=self.info, p4_device_config=self._json)
        self._stub.SetForwardingPipelineConfig(
            self._p4r.SetForwardingPipelineConfigRequest(
                device_id=DEVICE_ID,
                election_id=self._p4r.Uint128(low=1),
                action=self._p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT,
                config=config,
            )
        )
        session = self._p4r.CloneSessionEntry(session_id=1, packet_length_bytes=0)
        session.replicas.add(egress_port=PORT_AGENT, instance=1)
        engine = self._p4r.PacketReplicationEngineEntry(clone_session_entry=session)
        self.write("INSERT", self._p4r.Entity(packet_replication_engine_entry=engine))

    def close(self) -> None:
        self._requests.put(None)
        self._channel.close()

    # --- tables --------------------------------------------------------------------------------

    def write(self, kind: str, *entities: Any) -> None:
        """INSERT, MODIFY or DELETE, as one batch."""
        request = self._p4r.WriteRequest(device_id=DEVICE_ID, election_id=self._p4r.Uint128(low=1))
        for entity in entities:
            request.updates.add(type=self._p4r.Update.Type.Value(kind), entity=entity)
        self._stub.Write(request)

    def entry(
        self,
        table: str,
        match: Mapping[str, Any],
        action: str | None = None,
        priority: int = 0,
        idle_timeout_ns: int = 0,
        **parameters: int | bytes,
    ) -> Any:
        """A table entry by names.  match: exact value, (value, prefix length), (value, mask)."""
        info = self._tables[table]
        entry = self._p4r.TableEntry(
            table_id=info.preamble.id, priority=priority, idle_timeout_ns=idle_timeout_ns
        )
        for field in info.match_fields:
            wanted = match.get(field.name)
            if wanted is not None and wanted != (bytes(16), 0):  # 0 bits of a prefix: left out
                self._add_match(entry, field, wanted)
        if action is not None:
            known = self._actions[action]
            entry.action.action.action_id = known.preamble.id
            for parameter in known.params:
                value = value_octets(parameters[parameter.name])
                entry.action.action.params.add(param_id=parameter.id, value=value)
        return self._p4r.Entity(table_entry=entry)

    @staticmethod
    def _add_match(entry: Any, field: Any, value: Any) -> None:
        match = entry.match.add(field_id=field.id)
        kind = field.MatchType.Name(field.match_type)
        if kind == "EXACT":
            match.exact.value = value_octets(value)
        elif kind == "LPM":
            match.lpm.value, match.lpm.prefix_len = value_octets(value[0]), value[1]
        else:
            match.ternary.value, match.ternary.mask = map(value_octets, value)

    def insert(self, *arguments: Any, **more: Any) -> None:
        self.write("INSERT", self.entry(*arguments, **more))

    def read(self, entity: Any) -> list[Any]:
        request = self._p4r.ReadRequest(device_id=DEVICE_ID, entities=[entity])
        return [found for reply in self._stub.Read(request) for found in reply.entities]

    def read_table(self, table: str) -> list[Any]:
        """Every entry, with its direct counter and the time since it was last hit."""
        entry = self._p4r.TableEntry(table_id=self._tables[table].preamble.id)
        entry.counter_data.SetInParent()
        if self._tables[table].idle_timeout_behavior:
            entry.time_since_last_hit.SetInParent()
        return [found.table_entry for found in self.read(self._p4r.Entity(table_entry=entry))]

    def clear(self, table: str) -> None:
        """Take every entry out."""
        for entry in self.read_table(table):
            for unwanted in ("action", "counter_data", "time_since_last_hit", "idle_timeout_ns"):
                entry.ClearField(unwanted)
            self.write("DELETE", self._p4r.Entity(table_entry=entry))

    def outcomes(self) -> list[int]:
        """The indirect counter, by number."""
        (counter,) = self.info.counters
        entry = self._p4r.CounterEntry(counter_id=counter.preamble.id)
        found = self.read(self._p4r.Entity(counter_entry=entry))
        values = {e.counter_entry.index.index: e.counter_entry.data.packet_count for e in found}
        return [values[index] for index in range(counter.size)]

    # --- packets -------------------------------------------------------------------------------

    def packet_out(self, octets: bytes, **fields: int) -> None:
        packet = self._p4r.PacketOut(payload=octets)
        for field in self._headers["packet_out"].metadata:
            value = value_octets(fields.get(field.name, 0))
            packet.metadata.add(metadata_id=field.id, value=value)
        self._requests.put(self._p4r.StreamMessageRequest(packet=packet))

    def packet_in(self, wait_s: float = 2.0) -> PacketUp | None:
        """The next packet that came up, None if there is none within the time."""
        with contextlib.suppress(queue.Empty):
            return self._packets.get(timeout=wait_s) if wait_s else self._packets.get_nowait()
        return None


def install_network(client: P4Client, own: Mapping[Side, list[bytes]]) -> None:
    """The interfaces and the switch's own addresses."""
    for side, addresses in own.items():
        client.insert(
            "interfaces",
            {"port": PORT[side]},
            "set_interface",
            mac=bytes.fromhex(TARGET_MAC[side].replace(":", "")),
            external=int(side is Side.EXTERNAL),
            internal=int(side is Side.INTERNAL),
            outbound_query=0,
        )
        for address in addresses:
            client.insert("local_addresses", {"address": address}, "own")
