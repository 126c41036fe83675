# SPDX-License-Identifier: Apache-2.0
"""ADD_TCP_OFFSETS: a spliced connection's numbers, options and window, both ways (9.6)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.contract import InstallFlow
from ssmb.constants import Flag
from support.octets.packets import TCP_PROTOCOL, hop, tcp
from support.targets.rig import FAMILIES, Family, MemoryRig, Rig, Side
from support.targets.scene import NAT, Scene, assert_packet, only

WORD = 0xFFFFFFFF

SPLICED = {
    "flags": int(NAT | Flag.ADD_TCP_OFFSETS),
    "seq_offset": 1000,
    "ack_offset": (77 - 5_000_000) & WORD,  # the worked example of 9.6
    "ts_offset": 123_456,
}


def shifted(window: int, shift: int) -> int:
    """9.6: left (right if negative), saturating, never to 0 unless it was 0."""
    if window == 0:
        return 0
    moved = window << shift if shift >= 0 else window >> -shift
    return max(1, min(moved, 65535))


def segment(
    scene: Scene, *, back: bool, fields: dict[str, Any], options: list[Any], wanted: bool
) -> ScapyPacket:
    """A segment as it is on the sender's side, or as the receiver must get it."""
    src, dst = (scene.node, scene.client) if back else (scene.client, scene.vip)
    if wanted:
        src, dst = (scene.vip, scene.client) if back else (scene.client, scene.node)
    fields = dict(fields)
    return tcp(src, dst, fields.pop("flags", "A"), b"data", options=options, **fields)


def translated(
    offsets: dict[str, int], *, back: bool, fields: dict[str, Any], options: list[Any]
) -> tuple[dict[str, Any], list[Any]]:
    """9.6, read once more, and without the product's code."""
    seq, ack = offsets.get("seq_offset", 0), offsets.get("ack_offset", 0)
    ts, scale = offsets.get("ts_offset", 0), offsets.get("wscale_shift", 0)
    d_seq, d_ack = (-ack, -seq) if back else (seq, ack)
    changed = dict(fields)
    changed["seq"] = (fields.get("seq", 0) + d_seq) & WORD
    changed["ack"] = (fields.get("ack", 0) + d_ack) & WORD
    if back and "S" not in fields.get("flags", "A"):
        changed["window"] = shifted(fields.get("window", 8192), scale)
    found: list[Any] = []
    for name, value in options:
        if name == "SAck":
            value = tuple((edge + d_ack) & WORD for edge in value)
        elif name == "Timestamp":
            value = (
                (value[0] + (ts if back else 0)) & WORD,
                (value[1] - (0 if back else ts)) & WORD,
            )
        found.append((name, value))
    return changed, found


def check(
    scene: Scene,
    offsets: dict[str, int],
    *,
    back: bool,
    fields: dict[str, Any],
    options: list[Any] | None = None,
) -> None:
    options = options or []
    sent = segment(scene, back=back, fields=fields, options=options, wanted=False)
    new_fields, new_options = translated(offsets, back=back, fields=fields, options=options)
    wanted = segment(scene, back=back, fields=new_fields, options=new_options, wanted=True)
    frame = scene.outbound(sent) if back else scene.inbound(sent)
    side = Side.EXTERNAL if back else Side.INTERNAL
    assert_packet(only(scene.send(frame), side), hop(wanted))


NOP = ("NOP", None)
TIMES = ("Timestamp", (111_111, 222_222))


def sack(blocks: int) -> tuple[str, tuple[int, ...]]:
    return "SAck", tuple(1_000_000 + 3001 * edge for edge in range(2 * blocks))


OPTIONS: dict[str, list[Any]] = {
    "none": [],
    "timestamps aligned": [NOP, NOP, TIMES],
    "timestamps at an even place": [TIMES, NOP, NOP],
    "timestamps at an odd place": [NOP, TIMES, NOP],
    "one SACK block": [NOP, NOP, sack(1)],
    "two SACK blocks": [NOP, NOP, sack(2)],
    "three SACK blocks": [NOP, NOP, sack(3)],
    "four SACK blocks": [NOP, NOP, sack(4)],
    "four SACK blocks at an even place": [sack(4), NOP, NOP],
    "a SACK block at an odd place": [NOP, sack(1), NOP],
    "four SACK blocks at an odd place": [NOP, sack(4), NOP],
    "timestamps and three SACK blocks, as Linux sends": [NOP, NOP, TIMES, NOP, NOP, sack(3)],
    "timestamps and SACK, both at odd places": [NOP, TIMES, sack(2), NOP],
    "SACK before timestamps": [sack(2), NOP, NOP, TIMES],
    "an unknown option between": [NOP, NOP, (253, b"\x12\x34\x05\x0a"), NOP, NOP, TIMES],
}


@pytest.mark.parametrize("back", [False, True], ids=["inbound", "return"])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_translated_wherever_they_stand(
    tcp_scene: Scene, name: str, back: bool
) -> None:
    tcp_scene.rig.apply(InstallFlow(tcp_scene.entry(**SPLICED)))
    fields = {"seq": 3_000_000_000, "ack": 5_000_001, "window": 501}
    check(tcp_scene, SPLICED, back=back, fields=fields, options=OPTIONS[name])


@pytest.mark.parametrize("back", [False, True], ids=["inbound", "return"])
@pytest.mark.parametrize("number", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
def test_numbers_wrap_around(tcp_scene: Scene, number: int, back: bool) -> None:
    offsets = {
        "flags": SPLICED["flags"],
        "seq_offset": 0xFFFFFFF0,
        "ack_offset": 0x10,
        "ts_offset": 0xFFFFFFFF,
    }
    tcp_scene.rig.apply(InstallFlow(tcp_scene.entry(**offsets)))
    options = [NOP, NOP, ("Timestamp", (number, number)), NOP, NOP, ("SAck", (number, number))]
    fields = {"seq": number, "ack": number}
    check(tcp_scene, offsets, back=back, fields=fields, options=options)


@pytest.mark.parametrize("shift", [-14, -7, -1, 0, 1, 7, 14])
@pytest.mark.parametrize("window", [0, 1, 2, 501, 0x8000, 65535])
def test_the_nodes_window_is_shifted_saturates_and_opens(
    tcp_scene: Scene, shift: int, window: int
) -> None:
    offsets = {**SPLICED, "wscale_shift": shift}
    tcp_scene.rig.apply(InstallFlow(tcp_scene.entry(**offsets)))
    fields = {"seq": 99, "ack": 5, "window": window}
    check(tcp_scene, offsets, back=True, fields=fields)
    check(tcp_scene, offsets, back=False, fields=fields)


def test_without_the_flag_nothing_is_added(tcp_scene: Scene) -> None:
    silent = {**SPLICED, "flags": int(NAT), "wscale_shift": 3}
    tcp_scene.rig.apply(InstallFlow(tcp_scene.entry(**silent)))
    fields = {"seq": 5, "ack": 6, "window": 700}
    for back in (False, True):
        options = OPTIONS["timestamps and three SACK blocks, as Linux sends"]
        check(tcp_scene, {}, back=back, fields=fields, options=options)


@pytest.mark.parametrize("back", [False, True], ids=["inbound", "return"])
@pytest.mark.parametrize("flags", ["S", "R"])
def test_what_acknowledges_nothing_keeps_its_empty_fields(
    tcp_scene: Scene, flags: str, back: bool
) -> None:
    """Without ACK neither the acknowledgement nor the echoed timestamp means anything."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry(**SPLICED)))
    seq, ts = 4_000_000_000, SPLICED["ts_offset"]
    added = -SPLICED["ack_offset"] if back else SPLICED["seq_offset"]
    src, dst = (scene.node, scene.client) if back else (scene.client, scene.vip)
    new_src, new_dst = (scene.vip, scene.client) if back else (scene.client, scene.node)
    sent = tcp(src, dst, flags, seq=seq, options=[("Timestamp", (1000, 0)), NOP, NOP])
    times = ("Timestamp", (1000 + (ts if back else 0), 0))
    wanted = tcp(new_src, new_dst, flags, seq=(seq + added) & WORD, options=[times, NOP, NOP])
    out = scene.send(scene.outbound(sent) if back else scene.inbound(sent))
    assert_packet(only(out, Side.EXTERNAL if back else Side.INTERNAL), hop(wanted))


def test_offsets_without_any_translation_of_addresses(tcp_scene: Scene) -> None:
    scene = tcp_scene
    entry = scene.entry(
        **{**SPLICED, "flags": int(Flag.ADD_TCP_OFFSETS)}, next_hop_ipaddr=scene.family.firewall
    )
    scene.rig.apply(InstallFlow(entry))
    octets = only(
        scene.send(scene.inbound(scene.to_vip(b"x", seq=1, ack=5_000_001))), Side.INTERNAL
    )
    assert_packet(octets, hop(scene.to_vip(b"x", seq=1001, ack=78)))


@pytest.mark.parametrize(
    "options",
    [
        b"\x01\x05\x00\x00",  # a length that would never end
        b"\x01\x05\x01\x00",
        b"\x08\x0a\x00\x01",  # timestamps that run past the header
        b"\x05\x22\x00\x01",  # SACK that runs past the header
        b"\x01\x01\x01\x05",  # a kind without its length
        b"\x00\x08\x0a\x00",  # what stands after the end is no option
    ],
)
def test_broken_options_are_left_as_they_are(tcp_scene: Scene, options: bytes) -> None:
    """The receiver judges them; neither target may loop or read past the header."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry(**SPLICED)))

    def build(src: tuple[str, int], dst: tuple[str, int], seq: int, ack: int) -> ScapyPacket:
        packet = tcp(src, dst, "A", options + b"data", seq=seq, ack=ack)
        packet[TCP].dataofs = 6
        return packet

    sent = build(scene.client, scene.vip, 1, 5_000_001)
    octets = only(scene.send(scene.inbound(sent)), Side.INTERNAL)
    assert_packet(octets, hop(build(scene.client, scene.node, 1001, 78)))


@st.composite
def _segments(draw: st.DrawFn) -> dict[str, Any]:
    word = st.integers(0, WORD)
    options = draw(
        st.permutations(
            [NOP] * draw(st.integers(0, 4))
            + [("Timestamp", (draw(word), draw(word)))] * draw(st.integers(0, 1))
            + [("SAck", tuple(draw(st.lists(word, min_size=2, max_size=2))))]
            * draw(st.integers(0, 2))
        )
    )
    return {
        "offsets": {
            "flags": SPLICED["flags"],
            "seq_offset": draw(word),
            "ack_offset": draw(word),
            "ts_offset": draw(word),
            "wscale_shift": draw(st.integers(-14, 14)),
        },
        "fields": {
            "seq": draw(word),
            "ack": draw(word),
            "window": draw(st.integers(0, 65535)),
            "flags": draw(st.sampled_from(["A", "PA", "SA"])),
        },
        "options": options,
        "back": draw(st.booleans()),
    }


def run(rig: Rig, family: Family, chosen: dict[str, Any]) -> None:
    scene = Scene(rig, family, TCP_PROTOCOL)
    rig.apply(InstallFlow(scene.entry(**chosen["offsets"])))
    check(
        scene,
        chosen["offsets"],
        back=chosen["back"],
        fields=chosen["fields"],
        options=chosen["options"],
    )


@given(chosen=_segments(), family=st.sampled_from(FAMILIES))
@settings(max_examples=300)
def test_any_offsets_and_options_in_memory(chosen: dict[str, Any], family: Family) -> None:
    run(MemoryRig(), family, chosen)


def test_a_sample_of_random_offsets_and_options(rig: Rig, family: Family) -> None:
    source = random.Random(97)

    def word() -> int:
        return source.getrandbits(32)

    for _ in range(60):
        options: list[Any] = [NOP] * source.randint(0, 3)
        options += [("Timestamp", (word(), word()))] * source.randint(0, 1)
        options += [("SAck", (word(), word()))] * source.randint(0, 2)
        source.shuffle(options)
        chosen = {
            "offsets": {
                "flags": SPLICED["flags"],
                "seq_offset": word(),
                "ack_offset": word(),
                "ts_offset": word(),
                "wscale_shift": source.randint(-14, 14),
            },
            "fields": {"seq": word(), "ack": word(), "window": source.randint(0, 65535)},
            "options": options,
            "back": source.random() < 0.5,
        }
        run(rig, family, chosen)
