# SPDX-License-Identifier: Apache-2.0
"""Questions as other stations read them, and whose answers are believed."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from data_flow_segment.targets.p4runtime.neighbour_frames import Announced, announced, question
from data_flow_segment.targets.p4runtime.routes import Routes, link_local
from ssmb.addresses import from_text, to_text
from support.targets.neighbours_rig import OPTIONS, advertisement, arp_reply, interface, mac_octets

OURS, THEIRS = "02:5b:00:00:00:01", "02:00:00:00:00:99"
OUR_MAC, THEIR_MAC = mac_octets(OURS), mac_octets(THEIRS)
V4, V6 = "10.1.1.99", "2001:db8:1::12:3456"


@pytest.mark.parametrize("known", [None, THEIR_MAC])
def test_arp_asks_all_or_the_one_it_knows(known: bytes | None) -> None:
    frame = Ether(question(from_text(V4), OUR_MAC, from_text("10.1.1.1"), known))
    assert (frame.dst, frame.src) == (THEIRS if known else "ff:ff:ff:ff:ff:ff", OURS)
    asked = frame[ARP]
    assert (asked.hwtype, asked.ptype, asked.hwlen, asked.plen, asked.op) == (1, 0x800, 6, 4, 1)
    assert (asked.hwsrc, asked.psrc, asked.pdst) == (OURS, "10.1.1.1", V4)


def test_a_solicitation_asks_its_group() -> None:
    octets = question(from_text(V6), OUR_MAC, from_text("2001:db8:1::1"), None)
    frame = Ether(octets)
    assert (frame.dst, frame.src) == ("33:33:ff:12:34:56", OURS)
    assert (frame[IPv6].src, frame[IPv6].dst) == ("2001:db8:1::1", "ff02::1:ff12:3456")
    assert frame[IPv6].hlim == 255
    assert frame[ICMPv6ND_NS].tgt == V6
    assert frame[ICMPv6NDOptSrcLLAddr].lladdr == OURS
    _is_right(octets)


def test_a_solicitation_asks_the_one_it_knows() -> None:
    octets = question(from_text(V6), OUR_MAC, from_text("2001:db8:1::1"), THEIR_MAC)
    frame = Ether(octets)
    assert (frame.dst, frame[IPv6].dst) == (THEIRS, V6)
    _is_right(octets)


def _is_right(octets: bytes) -> None:
    """Scapy makes the same checksum."""
    again = Ether(octets)
    del again[ICMPv6ND_NS].cksum
    assert bytes(again) == octets


@pytest.mark.parametrize("vlan", [None, 7])
def test_an_arp_reply_tells_its_sender(vlan: int | None) -> None:
    said = Announced(from_text(V4), THEIR_MAC, True)
    assert announced(arp_reply(V4, THEIRS, OURS, vlan)) == said
    assert announced(arp_reply(V4, THEIRS, OURS, vlan) + bytes(18)) == said, "padded"


def test_who_asks_by_arp_says_where_he_is() -> None:
    for asked in ("10.1.1.1", V4):  # for us; for himself, which tells everybody
        frame = Ether(src=THEIRS) / ARP(op=1, hwsrc=THEIRS, psrc=V4, pdst=asked)
        assert announced(bytes(frame)) == Announced(from_text(V4), THEIR_MAC, True)
    probe = Ether(src=THEIRS) / ARP(op=1, hwsrc=THEIRS, psrc="0.0.0.0", pdst=V4)
    assert announced(bytes(probe)) is None, "RFC 5227: it has no address yet"


def test_who_solicits_says_where_he_is() -> None:
    def asks(source: str, *options: Any) -> bytes:
        head = Ether(src=THEIRS, dst=OURS) / IPv6(src=source, dst="2001:db8:1::1", hlim=255)
        packet = head / ICMPv6ND_NS(tgt="2001:db8:1::1")
        for option in options:
            packet /= option
        return bytes(packet)

    address = ICMPv6NDOptSrcLLAddr(lladdr=THEIRS)
    assert announced(asks(V6, address)) == Announced(from_text(V6), THEIR_MAC, True)
    assert announced(asks(V6)) is None
    assert announced(asks("::", address)) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"op": 3},
        {"hwtype": 6},
        {"ptype": 0x86DD},
        {"hwlen": 8},
        {"plen": 16},
        {"hwsrc": "ff:ff:ff:ff:ff:ff"},
        {"hwsrc": "01:00:5e:00:00:01"},
        {"hwsrc": "00:00:00:00:00:00"},
    ],
    ids=str,
)
def test_no_other_arp_is_an_answer(fields: dict[str, Any]) -> None:
    frame = arp_reply(V4, THEIRS, OURS)
    changed = bytearray(frame)
    places = {"hwtype": (14, 2), "ptype": (16, 2), "hwlen": (18, 1), "plen": (19, 1), "op": (20, 2)}
    for name, value in fields.items():
        if name == "hwsrc":
            changed[22:28] = mac_octets(value)
        else:
            start, size = places[name]
            changed[start : start + size] = value.to_bytes(size, "big")
    assert announced(frame) is not None
    assert announced(bytes(changed)) is None


@pytest.mark.parametrize("override", [0, 1])
def test_an_advertisement_tells_its_target(override: int) -> None:
    frame = advertisement(V6, THEIRS, OURS, O=override)
    assert announced(frame) == Announced(from_text(V6), THEIR_MAC, bool(override))


def test_an_advertisement_may_leave_the_mac_address_out() -> None:
    assert announced(advertisement(V6, None, OURS)) == Announced(from_text(V6), None, True)


def test_an_advertisement_to_all_is_not_solicited() -> None:
    to_all = {"dst": "ff02::1"}
    assert announced(advertisement(V6, THEIRS, OURS, to_all, S=0)) is not None
    assert announced(advertisement(V6, THEIRS, OURS, to_all, S=1)) is None


@pytest.mark.parametrize(
    ("ip", "fields"),
    [
        ({"hlim": 254}, {}),  # came over a router
        ({}, {"code": 1}),
        ({}, {"cksum": 0x1234}),
        ({}, {"tgt": "ff02::1"}),
        ({}, {"type": 134}),
    ],
    ids=str,
)
def test_no_other_advertisement_is_an_answer(ip: dict[str, Any], fields: dict[str, Any]) -> None:
    assert announced(advertisement(V6, THEIRS, OURS, ip, **fields)) is None


@pytest.mark.parametrize(
    "options", [b"\x02\x00" + bytes(6), b"\x02\x02" + bytes(6), b"\x02", b"\x0e\x01" + bytes(5)]
)
def test_options_that_do_not_fit_make_it_invalid(options: bytes) -> None:
    valid = Ether(advertisement(V6, None, OURS))
    del valid[IPv6].plen
    del valid.lastlayer().cksum
    assert announced(bytes(valid / Raw(b"\x0e\x01" + bytes(6)))) is not None
    assert announced(bytes(valid / Raw(options))) is None


@pytest.mark.parametrize("whole", [arp_reply(V4, THEIRS, OURS), advertisement(V6, THEIRS, OURS)])
def test_what_is_cut_short_is_no_answer(whole: bytes) -> None:
    for length in range(len(whole)):
        assert announced(whole[:length]) is None


def test_we_ask_with_our_address_in_the_same_network() -> None:
    routes = Routes(OPTIONS.routes)
    two = interface(1, "10.2.1.1", "10.1.1.1", "2001:db8:1::1")
    assert routes.own_address(two, from_text(V4)) == from_text("10.1.1.1")
    assert routes.own_address(two, from_text("fe80::fe")) == from_text("2001:db8:1::1")


def test_without_an_address_we_ask_with_what_there_always_is() -> None:
    bare = interface(1)
    routes = Routes(OPTIONS.routes)
    assert to_text(routes.own_address(bare, from_text(V4))) == "0.0.0.0"
    assert routes.own_address(bare, from_text(V6)) == link_local(bare.mac)
    assert to_text(link_local(bare.mac)) == "fe80::5b:ff:fe00:1"
