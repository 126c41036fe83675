# SPDX-License-Identifier: Apache-2.0
"""Forged, replayed, misdirected, truncated and oversized REPLYs to the program that carries REPLYs
out (docs/design/0007): a million in all with `make soak`.  `make test` sends each that differs from
the others, too, and fewer of them again.

Nothing that the program keeps changes, but the counter of those that it had seen; and the next
REPLY of the CS is carried out, so that no window of counters moved.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

import pytest

from data_flow_segment.targets.bpf.target import BpfTarget
from data_flow_segment.targets.contract import AddVirtualServer
from ssmb.codec import encode
from ssmb.constants import PARKED_FRAME_MAX, SEAL_SIZE, Flag
from ssmb.messages import Reply
from ssmb.seal import WINDOW, Sealer
from support.octets import packets
from support.octets.packets import TCP_PROTOCOL
from support.soak import part
from support.targets.asked_cs import CS_PORT, OWN_PORT, AskedCs
from support.targets.program_run import DROPPED, PASSED_ON, SENT, ProgramRun
from support.targets.rig import FAMILIES, FIREWALL_MAC, IPV4, IPV6, TARGET_MAC, Side
from support.targets.scene import Scene
from support.targets.veth_rig import VethRig, opened

pytestmark = [pytest.mark.dataplane, pytest.mark.soak]

EACH: Final = part(112_000, 16)  # of nine kinds
DIFFERENT: Final = 2_000  # of them
LANES: Final = range(4)  # that the program opens
HISTORY: Final = WINDOW + 200  # in lane 1: some are older than its window
MAPS: Final = ("flows", "windows", "controls", "control_groups", "refused", "asleep")
DECISION: Final = 116  # octets of a REPLY before its frame, which has at least its headers
PAYLOAD_MAX: Final = 1472
NOISE: Final = random.Random(3).randbytes(1 << 16)


class Genuine(NamedTuple):
    """What a CS sent, and was carried out."""

    cs: AskedCs
    question: bytes  # the QUERY's payload
    reply: Reply
    payload: bytes


class Hostile(NamedTuple):
    """A frame, and what the program must say to it."""

    octets: bytes
    verdict: int = PASSED_ON


def wrapped(
    cs: AskedCs,
    payload: bytes,
    source: tuple[str, int] | None = None,
    port: int = OWN_PORT,
    missing: int = 0,
) -> bytes:
    """A frame to the DFS, as the CS's or somebody else's; `missing` octets fewer than it says."""
    family = cs.family
    octets = cs.datagram(
        payload,
        source=source or (family.firewall, CS_PORT),
        destination=(family.internal, port),
    )
    return octets[: len(octets) - missing]


class Bench:
    """The program in the middle of its work, with two groups whose CSs have keys of their own."""

    def __init__(self, rig: VethRig) -> None:
        assert isinstance(rig.target, BpfTarget)
        self.target = rig.target
        self.cs = AskedCs(IPV4, 1)
        self.other = AskedCs(IPV6, 2)
        self._rig = rig
        self._ask = ProgramRun(rig.target, "dfs_tc")
        self._open = ProgramRun(rig.target, "dfs_back")
        self._scenes = {
            cs.group_id: Scene(rig, family, TCP_PROTOCOL)
            for cs, family in zip((self.cs, self.other), FAMILIES, strict=True)
        }
        for group_id, scene in self._scenes.items():
            rig.apply(AddVirtualServer(replace(scene.server(), group_id=group_id)))
        rig.apply(self.cs.offload(), self.other.offload())
        self.history = [self.serve(self.cs, number, 1) for number in range(HISTORY)]
        for lane in LANES:
            self.history += [self.serve(self.cs, 5000 + 100 * lane + n, lane) for n in range(60)]
        self.others = [self.serve(self.other, number, 1) for number in range(60)]

    def serve(self, cs: AskedCs, number: int, lane: int) -> Genuine:
        """A client's SYN is asked about, and the CS's REPLY carried out."""
        scene, before = self._scenes[cs.group_id], self.numbers()["installed"]
        client = (scene.family.client, 10_000 + number)
        syn = scene.segment(client, scene.vip, flags="S", seq=number)
        _, frame = scene.inbound(syn)
        assert self._ask.run(frame, self._rig.interface(Side.EXTERNAL)) == SENT
        asked = self._ask.out()
        question = asked[14 + (20 if cs.family.is_ipv4 else 40) + 8 :]
        reply = cs.reply(cs.read(asked), scene.node)
        payload = cs.sealed(reply, lane)
        assert self.run(wrapped(cs, payload)) == SENT
        assert self.numbers()["installed"] == before + 1
        return Genuine(cs, question, reply, payload)

    def run(self, octets: bytes) -> int:
        """What the program says to a frame from the CSs' side."""
        return self._open.run(octets, self._rig.interface(Side.INTERNAL))

    def numbers(self) -> dict[str, int]:
        return {name: each.value for name, each in self.target.counters().items()}

    def kept(self) -> dict[str, dict[bytes, bytes | None]]:
        """All that the program keeps about flows and CSs."""
        maps = {name: getattr(self.target._program, name) for name in MAPS}
        return {
            name: {key: table.lookup(key) for key in table.keys()}  # noqa: SIM118
            for name, table in maps.items()
        }


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with opened("tc") as rig, rig.inside():
        yield Bench(rig)


# --- the kinds -------------------------------------------------------------------------------


def unsealed(genuine: Genuine) -> bytes:
    return genuine.payload[:-SEAL_SIZE]


def forged(bench: Bench, dice: random.Random) -> Hostile:
    """A right message behind a lane and counter to come; the tag is made up, or another key's."""
    genuine = dice.choice(bench.history)
    counter = dice.choice(LANES) << 56 | dice.choice((HISTORY + 1, 1 << 40, (1 << 56) - 1))
    body = unsealed(genuine) + counter.to_bytes(8, "big")
    if dice.random() < 0.5:
        return Hostile(wrapped(genuine.cs, body + dice.randbytes(8)))
    key = dice.choice((bench.other.answering_key, genuine.cs.asking_key, bytes(16)))
    return Hostile(wrapped(genuine.cs, Sealer(key, dice.choice(LANES)).seal(unsealed(genuine))))


def changed(bench: Bench, dice: random.Random) -> Hostile:
    """One bit of a datagram that was carried out, its lane and its counter among them."""
    genuine = dice.choice(bench.history)
    octets = bytearray(genuine.payload)
    place = dice.choice((dice.randrange(len(octets)), len(octets) - 1 - dice.randrange(SEAL_SIZE)))
    octets[place] ^= 1 << dice.randrange(8)
    return Hostile(wrapped(genuine.cs, bytes(octets)))


def replayed(bench: Bench, dice: random.Random) -> Hostile:
    """What was carried out, of either group; also what is older than the window."""
    genuine = dice.choice(dice.choice((bench.history, bench.others)))
    return Hostile(wrapped(genuine.cs, genuine.payload), DROPPED)


def of_other_lanes(bench: Bench, dice: random.Random) -> Hostile:
    """Sealed rightly, in a lane that the agent opens."""
    genuine = dice.choice(bench.history)
    payload = genuine.cs.sealed(genuine.reply, dice.randrange(LANES.stop, 256))
    return Hostile(wrapped(genuine.cs, payload))


def truncated(bench: Bench, dice: random.Random) -> Hostile:
    """Cut before or behind its seal was made, or on its way."""
    genuine = dice.choice(bench.history)
    payload, length = genuine.payload, dice.randrange(len(genuine.payload))
    kind = dice.randrange(4)
    if kind == 0:
        return Hostile(wrapped(genuine.cs, payload[:length]))
    if kind == 1:
        return Hostile(wrapped(genuine.cs, payload[length + 1 :]))
    if kind == 2:
        return Hostile(wrapped(genuine.cs, payload, missing=dice.randint(1, len(payload))))
    length = dice.choice((dice.randrange(DECISION), DECISION + dice.randrange(1, 34)))
    return Hostile(wrapped(genuine.cs, genuine.cs.seal(unsealed(genuine)[:length])))


def oversized(bench: Bench, dice: random.Random) -> Hostile:
    """With more behind it, and with a longer frame than may be parked, sealed rightly."""
    genuine = dice.choice(bench.history)
    start, room = dice.randrange(1 << 15), PAYLOAD_MAX - len(genuine.payload)
    more = NOISE[start : start + dice.randint(1, room)]
    if dice.random() < 0.5:
        return Hostile(wrapped(genuine.cs, genuine.payload + more))
    frame = NOISE[start : start + dice.randint(PARKED_FRAME_MAX + 1, 1300)]
    return Hostile(wrapped(genuine.cs, genuine.cs.seal(unsealed(genuine)[:DECISION] + frame)))


def misdirected(bench: Bench, dice: random.Random) -> Hostile:
    """From or to somewhere else, of the other group, or a QUERY that comes back."""
    genuine, other = dice.choice(bench.history), dice.choice(bench.others)
    fresh = genuine.cs.sealed(genuine.reply)
    kind = dice.randrange(6)
    if kind == 0:
        return Hostile(wrapped(genuine.cs, fresh, source=(IPV4.node, CS_PORT)))
    if kind == 1:
        return Hostile(wrapped(genuine.cs, fresh, source=(IPV4.firewall, dice.randrange(1, 5000))))
    if kind == 2:
        return Hostile(wrapped(genuine.cs, fresh, port=dice.randrange(1, 5000)))
    if kind == 3:
        return Hostile(wrapped(other.cs, dice.choice((fresh, genuine.payload))))
    if kind == 4:
        return Hostile(wrapped(genuine.cs, other.payload))
    return Hostile(wrapped(genuine.cs, genuine.question))


def disguised(bench: Bench, dice: random.Random) -> Hostile:
    """What was carried out, so that the program might leave it to the agent, which never saw it."""
    genuine = dice.choice(dice.choice((bench.history, bench.others)))
    octets = wrapped(genuine.cs, genuine.payload)
    kind = dice.randrange(3)
    if kind == 0:
        pieces = packets.fragments(packets.parsed(octets), dice.choice((64, 128)))
        octets = packets.frame(FIREWALL_MAC, TARGET_MAC[Side.INTERNAL], pieces[0])
    elif kind == 1:
        octets = octets[:12] + bytes.fromhex("81000000") + octets[12:]  # a priority tag
    else:
        octets = dice.choice((b"\xff" * 6, bytes.fromhex("01005e000001"))) + octets[6:]
    return Hostile(octets, DROPPED)


NOT_PLAIN: Final[tuple[dict[str, Any], ...]] = (
    {"error_code": 3},
    {"flags": int(Flag.TRANSLATE_ADDR | Flag.ADDR16)},  # and so without its frame
    {"serial": 0},
    {"serial": 1 << 31},
    {"seq_offset": 1},
    {"ack_offset": 1},
    {"ts_offset": 1},
    {"wscale_shift": 1},
    {"idle_timeout": 0},
    {"protocol": 1},
)


def not_plain(bench: Bench, dice: random.Random) -> Hostile:
    """Sealed rightly, and for the agent: errors, translations of numbers, other types."""
    genuine = dice.choice(bench.history)
    message = bytearray(encode(genuine.reply, version=2))
    number = dice.randrange(len(NOT_PLAIN) + 1)
    if number == len(NOT_PLAIN):
        message[0] = dice.choice([kind for kind in range(256) if kind != 2])
    else:
        changes = NOT_PLAIN[number]
        frame = b"" if "flags" in changes else genuine.reply.frame
        message = bytearray(encode(genuine.reply._replace(frame=frame, **changes), version=2))
    return Hostile(wrapped(genuine.cs, genuine.cs.seal(bytes(message))))


KINDS: Final[dict[str, Callable[[Bench, random.Random], Hostile]]] = {
    each.__name__: each
    for each in (
        forged,
        changed,
        replayed,
        of_other_lanes,
        truncated,
        oversized,
        misdirected,
        disguised,
        not_plain,
    )
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_but_the_counter_of_replays(bench: Bench, kind: str) -> None:
    dice = random.Random(kind)
    made = [KINDS[kind](bench, dice) for _ in range(DIFFERENT)]
    kept, numbers = bench.kept(), bench.numbers()
    replays = 0
    for hostile in (*made, *dice.choices(made, k=EACH - DIFFERENT)):
        assert bench.run(hostile.octets) == hostile.verdict, hostile.octets.hex()
        replays += hostile.verdict == DROPPED
    assert bench.kept() == kept
    assert kept["flows"]
    counted = "drop_malformed" if kind == "disguised" else "reply_replayed"
    after = bench.numbers()
    assert after.pop("packets") - numbers.pop("packets") == replays * (kind == "disguised")
    numbers[counted] += replays
    assert after == numbers
    for lane in LANES:
        bench.serve(bench.cs, 20_000 + 4 * sorted(KINDS).index(kind) + lane, lane)
    bench.serve(bench.other, 20_000 + sorted(KINDS).index(kind), 0)
