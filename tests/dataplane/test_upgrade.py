# SPDX-License-Identifier: Apache-2.0
"""From one version of the program to another while packets flow: none is lost, none is counted
twice, and what cannot be carried over stays in force as it was."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from data_flow_segment.targets.bpf import BpfOptions, BpfTarget, links
from data_flow_segment.targets.bpf.carry import Facts
from data_flow_segment.targets.bpf.flows import pack, unpack
from data_flow_segment.targets.bpf.interfaces import devices
from data_flow_segment.targets.bpf.layout import FLOW_KEY, META, REQUEST, CloseBit, FlowBit
from data_flow_segment.targets.bpf.pinned import pinned_maps
from data_flow_segment.targets.bpf.places import Places
from data_flow_segment.targets.bpf.program import Program
from data_flow_segment.targets.contract import (
    AddVirtualServer,
    FlowClosed,
    FlowEntry,
    InstallFlow,
    TargetError,
    VirtualServerEntry,
    VirtualServerKey,
)
from packets import checksum
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.messages import FlowSignature
from support.octets.packets import TCP_PROTOCOL
from support.require import require
from support.soak import part
from support.targets.bpf_variants import (
    A_COUNTER,
    A_FIELD,
    A_FIELD_ELSEWHERE,
    A_FIELD_LESS,
    A_FIELD_OF_ANOTHER_SIZE,
    A_FIELD_OF_REQUESTS,
    A_LAST_COUNTER,
    A_REQUEST_OF_ANOTHER_KIND,
    COUNTERS_WITHOUT_NAMES,
    NO_REQUEST_SIZE,
    NO_XDP,
    Edit,
    compile_program,
)
from support.targets.scene import NAT
from support.targets.veth_rig import missing_for_bpf
from support.targets.wire import inside

pytestmark = pytest.mark.dataplane

FLOWS = 48
AT_ONCE = 16
CAPACITY, LARGER = 64, 256
CLIENT_MAC, NODE_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
CLIENTS, NODE, VIP = "192.0.2", "10.1.0.2", "203.0.113.10"
PATIENCE_S = 20


def entry(number: int) -> FlowEntry:
    signature = FlowSignature(
        from_text(f"{CLIENTS}.{number + 10}"), from_text(VIP), 40000, 80, TCP_PROTOCOL, 0
    )
    return FlowEntry(
        signature, 1000 + number, 1, int(NAT), from_text(NODE), UNSPECIFIED, 8080, 0, UNSPECIFIED,
        0, 0, 0, 600, 0, 0, 7,
    )  # fmt: skip


def frame(mac: bytes, source: tuple[str, int], to: tuple[str, int], tcp: bytes) -> bytes:
    header = b"\x45\0" + struct.pack("!HHHBBH", 40, 0, 0, 64, TCP_PROTOCOL, 0)
    header += socket.inet_aton(source[0]) + socket.inet_aton(to[0])
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
    segment = struct.pack("!HH", source[1], to[1]) + tcp
    pseudo = header[12:20] + struct.pack("!HH", TCP_PROTOCOL, len(segment))
    right = checksum.compute(pseudo, segment).to_bytes(2, "big")  # FIN and RST need one
    return mac + bytes(6) + b"\x08\0" + header + segment[:16] + right + segment[18:]


def tcp(flags: int = 0x10, seq: int = 1, ack: int = 1) -> bytes:
    return struct.pack("!IIBBHHH", seq, ack, 0x50, flags, 1024, 0, 0)


@dataclass
class Side:
    """One end of the cables: sends on one, and sees what comes out at the other one."""

    out: socket.socket
    back: socket.socket
    make: Callable[[int, bytes], bytes]
    sent: list[int] = field(default_factory=lambda: [0] * FLOWS)

    def exchange(self, numbers: list[int], segment: bytes) -> None:
        """Every frame comes out at the other side, or this raises TimeoutError."""
        for number in numbers:
            self.out.send(self.make(number, segment))
            self.sent[number] += 1
        missing = len(numbers)
        while missing:
            octets = self.back.recv(2048)
            missing -= octets[12:14] == b"\x08\0" and octets[23] == TCP_PROTOCOL


class Traffic:
    """Packets of all flows in both directions, for as long as the block lasts."""

    def __init__(self, ground: Any) -> None:
        ground.ip("neigh", "replace", NODE, "lladdr", NODE_MAC.hex(":"), "dev", "int0")
        for number in range(FLOWS):
            client = f"{CLIENTS}.{number + 10}"
            ground.ip("neigh", "replace", client, "lladdr", CLIENT_MAC.hex(":"), "dev", "ext0")
        macs = {name: device.mac for name, device in devices().items()}
        with inside(ground.far):
            self._sockets = [_raw("ext0"), _raw("int0"), _raw("int0"), _raw("ext0")]
        client_out, client_back, node_out, node_back = self._sockets
        self.client = Side(client_out, client_back, lambda number, segment: frame(
            macs["ext0"], (f"{CLIENTS}.{number + 10}", 40000), (VIP, 80), segment))  # fmt: skip
        self.node = Side(node_out, node_back, lambda number, segment: frame(
            macs["int0"], (NODE, 8080), (f"{CLIENTS}.{number + 10}", 40000), segment))  # fmt: skip
        self._ended = threading.Event()
        self._lost: list[str] = []
        self._went_on = threading.Condition()
        self._rounds = {"client": 0, "node": 0}

    def __enter__(self) -> Traffic:
        self._ended.clear()
        self._rounds = {"client": 0, "node": 0}
        self._threads = [
            threading.Thread(target=self._run, args=(name, side))
            for name, side in (("client", self.client), ("node", self.node))
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        assert self._lost == []

    def _run(self, name: str, side: Side) -> None:
        start = 0
        while not self._ended.is_set():
            try:
                side.exchange([(start + i) % FLOWS for i in range(AT_ONCE)], tcp())
            except TimeoutError:
                self._lost.append(f"from the {name}'s side, after {sum(side.sent)}")
                return
            start += AT_ONCE
            with self._went_on:
                self._rounds[name] = start // FLOWS
                self._went_on.notify()

    def go_on(self) -> None:
        """Return when every flow has sent more, in both directions."""
        with self._went_on:
            wanted = min(self._rounds.values()) + 3
            assert self._went_on.wait_for(
                lambda: self._lost or min(self._rounds.values()) >= wanted, PATIENCE_S
            )

    def once(self) -> None:
        """A packet of every flow in both directions."""
        for side in (self.client, self.node):
            for start in range(0, FLOWS, AT_ONCE):
                side.exchange(list(range(start, start + AT_ONCE)), tcp())

    def close(self) -> None:
        for made in self._sockets:
            made.close()


def _raw(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    made.bind((interface, 0))
    made.settimeout(PATIENCE_S)
    return made


@pytest.fixture
def traffic(ground: Any) -> Iterator[Traffic]:
    made = Traffic(ground)
    yield made
    made.close()


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles the program with edits; without XDP, to load in half the time."""
    require("dataplane", missing_for_bpf())

    def compiled(*edits: Edit) -> Path:
        return compile_program(tmp_path_factory.mktemp("variant") / "tree", NO_XDP, *edits)

    return compiled


def leave_flows(ground: Any, **options: Any) -> None:
    """An agent of the version before installs flows, and ends."""
    target = ground.open(flow_capacity=CAPACITY, **options)
    target.apply([InstallFlow(entry(number)) for number in range(FLOWS)])
    assert target.events() == []
    ground.close(target, detach=False)


def take_over(
    ground: Any,
    artifact: Path,
    capacity: int = CAPACITY,
    between: Callable[[], None] = lambda: None,
) -> Program:
    """As BpfTarget.open does it, for a program whose entries Python cannot read."""
    options = BpfOptions(("ext0",), ("int0",), ground.pin_path, attach="tc")
    program = Program(artifact, ground.pin_path, capacity)
    places = Places(options, program, lambda _: None)
    places.take(devices())
    between()
    places.attach()
    between()
    program.finish_upgrade()
    places.close(detach=False)
    return program


def entries(ground: Any, program: Program) -> dict[bytes, dict[str, int]]:
    """Every entry by its key; numbers of its members by their names."""
    shape = pinned_maps(ground.pin_path)["flows"].value
    assert shape is not None
    found = {}
    for key in list(program.flows.keys()):
        value = program.flows.lookup(key)
        assert value is not None
        found[key] = {
            member.name: int.from_bytes(
                value[member.offset : member.offset + member.size], "little"
            )
            for member in shape.members
        }
    return found


def assert_carried(ground: Any, program: Program, traffic: Traffic) -> None:
    """Every flow is there with every packet counted once, and no trace of the upgrade."""
    found = entries(ground, program)
    assert len(found) == 2 * FLOWS
    for number in range(FLOWS):
        home_key, home, back_key, back = pack(entry(number), 0)
        for key, value, side in ((home_key, home, traffic.client), (back_key, back, traffic.node)):
            expected = unpack(value)
            assert found[key]["packets"] == side.sent[number]
            assert found[key]["bytes"] == 40 * side.sent[number]
            if not expected.bits & FlowBit.RETURN:  # theirs is where packets come from
                assert found[key]["serial"] == expected.serial
            assert found[key]["idle_timeout_s"] == expected.idle_timeout_s
            assert found[key]["node"] == int.from_bytes(expected.node, "little")
            bits = CloseBit.HAVE_SEQ | CloseBit.HAVE_ACK if side.sent[number] else 0
            assert found[key]["close"] == bits
    assert not (ground.pin_path / "upgrade").exists()


def counted(facts: Facts, program: Program, name: str) -> int:
    raw = program.counters.lookup(facts.counters.index(name).to_bytes(4, "little"))
    assert raw is not None
    return sum(struct.unpack(f"={len(raw) // 8}Q", raw))


CHANGES = {
    "a field": ((A_FIELD,), CAPACITY),
    "a counter": ((A_COUNTER,), CAPACITY),
    "a larger table": ((), LARGER),
    "all at once": ((A_FIELD, A_COUNTER), LARGER),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_an_upgrade_under_traffic_loses_nothing(
    ground: Any, traffic: Traffic, build: Callable[..., Path], kind: str
) -> None:
    edits, capacity = CHANGES[kind]
    leave_flows(ground, artifact=build())
    artifact = build(*edits)
    with traffic:
        program = take_over(ground, artifact, capacity, traffic.go_on)
    traffic.once()
    facts = pinned_maps(ground.pin_path)
    assert program.flow_capacity == capacity == facts["flows"].max_entries // 2
    assert_carried(ground, program, traffic)
    sent = sum(traffic.client.sent) + sum(traffic.node.sent)
    assert counted(facts["counters"], program, "FLOW_PACKETS") == sent
    program.close()


def test_an_upgrade_can_be_taken_back_under_traffic(
    ground: Any, traffic: Traffic, build: Callable[..., Path]
) -> None:
    """A member that the version before does not know is zero everywhere: nothing is lost by it."""
    edits, capacity = CHANGES["all at once"]
    leave_flows(ground, artifact=build())
    take_over(ground, build(*edits), capacity).close()
    with traffic:
        program = take_over(ground, build(), CAPACITY, traffic.go_on)
    traffic.once()
    assert program.flow_capacity == CAPACITY
    assert_carried(ground, program, traffic)
    program.close()


def test_small_maps_are_carried_by_their_members_too(
    ground: Any, traffic: Traffic, build: Callable[..., Path]
) -> None:
    target = ground.open(flow_capacity=CAPACITY)
    keys = [VirtualServerKey(from_text(VIP), port, TCP_PROTOCOL) for port in range(1, 40)]
    servers = [VirtualServerEntry(key, 7, True, False) for key in keys]
    target.apply([InstallFlow(entry(number)) for number in range(FLOWS)])
    target.apply([AddVirtualServer(server) for server in servers])
    boot_id = target.boot_id
    ground.close(target, detach=False)
    with traffic:
        program = take_over(ground, build(*A_FIELD_ELSEWHERE), between=traffic.go_on)
    facts = pinned_maps(ground.pin_path)
    assert {facts["meta"].value_size, facts["fragments"].value_size} == {56, 24}
    shape, meta = facts["virtual_servers"].value, facts["meta"].value
    assert shape is not None
    assert meta is not None
    for key in list(program.virtual_servers.keys()):
        value = program.virtual_servers.lookup(key) or b""
        assert value[shape.at("group_id")] == struct.pack("=H", 7)
        assert value[shape.at("spare")] == bytes(4)
    assert (program.meta.lookup(bytes(4)) or b"")[meta.at("boot_id")] == struct.pack("=Q", boot_id)
    program.close()
    target = ground.open(flow_capacity=CAPACITY)
    assert (target.adopted, target.boot_id, target.flow_count()) == (True, boot_id, FLOWS)
    assert set(target.virtual_servers()) == set(servers)


@pytest.mark.parametrize("edit", [A_FIELD_OF_REQUESTS, A_REQUEST_OF_ANOTHER_KIND])
def test_what_clients_have_said_is_carried_or_forgotten(
    ground: Any, traffic: Traffic, build: Callable[..., Path], edit: Edit
) -> None:
    """Of flows that the program was about to splice: their clients say it again if need be."""
    leave_flows(ground, artifact=build())
    program = Program(build(), ground.pin_path, CAPACITY)
    key = FLOW_KEY.pack(*entry(0).signature.session)
    frame_of_it = bytes(range(256)) * 2
    before = REQUEST.pack(1000, 2000, 3000, 300, 34, 1, frame_of_it)
    program._map("requests").update(key, before)
    program.close()
    with traffic:
        program = take_over(ground, build(edit, NO_REQUEST_SIZE), between=traffic.go_on)
    value = program._map("requests").lookup(key)
    if edit is A_FIELD_OF_REQUESTS:
        assert value == bytes(8) + before
    else:
        assert value is None
    traffic.once()
    program.close()


def test_counters_of_a_program_that_does_not_name_them_are_carried(
    ground: Any, traffic: Traffic, build: Callable[..., Path]
) -> None:
    leave_flows(ground, artifact=build(COUNTERS_WITHOUT_NAMES))
    with traffic:
        program = take_over(ground, build(A_COUNTER), CAPACITY, traffic.go_on)
    facts = pinned_maps(ground.pin_path)["counters"]
    sent = sum(traffic.client.sent) + sum(traffic.node.sent)
    assert counted(facts, program, "FLOW_PACKETS") == sent
    program.close()


def test_the_same_program_uses_the_same_maps(ground: Any, build: Callable[..., Path]) -> None:
    leave_flows(ground, artifact=build())
    program = Program(build(), ground.pin_path, CAPACITY)
    assert not program.is_upgrading
    program.close()


def pins_of(ground: Any) -> dict[Path, int]:
    """What is pinned, and the folders beside it (0)."""
    paths = ground.pin_path.iterdir()
    return {path: 0 if path.is_dir() else pinned_id(path) for path in paths}


def assert_refused(ground: Any, traffic: Traffic, artifact: Path, said: str) -> None:
    """The old program goes on, nothing is left of the attempt, and the version before can run."""
    before = pins_of(ground)
    with traffic, pytest.raises(TargetError) as caught:
        take_over(ground, artifact)
    assert said in str(caught.value)
    assert f"rm -r {ground.pin_path}" in str(caught.value)
    assert pins_of(ground) == before
    traffic.once()
    target = ground.open(flow_capacity=CAPACITY)
    assert target.adopted
    assert target.flow_count() == FLOWS


def pinned_id(path: Path) -> int:
    return path.stat().st_ino


def test_a_member_that_is_in_use_and_unknown_is_refused(
    ground: Any, traffic: Traffic, build: Callable[..., Path]
) -> None:
    target = ground.open(flow_capacity=CAPACITY)
    flows = [entry(number)._replace(ts_offset=number) for number in range(FLOWS)]
    target.apply([InstallFlow(flow) for flow in flows])
    ground.close(target, detach=False)
    assert_refused(ground, traffic, build(*A_FIELD_LESS), "map flows: member ts_offset is in use")


def test_a_member_of_another_type_is_refused(
    ground: Any, traffic: Traffic, build: Callable[..., Path]
) -> None:
    leave_flows(ground)
    said = "map flows: member group_id was __u16, this version has __u32"
    assert_refused(ground, traffic, build(A_FIELD_OF_ANOTHER_SIZE), said)


def test_another_meaning_is_refused(ground: Any, build: Callable[..., Path]) -> None:
    target = ground.open()
    key = bytes(4)
    meta = target._program.meta
    value = meta.lookup(key)
    assert value is not None
    ground.close(target, detach=False)
    program = Program(build(), ground.pin_path, CAPACITY)
    boot_id, layout, *rest = META.unpack(value)
    program.meta.update(key, META.pack(boot_id, layout + 1, *rest))
    program.close()
    with pytest.raises(TargetError, match="they have layout 2, this is 1"):
        ground.open()


def test_a_smaller_table_is_adopted_where_the_flows_fit(ground: Any) -> None:
    leave_flows(ground)
    target = ground.open(flow_capacity=FLOWS)
    assert (target.flow_capacity, target.flow_count()) == (FLOWS, FLOWS)


def test_a_table_stays_as_large_as_its_flows_need(ground: Any) -> None:
    leave_flows(ground)
    target = ground.open(flow_capacity=FLOWS - 1)
    assert (target.flow_capacity, target.flow_count()) == (CAPACITY, FLOWS)


def test_a_table_that_the_kernel_cannot_make_leaves_the_old_program(
    ground: Any, traffic: Traffic
) -> None:
    leave_flows(ground)
    with traffic, pytest.raises(TargetError, match="the kernel refuses the program"):
        ground.open(flow_capacity=2**30)
    traffic.once()
    assert not (ground.pin_path / "upgrade").exists()
    assert ground.open(flow_capacity=CAPACITY).flow_count() == FLOWS


@pytest.mark.parametrize("place", ["tcx", "clsact"])
def test_an_error_after_the_switch_is_made_up_for_by_the_next_start(
    ground: Any,
    traffic: Traffic,
    build: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    if place == "clsact":
        monkeypatch.setattr(links, "ATTACH_TCX_INGRESS", 4711)  # a kernel before 6.6
    leave_flows(ground, artifact=build())

    def fail(_: Program) -> None:
        raise TargetError("no more")

    with monkeypatch.context() as patch, traffic:
        patch.setattr(Program, "finish_upgrade", fail)
        traffic.go_on()
        with pytest.raises(TargetError, match="no more"):
            ground.open(artifact=build(), flow_capacity=LARGER)
        traffic.go_on()
    assert (ground.pin_path / "upgrade").exists()
    target = ground.open(artifact=build(), flow_capacity=LARGER)
    assert ground.programs_on("ext0") == [place]
    assert (target.flow_count(), target.flow_capacity) == (FLOWS, LARGER)
    traffic.once()
    assert_carried(ground, target._program, traffic)


FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


def phases(monkeypatch: pytest.MonkeyPatch, ground: Any, do: Callable[[int], None]) -> BpfTarget:
    """Upgrade to a larger table, and `do` 0 after the copy, 1 after the switch and 2 after
    the end."""
    attach, finish = Places.attach, Program.finish_upgrade

    def attached(self: Places) -> None:
        do(0)
        attach(self)

    def finished(self: Program) -> None:
        do(1)
        finish(self)
        do(2)

    monkeypatch.setattr(Places, "attach", attached)
    monkeypatch.setattr(Program, "finish_upgrade", finished)
    target: BpfTarget = ground.open(flow_capacity=LARGER)
    return target


def test_a_close_is_complete_however_the_programs_share_it(
    ground: Any, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps and two moments between them: every way to place them, each with a flow of its
    own; then a RST at each time."""
    leave_flows(ground)
    traffic.once()
    close = [
        (traffic.client, tcp(FIN | ACK, seq=1, ack=1)),
        (traffic.node, tcp(ACK, seq=1, ack=2)),
        (traffic.node, tcp(FIN | ACK, seq=1, ack=2)),
        (traffic.client, tcp(ACK, seq=2, ack=2)),
    ]
    stories = [
        (close[:first], close[first:second], close[second:])
        for first in range(5) for second in range(first, 5)
    ]  # fmt: skip
    reset = [(traffic.node, tcp(RST | ACK, seq=1, ack=1))]
    stories += [(reset, [], []), ([], reset, []), ([], [], reset)]

    def do(phase: int) -> None:
        for number, story in enumerate(stories):
            for side, segment in story[phase]:
                side.exchange([number], segment)

    target = phases(monkeypatch, ground, do)
    assert closed_serials(target) == [1000 + number for number in range(len(stories))]
    assert target.flow_count() == FLOWS


@pytest.mark.parametrize("phase", range(3))
def test_a_connection_that_begins_on_a_half_closed_flow_is_no_closing_one(
    ground: Any, traffic: Traffic, monkeypatch: pytest.MonkeyPatch, phase: int
) -> None:
    leave_flows(ground)
    traffic.client.exchange([0], tcp(FIN | ACK, seq=1, ack=1))

    def do(now: int) -> None:
        if now == phase:
            traffic.client.exchange([0], tcp(SYN, seq=5000))
            traffic.node.exchange([0], tcp(SYN | ACK, seq=9000, ack=5001))
            traffic.client.exchange([0], tcp(ACK, seq=5001, ack=9001))

    target = phases(monkeypatch, ground, do)
    state = target.lookup(entry(0).signature)
    assert state is not None
    assert not state.closing
    home = unpack(target.flows.table.lookup(pack(entry(0), 0)[0]) or b"")
    assert (home.next_seq, home.ack) == (5001, 9001)


def closed_serials(target: BpfTarget) -> list[int]:
    while not target.sweep(16, stats=False):
        pass
    events = target.events()
    return sorted(event.state.entry.serial for event in events if isinstance(event, FlowClosed))


def run_dying_agent(ground: Any, deadly: int, artifact: Path, capacity: int) -> list[str] | None:
    """The changes that it made; None if it died."""
    done = subprocess.run(
        [sys.executable, "-P", "tests/support/targets/dying_agent.py", str(deadly),
         str(ground.pin_path), str(artifact), str(capacity)],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.split() if done.returncode == 0 else None


def moments(changes: list[str]) -> list[int]:
    """Before the first and the last change of each kind."""
    kinds = set(changes)
    last = {name: number for number, name in enumerate(changes, 1)}
    return sorted({changes.index(kind) + 1 for kind in kinds} | set(last.values()))


@pytest.mark.soak
def test_an_agent_may_be_killed_at_any_moment_of_an_upgrade(
    ground: Any, traffic: Traffic, build: Callable[..., Path]
) -> None:
    """Packets flow in between, the next agent ends what was begun, and each packet was counted
    once.  The versions change places each time, so that there is an upgrade each time.  The short
    form takes other moments in each run, by its seed."""
    versions = [(build(), CAPACITY), (build(A_LAST_COUNTER), LARGER)]
    leave_flows(ground)
    changes = run_dying_agent(ground, 0, *versions[1])
    assert changes is not None
    assert {"bpf_map_update_batch", "bpf_link_update", "bpf_prog_test_run_opts"} <= set(changes)
    all_moments = moments(changes)
    chosen = random.sample(all_moments, part(len(all_moments), 2))
    for turn, moment in enumerate(chosen):
        artifact, capacity = versions[turn % 2]
        run_dying_agent(ground, moment, artifact, capacity)
        traffic.once()  # by both programs, if it died between two links
        target = ground.open(artifact=artifact, flow_capacity=capacity)
        assert (target.adopted, target.flow_count()) == (True, FLOWS), moment
        assert target.flow_capacity == capacity, moment
        traffic.once()
        assert_carried(ground, target._program, traffic)
        packets = target.counters()["flow_packets"].value
        assert packets == sum(traffic.client.sent) + sum(traffic.node.sent), moment
        ground.close(target, detach=False)


def test_an_upgrade_that_another_version_began_is_left_to_it(
    ground: Any, traffic: Traffic, build: Callable[..., Path]
) -> None:
    """After the switch its maps are the ones in use; a third version cannot know them."""
    leave_flows(ground)
    larger = build(A_LAST_COUNTER)
    changes = run_dying_agent(ground, 0, larger, LARGER)
    assert changes is not None
    ground.close(ground.open(flow_capacity=CAPACITY), detach=False)
    first_merge = changes.index("bpf_prog_test_run_opts") + 1
    assert run_dying_agent(ground, first_merge, larger, LARGER) is None
    with pytest.raises(TargetError, match="start that version once, then this one"):
        ground.open(artifact=build(A_COUNTER), flow_capacity=CAPACITY)
    traffic.once()
    target = ground.open(artifact=larger, flow_capacity=LARGER)
    assert target.flow_count() == FLOWS
