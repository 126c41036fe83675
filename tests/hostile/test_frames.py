# SPDX-License-Identifier: Apache-2.0
"""Mutated frames through the compiled program, by BPF_PROG_TEST_RUN: each has exactly one outcome,
and no flow's entry changes but by packets of that flow, and then only what was seen of it."""

from __future__ import annotations

import ctypes
import errno
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest

from data_flow_segment.targets.contract import AddVirtualServer, FlowEntry, InstallFlow
from packets.parse import Kind, MalformedPacket, parse
from support.octets.packets import (
    TCP_PROTOCOL,
    UDP_PROTOCOL,
    arp_request,
    fragments,
    hop,
    solicitation,
    unreachable,
    with_destination_options,
)
from support.require import require
from support.soak import part
from support.targets.rig import CLIENT_MAC, FAMILIES, Frame, Rig, Side
from support.targets.scene import Scene, is_drop
from support.targets.veth_rig import VethRig, missing_for_bpf, open_bpf

if TYPE_CHECKING:
    from data_flow_segment.targets.bpf.target import BpfTarget

pytestmark = [pytest.mark.dataplane, pytest.mark.soak]

FRAMES: Final = part(200_000, 10)
AT_ONCE: Final = 64  # then events are taken, as an agent would
SHORTEST: Final = 15  # that the kernel runs a program on
WITH_IP_HEADER: Final = 14 + 40
MAX: Final = 1514
# to the next program (TC_ACT_UNSPEC) or pass, drop, send; never ABORTED
VERDICTS: Final = {"tc": {0xFFFFFFFF, 2, 7}, "xdp": {1, 2, 3, 4}}
# struct flow: what the program learns (layout.FLOW_SEEN), and its way out, which it looks up
DECIDED_END, SEEN_END, DECISION_END = 60, 132, 208
BITS, FLOW_RETURN = 40, 1


class Program:
    """One attachment's program, run on frames that no network carries."""

    def __init__(self, kind: str, rig: Rig) -> None:
        from data_flow_segment.targets.bpf.libbpf import TestRunOptions, library

        self.target: BpfTarget = rig.target  # type: ignore[assignment]
        self._kind, self._rig = kind, rig
        self._fd = self.target.program_fd(f"dfs_{kind}")
        self._run = library().bpf_prog_test_run_opts
        self._frame = ctypes.create_string_buffer(MAX + 1)
        self._context = ctypes.create_string_buffer(192 if kind == "tc" else 24)
        self._options = TestRunOptions(
            sz=ctypes.sizeof(TestRunOptions),
            data_in=ctypes.addressof(self._frame),
            ctx_in=ctypes.addressof(self._context),
            ctx_size_in=len(self._context.raw),
            repeat=1,
        )

    def run(self, frame: Frame) -> int | None:
        """What the program says to a frame; None where the kernel would not show it a frame that
        has no whole IP header (on the way through a cable it would)."""
        side, octets = frame
        options, number = self._options, self._rig.interface(side).to_bytes(4, "little")
        if self._kind == "tc":
            context = bytes(40) + number  # __sk_buff: what is before ifindex may stay zero
        else:  # xdp_md: data, data_end, data_meta, ingress_ifindex
            context = bytes(4) + len(octets).to_bytes(4, "little") + bytes(4) + number
        ctypes.memmove(self._frame, octets, len(octets))
        ctypes.memmove(self._context, context, len(context))
        options.data_size_in = len(octets)
        options.data_size_out = options.ctx_size_out = 0  # the last run wrote them
        failed = self._run(self._fd, ctypes.byref(self._options))
        if failed == -errno.EINVAL and self._kind == "tc" and len(octets) < WITH_IP_HEADER:
            return None
        assert failed == 0, f"{failed} for {octets.hex()}"
        return int(self._options.retval)

    def entries(self, flows: list[FlowEntry]) -> dict[bytes, bytes]:
        """Both directions of each flow, as the kernel has them."""
        from data_flow_segment.targets.bpf.flows import pack

        found = {}
        for entry in flows:
            home, _, back, _ = pack(entry, 0)
            for key in (home, back):
                value = self.target._program.flows.lookup(key)
                assert value is not None, "an entry is gone"
                found[key] = value
        return found


@pytest.fixture(scope="module", params=VERDICTS)
def running(request: pytest.FixtureRequest) -> Iterator[tuple[str, Rig, Program]]:
    require("dataplane", missing_for_bpf())
    rig = VethRig(f"bpf-{request.param}", open_bpf(request.param))
    try:
        with rig.inside():
            yield request.param, rig, Program(request.param, rig)
    finally:
        rig.close()


def scenes(rig: Rig) -> list[Scene]:
    return [Scene(rig, family, p) for family in FAMILIES for p in (TCP_PROTOCOL, UDP_PROTOCOL)]


def samples(scene: Scene) -> list[Frame]:
    """A frame of each kind that the program looks into."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2)), ("SAck", (3, 4))]
    fields: dict[str, Any] = {"options": options} if scene.protocol == TCP_PROTOCOL else {}
    rich = scene.segment(scene.client, scene.vip, b"payload", **fields)
    answer = scene.segment(scene.node, scene.client, b"payload")
    quoted = bytes(hop(scene.segment(scene.client, scene.node, b"payload")))
    error = unreachable(scene.family.node, scene.family.client, quoted, "port")
    new = scene.segment((scene.family.client, 40001), scene.vip)
    frames = [
        scene.inbound(rich),
        scene.outbound(answer),
        scene.outbound(error),
        scene.inbound(rich, vlan=7),
        scene.inbound(new),
        *map(scene.inbound, fragments(scene.to_vip(bytes(100)), 64)),
    ]
    if scene.family.is_ipv4:
        asked = arp_request(CLIENT_MAC, scene.family.client, scene.family.vip)
        return [*frames, (Side.EXTERNAL, asked)]
    asked6 = solicitation(CLIENT_MAC, scene.family.client, scene.family.vip)
    return [
        *frames,
        (Side.EXTERNAL, bytes(asked6)),
        scene.inbound(with_destination_options(rich)),
    ]


def mutated(known: list[Frame], count: int) -> Iterator[Frame]:
    """Cut, changed, lengthened, noise behind a good head; now and then as it was."""
    dice = random.Random(21)
    noise = dice.randbytes(1 << 16)
    for _ in range(count):
        side, octets = known[dice.randrange(len(known))]
        kind = dice.randrange(16)
        if kind < 4:
            yield side, octets[: dice.randrange(SHORTEST, len(octets) + 1)]
        elif kind < 13:
            damaged = bytearray(octets)
            for _ in range(1 + dice.randrange(3)):
                # what decides is in front: lengths, protocols, fragments, ports
                end = len(damaged) if kind < 6 else min(len(damaged), 80)
                damaged[dice.randrange(12, end)] = dice.getrandbits(8)
            yield (side if kind != 12 else dice.choice(list(Side))), bytes(damaged)
        elif kind == 13:
            start = dice.randrange(1 << 15)
            yield side, (octets + noise[start : start + dice.randrange(1400)])[:MAX]
        elif kind == 14:
            head, start = dice.randrange(SHORTEST, 60), dice.randrange(1 << 15)
            yield side, octets[:head] + noise[start : start + dice.randrange(200)]
        else:
            yield side, octets


def may_be_of_a_flow(octets: bytes, sessions: set[tuple[Any, ...]]) -> bool:
    """Whether a frame may be a packet of one of these flows, or an error about one."""
    try:
        packet = parse(octets)
    except MalformedPacket:
        return False
    if packet.kind is Kind.ICMP:
        return True
    if packet.kind is not Kind.TRANSPORT:
        return False
    ends = (packet.src, packet.dst)
    if packet.later_fragment:
        return any(session[:2] == ends for session in sessions)
    return (*ends, *packet.ports, packet.protocol) in sessions


def outcomes(counters: Mapping[str, int]) -> int:
    """Frames that the program counted in some way; `packets` is made of these."""
    own = {"packets", "transmitted", "drop_transmit", "drop_inject_failed", "install_failed"}
    others = {*own, "event_lost", "interface_gone", "interface_came_back"}
    others |= {"interfaces_without_room", "addresses_without_room"}
    return sum(value for name, value in counters.items() if name not in others)


def decided(entries: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The parts of entries that are a decision."""
    return {
        key: value[:DECIDED_END] + value[rest_of(value) : DECISION_END]
        for key, value in entries.items()
    }


def rest_of(value: bytes) -> int:
    """Where the decision goes on; a return entry has none, and keeps a SYN of the client there."""
    return SEEN_END + 16 if value[BITS] & FLOW_RETURN else SEEN_END


def test_a_mutated_frame_has_one_outcome_and_touches_no_other_flow(
    running: tuple[str, Rig, Program],
) -> None:
    kind, rig, program = running
    everything = scenes(rig)
    flows = [scene.entry() for scene in everything]
    rig.apply(*[AddVirtualServer(scene.server()) for scene in everything])
    rig.apply(*[InstallFlow(entry) for entry in flows])
    known = [frame for scene in everything for frame in samples(scene)]
    sessions: set[tuple[Any, ...]] = set()
    for entry in flows:
        src, dst, sport, dport, protocol, _ = entry.signature
        sessions.add((src, dst, sport, dport, protocol))
        sessions.add((entry.node_ipaddr, src, entry.node_port, sport, protocol))
    strangers: list[Frame] = []
    members: list[Frame] = []
    for frame in mutated(known, FRAMES):
        (members if may_be_of_a_flow(frame[1], sessions) else strangers).append(frame)
    assert len(strangers) > FRAMES // 4
    assert len(members) > FRAMES // 20

    before, counters = program.entries(flows), everything[0].values()
    verdicts = run_all(program, strangers)
    assert program.entries(flows) == before
    verdicts += run_all(program, members)
    assert decided(program.entries(flows)) == decided(before)
    assert set(verdicts) <= VERDICTS[kind]
    assert verdicts.total() > FRAMES * 0.9

    after = everything[0].values()
    assert outcomes(after) - outcomes(counters) == verdicts.total()
    assert all(after[name] >= counters[name] for name in counters)
    rose = {name for name in after if is_drop(name) and after[name] > counters[name]}
    assert {"drop_malformed", "drop_checksum", "drop_ttl"} <= rose
    assert after["flow_packets"] > counters["flow_packets"]


def run_all(program: Program, frames: list[Frame]) -> Counter[int]:
    """How often the program said what."""
    verdicts: Counter[int] = Counter()
    for number, frame in enumerate(frames):
        verdict = program.run(frame)
        if verdict is not None:
            verdicts[verdict] += 1
        if number % AT_ONCE == 0:
            while program.target.events():
                pass
    return verdicts
