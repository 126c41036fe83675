# SPDX-License-Identifier: Apache-2.0
"""Edges of the CSMB codec: what a receiver refuses, and what it reads over."""

from __future__ import annotations

import pytest

from csmb import codec
from csmb import messages as m
from csmb.constants import (
    ACKNOWLEDGED,
    CS_SENDS,
    CSMB_MSG_MAX,
    DFS_SENDS,
    HELLO_SIZE,
    HELLO_SIZE_V2,
    SMALLEST_MESSAGE,
    ErrorCode,
    Flag,
    MessageType,
)
from csmb.errors import EncodeError, MalformedMessage
from ssmb.addresses import UNSPECIFIED, from_text

EVERY = list(codec.TYPE_OF.items())
BOTH = pytest.mark.parametrize("version", [1, 2])
TYPES = pytest.mark.parametrize(("cls", "kind"), EVERY, ids=[kind.name for _, kind in EVERY])
TRANSLATED = Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP
SERVICE, SERVICE6 = from_text("203.0.113.10"), from_text("2001:db8:1::10")
PLAIN = m.VsEntry(TRANSLATED, SERVICE, 80, idle_timeout=300)
WILDCARD = m.VsEntry(
    Flag.WILDCARD_ADDR | Flag.WILDCARD_PORT,
    next_hop_ipaddr=from_text("10.0.0.254"),
    idle_timeout=300,
)
COOKIE = m.AddVs(
    TRANSLATED | Flag.COOKIE_PROXY, SERVICE, 80, idle_timeout=300, app_limit=8192, app_data=b"SID"
)
HELLO_OF_CS = m.Hello(
    Flag.ACTIVE | Flag.REDUNDANT | Flag.APP_PROXY, segment_id=1, group_id=1,
    boot_id=0x65000001, role_epoch=1, ssmb_ipaddr=from_text("192.0.2.2"),
    ssmb_standby_ipaddr=from_text("192.0.2.3"), ssmb_port=61019, ssmb_standby_port=61019,
)  # fmt: skip
HELLO_OF_DFS = m.Hello(
    Flag.APP_PROXY, segment_id=256, group_id=1, boot_id=0x65000100, role_epoch=1,
    flow_capacity=65536, ssmb_ipaddr=from_text("192.0.2.1"), ssmb_port=61019,
)  # fmt: skip

# Worked examples of the wire protocol: (message, serial_global, serial_bytype, octets in v1).
EXAMPLES: list[tuple[m.Message, int, int, str]] = [
    (
        HELLO_OF_CS, 1, 1,
        "00010001 00010030 00004018 00000005 01000100 00010001 65000001 00000001"
        "00000000 c0000202 c0000203 ee5bee5b",
    ),
    (
        HELLO_OF_DFS, 1, 1,
        "00010001 00010030 00000010 00000005 01000100 01000001 65000100 00000001"
        "00010000 c0000201 00000000 ee5b0000",
    ),
    (
        HELLO_OF_DFS._replace(error_code=ErrorCode.VERS_NEW, vers_major=2, role_epoch=0), 1, 1,
        "00010001 00010030 00000010 00010005 02000100 01000001 65000100 00000000"
        "00010000 c0000201 00000000 ee5b0000",
    ),
    (
        m.AuthChallenge(challenge_id=7, auth_data=bytes(range(32))), 2, 1,
        "00020002 00010034 00000000 01000020 00000007 00010203 04050607 08090a0b"
        "0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f",
    ),
    (
        COOKIE, 5, 1,
        "00060005 00010028 00000207 cb00710a 00500600 00000000 012c0003 00002000"
        "00000000 53494400",
    ),
    (
        m.Nodes(0x8000, (m.NodePlace(SERVICE, 80, 6), m.NodePlace(SERVICE6, 0, 17))), 9, 1,
        "000b0009 00010034 00008000 00000000 00000000 0000ffff cb00710a 00500600"
        "20010db8 00010000 00000000 00000010 00001100",
    ),
    (
        m.VsList(0, 2, (PLAIN, WILDCARD)), 4, 1,
        "00080004 00010048 00000000 00020002 00000007 cb00710a 00500600 00000000"
        "012c0000 00000000 00000000 00000060 00000000 00000600 0a0000fe 012c0000"
        "00000000 00000000",
    ),
    (
        m.Ack(0, 0, MessageType.ADD_VS, 5, 1), 6, 3,
        "000a0006 00030014 00000000 00000006 00050001",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "serial_global", "serial_bytype", "text"), EXAMPLES)
def test_worked_examples_of_the_document(
    message: m.Message, serial_global: int, serial_bytype: int, text: str
) -> None:
    octets = bytes.fromhex(text)
    assert codec.encode(message, 1, serial_global, serial_bytype) == octets
    assert codec.decode(octets, 1) == (message, serial_global, serial_bytype)


# --- every type ------------------------------------------------------------------------------


@BOTH
@TYPES
def test_a_default_message_survives(cls: type[m.Message], kind: MessageType, version: int) -> None:
    encoded = codec.encode(cls(), version, 65535, 0)
    assert codec.decode(encoded, version) == (cls(), 65535, 0)
    assert codec.message_header(encoded) == (kind, 65535, 0)
    assert codec.message_length(encoded) == len(encoded) >= SMALLEST_MESSAGE
    assert len(encoded) % 4 == 0


@BOTH
@TYPES
def test_each_shorter_prefix_is_malformed(
    cls: type[m.Message], kind: MessageType, version: int
) -> None:
    encoded = codec.encode(cls(), version, 1, 1)
    for length in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            codec.decode(encoded[:length], version)


@BOTH
@TYPES
def test_a_shorter_message_with_an_honest_length_is_malformed(
    cls: type[m.Message], kind: MessageType, version: int
) -> None:
    encoded = codec.encode(cls(), version, 1, 1)
    for length in range(0, len(encoded), 4):
        shorter = encoded[:6] + length.to_bytes(2, "big") + encoded[8:length]
        with pytest.raises(MalformedMessage):
            codec.decode(shorter, version)


@BOTH
@TYPES
def test_a_longer_message_is_malformed_but_for_hello(
    cls: type[m.Message], kind: MessageType, version: int
) -> None:
    encoded = codec.encode(cls(), version, 1, 1) + bytes(4)
    encoded = encoded[:6] + len(encoded).to_bytes(2, "big") + encoded[8:]
    if kind is MessageType.HELLO:
        assert codec.decode(encoded, version).message == cls()
    else:
        with pytest.raises(MalformedMessage):
            codec.decode(encoded, version)


def test_every_type_has_a_sender() -> None:
    assert set(MessageType) == CS_SENDS | DFS_SENDS
    assert ACKNOWLEDGED <= CS_SENDS - DFS_SENDS


# --- the header ------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 4, 8, 11, 13, 14, 15, 1441, 1444, 0xFFFF])
def test_a_length_that_no_message_has(length: int) -> None:
    with pytest.raises(MalformedMessage, match=f"msg_length {length}"):
        codec.message_length(bytes(6) + length.to_bytes(2, "big"))


@pytest.mark.parametrize("length", [12, 16, 1440])
def test_a_length_that_a_message_may_have(length: int) -> None:
    assert codec.message_length(bytes(6) + length.to_bytes(2, "big") + b"more") == length


@BOTH
@pytest.mark.parametrize("number", [0, 12, 127, 128, 256 + 1, 0xFFFF])
def test_a_type_that_nobody_knows(number: int, version: int) -> None:
    octets = number.to_bytes(2, "big") + bytes.fromhex("0001 0001 000c 00000000")
    assert codec.message_header(octets) == (number, 1, 1)
    with pytest.raises(MalformedMessage, match=f"unknown message type {number}"):
        codec.decode(octets, version)


# --- HELLO -----------------------------------------------------------------------------------

TAIL = HELLO_OF_CS._replace(ssmb_ipaddr6=SERVICE6, ssmb_standby_ipaddr6=UNSPECIFIED)


@BOTH
def test_hello_is_the_same_in_every_version(version: int) -> None:
    assert len(codec.encode(HELLO_OF_CS, version, 1, 1)) == HELLO_SIZE
    assert len(codec.encode(TAIL, version, 1, 1)) == HELLO_SIZE_V2
    for hello in (HELLO_OF_CS, TAIL):
        assert codec.encode(hello, version, 1, 1) == codec.encode(hello, 3 - version, 1, 1)
        assert codec.decode(codec.encode(hello, version, 1, 1), version).message == hello


def test_the_frozen_part_is_the_same_with_and_without_a_tail() -> None:
    short, long = codec.encode(HELLO_OF_CS, 1, 1, 1), codec.encode(TAIL, 1, 1, 1)
    assert long[:6] + long[8:HELLO_SIZE] == short[:6] + short[8:]


@pytest.mark.parametrize("extra", range(4, 64, 4))
def test_octets_of_a_later_hello_are_read_over(extra: int) -> None:
    short = codec.encode(HELLO_OF_CS, 1, 1, 1)
    octets = short[:6] + (HELLO_SIZE + extra).to_bytes(2, "big") + short[8:] + b"\xaa" * extra
    hello = codec.decode(octets, 1).message
    assert isinstance(hello, m.Hello)
    assert hello[:16] == HELLO_OF_CS[:16]
    known = b"\xaa" * 16 if extra >= 32 else None
    assert hello[16:] == (known, known)


def test_hello_cannot_say_an_ipv6_address_in_the_frozen_part() -> None:
    with pytest.raises(EncodeError, match="ssmb_ipaddr"):
        codec.encode(HELLO_OF_CS._replace(ssmb_ipaddr=SERVICE6), 2, 1, 1)


def test_a_tail_without_a_standby_is_unset() -> None:
    hello = HELLO_OF_CS._replace(ssmb_ipaddr6=SERVICE6)
    assert codec.decode(codec.encode(hello, 1, 1, 1), 1).message == TAIL


def test_which_address_a_version_uses() -> None:
    standby6 = from_text("fd00::3")
    hello = TAIL._replace(ssmb_standby_ipaddr6=standby6)
    assert hello.ssmb_address(1) == HELLO_OF_CS.ssmb_ipaddr
    assert hello.ssmb_address(2) == SERVICE6
    assert hello.ssmb_standby_address(1) == HELLO_OF_CS.ssmb_standby_ipaddr
    assert hello.ssmb_standby_address(2) == standby6
    # unset in the tail, or no tail: the IPv4 address counts in version 2 too
    assert TAIL.ssmb_standby_address(2) == HELLO_OF_CS.ssmb_standby_ipaddr
    assert HELLO_OF_CS.ssmb_address(2) == HELLO_OF_CS.ssmb_ipaddr


# --- virtual servers -------------------------------------------------------------------------


def test_add_vs_is_one_entry_of_a_list() -> None:
    added = codec.encode(COOKIE, 2, 1, 1)
    listed = codec.encode(m.VsList(0, 1, (COOKIE.entry,)), 2, 1, 1)
    assert added[8:] == listed[16:]
    decoded = codec.decode(added, 2).message
    assert isinstance(decoded, m.AddVs)
    assert decoded == COOKIE
    assert decoded.entry.app_data == b"SID"


@BOTH
@pytest.mark.parametrize("announced", [4, 5, 8, 1440, 0xFFFF])
def test_application_data_that_is_not_there(announced: int, version: int) -> None:
    encoded = bytearray(codec.encode(COOKIE, version, 1, 1))
    length_at = 26 if version == 1 else 50
    assert encoded[length_at : length_at + 2] == b"\0\3"
    encoded[length_at : length_at + 2] = announced.to_bytes(2, "big")
    if announced == 4:  # the padding becomes data
        message = codec.decode(bytes(encoded), version).message
        assert isinstance(message, m.AddVs)
        assert message.app_data == b"SID\0"
        return
    with pytest.raises(MalformedMessage):
        codec.decode(bytes(encoded), version)


@pytest.mark.parametrize("count", [0, 1, 3, 0xFFFF])
def test_a_count_that_is_not_what_the_list_holds(count: int) -> None:
    encoded = bytearray(codec.encode(m.VsList(0, 2, (PLAIN, WILDCARD)), 1, 1, 1))
    encoded[14:16] = count.to_bytes(2, "big")
    with pytest.raises(MalformedMessage, match="holds 2"):
        codec.decode(bytes(encoded), 1)


def test_an_empty_list_is_one_message() -> None:
    assert codec.split_list([], 1) == [m.VsList()]


@BOTH
@pytest.mark.parametrize("total", [1, 27, 28, 29, 50, 51, 200])
def test_a_long_list_is_split_and_says_more(total: int, version: int) -> None:
    entries = [PLAIN._replace(virt_port=number) for number in range(total)]
    parts = codec.split_list(entries, version)
    assert [bool(part.flags & Flag.MORE) for part in parts] == [True] * (len(parts) - 1) + [False]
    assert {part.vs_total for part in parts} == {total}
    assert [entry for part in parts for entry in part.entries] == entries
    for part in parts:
        assert len(codec.encode(part, version, 1, 1)) <= CSMB_MSG_MAX


@BOTH
def test_the_largest_entries_travel_one_a_message(version: int) -> None:
    room = CSMB_MSG_MAX - 16 - (28 if version == 1 else 52)
    entries = [PLAIN._replace(app_data=bytes(room))] * 3
    parts = codec.split_list(entries, version)
    assert [len(part.entries) for part in parts] == [1, 1, 1]
    assert len(codec.encode(parts[0], version, 1, 1)) == CSMB_MSG_MAX


@BOTH
@pytest.mark.parametrize(
    "entry",
    [PLAIN._replace(app_data=bytes(1400)), PLAIN._replace(vs_mode=-1), m.VsEntry(virt_ipaddr=b"")],
)
def test_an_entry_that_fits_no_message_is_our_own_error(entry: m.VsEntry, version: int) -> None:
    with pytest.raises(EncodeError):
        codec.split_list([PLAIN, entry], version)


# --- values that do not fit ------------------------------------------------------------------

TOO_BIG: list[m.Message] = [
    m.Ack(error_code=1 << 16),
    m.Ack(flags=-1),
    m.GetVsList(flags=1 << 32),
    m.Hello(boot_id=1 << 32),
    m.Hello(ssmb_ipaddr=bytes(4)),
    m.Hello(ssmb_ipaddr6=bytes(15)),
    m.Hello(ssmb_ipaddr6=SERVICE6, ssmb_standby_ipaddr6=bytes(17)),
    m.AuthChallenge(auth_data=bytes(31)),
    m.AuthResponse(auth_nonce=b""),
    m.AuthResult(auth_data=bytes(33)),
    m.Config(int_shared_ipaddr=bytes(4)),
    m.DelVs(virt_ipaddr=SERVICE + b"\0"),
    m.AddVs(next_hop_ipaddr=b""),
    m.AddVs(vs_mode=256),
    m.AddVs(app_data=bytes(1410)),
    m.AddVs(app_data=bytes(1 << 16)),
    m.VsList(0, 60, (PLAIN,) * 60),
    m.VsList(0, 1 << 16, ()),
]


@BOTH
@pytest.mark.parametrize("message", TOO_BIG)
def test_a_value_that_does_not_fit_is_our_own_error(message: m.Message, version: int) -> None:
    with pytest.raises(EncodeError):
        codec.encode(message, version, 1, 1)


@pytest.mark.parametrize("serials", [(1 << 16, 1), (1, 1 << 16), (-1, 1)])
def test_a_serial_that_does_not_fit_is_our_own_error(serials: tuple[int, int]) -> None:
    with pytest.raises(EncodeError):
        codec.encode(m.GetVsList(), 1, *serials)


@pytest.mark.parametrize(
    "message",
    [
        m.Config(default_gw_ipaddr=SERVICE6),
        m.DelVs(virt_ipaddr=SERVICE6),
        m.AddVs(next_hop_ipaddr=SERVICE6),
    ],
)
def test_version_1_refuses_an_ipv6_address(message: m.Message) -> None:
    with pytest.raises(EncodeError, match="IPv6"):
        codec.encode(message, 1, 1, 1)
    assert codec.decode(codec.encode(message, 2, 1, 1), 2).message == message
