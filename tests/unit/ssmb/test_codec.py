# SPDX-License-Identifier: Apache-2.0
"""Edges of the SSMB codec: what a receiver refuses, what it keeps, what it ignores."""

from __future__ import annotations

from typing import Any

import pytest

from ssmb import codec
from ssmb import messages as m
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.constants import (
    APP_DATA_MAX,
    BRIDGE_DATA_MAX,
    PARKED_FRAME_MAX,
    SINGLE_MBUF_MAX,
    SSMB_MSG_MAX,
    Flag,
    ForwardMode,
    MessageType,
)
from ssmb.errors import EncodeError, MalformedMessage

CLIENT, SERVICE = from_text("198.51.100.7"), from_text("203.0.113.10")
CLIENT6, SERVICE6 = from_text("2001:db8::7"), from_text("2001:db8:1::10")
EVERY = list(codec.TYPE_OF.items())
BOTH = pytest.mark.parametrize("version", [1, 2])
TYPES = pytest.mark.parametrize(("cls", "kind"), EVERY, ids=[kind.name for _, kind in EVERY])

# --- every type ------------------------------------------------------------------------------


@BOTH
@TYPES
def test_a_default_message_survives(cls: type[m.Message], kind: MessageType, version: int) -> None:
    encoded = codec.encode(cls(), version)
    assert encoded[0] == kind
    assert len(encoded) == codec.size_of(kind, version)
    decoded = codec.decode(encoded, version)
    assert decoded._replace(flags=0) == cls()


@BOTH
@TYPES
def test_sizes_are_what_a_processor_wants(
    cls: type[m.Message], kind: MessageType, version: int
) -> None:
    assert codec.size_of(kind, version) % 4 == 0
    assert codec.size_of(kind, version) <= SINGLE_MBUF_MAX


@BOTH
@TYPES
def test_each_shorter_prefix_is_malformed(
    cls: type[m.Message], kind: MessageType, version: int
) -> None:
    encoded = codec.encode(cls(), version)
    for length in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            codec.decode(encoded[:length], version)


@BOTH
@TYPES
def test_octets_behind_a_message_are_malformed(
    cls: type[m.Message], kind: MessageType, version: int
) -> None:
    encoded = codec.encode(cls(), version) + b"\0"
    with pytest.raises(MalformedMessage):
        codec.decode(encoded, version)


@TYPES
def test_addr16_is_written_and_demanded(cls: type[m.Message], kind: MessageType) -> None:
    has_addresses = hasattr(cls(), "src_ipaddr") or hasattr(cls(), "virt_ipaddr")
    encoded = {version: bytearray(codec.encode(cls(), version)) for version in (1, 2)}
    assert bool(encoded[2][2] & 0x40) is has_addresses
    assert not encoded[1][2] & 0x40
    if has_addresses:
        for version in (1, 2):
            encoded[version][2] ^= 0x40
            with pytest.raises(MalformedMessage, match="ADDR16"):
                codec.decode(bytes(encoded[version]), version)


def test_the_callers_addr16_does_not_matter() -> None:
    assert codec.encode(m.Query(flags=Flag.ADDR16), 1) == codec.encode(m.Query(), 1)
    assert codec.encode(m.Query(flags=Flag.ADDR16), 2) == codec.encode(m.Query(), 2)


def test_unknown_flag_bits_and_reserved_octets_are_read_over() -> None:
    encoded = bytearray(codec.encode(m.Reset(reset_id=9), 1))
    encoded[14:16] = b"\xff\xff"
    encoded[2] |= 0x20
    assert codec.decode(bytes(encoded), 1) == m.Reset(flags=0x2000, reset_id=9)


@BOTH
def test_the_padding_of_data_is_read_over(version: int) -> None:
    encoded = bytearray(codec.encode(m.AppNotify(app_data=b"12345"), version))
    encoded[-1] = 0xFF
    decoded = codec.decode(bytes(encoded), version)
    assert isinstance(decoded, m.AppNotify)
    assert decoded.app_data == b"12345"


def test_a_signed_shift_keeps_its_sign() -> None:
    for shift in (-14, -1, 14):
        reply = m.Reply(wscale_shift=shift, forward_mode=ForwardMode.TUNNEL)
        assert codec.decode(codec.encode(reply, 1), 1) == reply


# --- addresses -------------------------------------------------------------------------------


def test_version_1_writes_unset_as_zero_and_reads_it_back() -> None:
    encoded = codec.encode(m.Query(src_ipaddr=CLIENT, dst_ipaddr=UNSPECIFIED), 1)
    assert encoded[8:16] == bytes([198, 51, 100, 7, 0, 0, 0, 0])
    decoded = codec.decode(encoded, 1)
    assert isinstance(decoded, m.Query)
    assert decoded.dst_ipaddr == UNSPECIFIED


def test_version_1_refuses_an_ipv6_address() -> None:
    with pytest.raises(EncodeError, match="node_ipaddr"):
        codec.encode(m.Reply(node_ipaddr=CLIENT6), 1)


def test_version_2_writes_ipv4_as_mapped() -> None:
    encoded = codec.encode(m.Query(src_ipaddr=CLIENT), 2)
    assert encoded[8:24] == bytes(10) + b"\xff\xff" + bytes([198, 51, 100, 7])


# --- values that do not fit ------------------------------------------------------------------

TOO_BIG: list[m.Message] = [
    m.Query(serial=1 << 32),
    m.Query(serial=-1),
    m.Query(src_port=1 << 16),
    m.Query(tos=256),
    m.Reply(wscale_shift=128),
    m.Reply(idle_timeout=1 << 16),
    m.Stats(bytes_out=1 << 64),
    m.Reset(error_code=256),
    m.Query(src_ipaddr=bytes(4)),
    m.Query(dst_ipaddr=CLIENT + b"\0"),
    m.Reply(next_hop_ipaddr=b""),
    m.AuthChallenge(auth_data=bytes(31)),
    m.AuthResponse(auth_nonce=bytes(33)),
    m.AppQuery(app_data=bytes(APP_DATA_MAX + 1)),
    m.AppNotify(app_data=bytes(APP_DATA_MAX + 1)),
    m.Bridge(frag_data=bytes(BRIDGE_DATA_MAX + 1)),
    m.Query(flags=Flag.PARKED, frame=bytes(PARKED_FRAME_MAX + 1)),
]


@BOTH
@pytest.mark.parametrize("message", TOO_BIG)
def test_a_value_that_does_not_fit_is_our_own_error(message: m.Message, version: int) -> None:
    with pytest.raises(EncodeError):
        codec.encode(message, version)


# --- variable parts --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, APP_DATA_MAX - 1, APP_DATA_MAX])
def test_application_data_of_any_length(length: int, version: int) -> None:
    query = m.AppQuery(app_data=bytes(length))
    encoded = codec.encode(query, version)
    assert len(encoded) % 4 == 0
    assert len(encoded) <= SSMB_MSG_MAX
    decoded = codec.decode(encoded, version)
    assert isinstance(decoded, m.AppQuery)
    assert decoded.app_data == query.app_data


@BOTH
@pytest.mark.parametrize("length", [1, 3, 74, PARKED_FRAME_MAX])
def test_a_frame_stands_in_place_of_application_data(length: int, version: int) -> None:
    query = m.AppQuery(flags=Flag.PARKED, serial=7, detail=3, frame=bytes(range(1, 256)) * 3)
    query = query._replace(frame=query.frame[:length])
    encoded = codec.encode(query, version)
    fixed = codec.size_of(MessageType.APP_QUERY, version)
    assert encoded[fixed - 4 : fixed] == bytes(4)  # app_length, reserved
    assert encoded[fixed:] == query.frame
    decoded = codec.decode(encoded, version)
    assert isinstance(decoded, m.AppQuery)
    assert (decoded.app_data, decoded.frame) == (b"", query.frame)


@BOTH
def test_application_data_and_a_frame_exclude_each_other(version: int) -> None:
    both = m.AppQuery(flags=Flag.PARKED, app_data=b"SID=", frame=b"x")
    with pytest.raises(EncodeError, match="exclude"):
        codec.encode(both, version)
    for wrong in (m.AppQuery(flags=Flag.PARKED), m.AppQuery(frame=b"x")):
        with pytest.raises(EncodeError, match="go together"):
            codec.encode(wrong, version)
    fixed = codec.size_of(MessageType.APP_QUERY, version)
    encoded = bytearray(codec.encode(m.AppQuery(flags=Flag.PARKED, frame=b"abcdef"), version))
    with pytest.raises(MalformedMessage, match="frame"):
        codec.decode(bytes(encoded[:fixed]), version)
    with pytest.raises(MalformedMessage, match="frame"):
        codec.decode(bytes(encoded) + bytes(PARKED_FRAME_MAX - 5), version)
    encoded[fixed - 3] = 4
    with pytest.raises(MalformedMessage, match="octets of data"):
        codec.decode(bytes(encoded), version)


@BOTH
def test_the_largest_bridge_fits_a_datagram(version: int) -> None:
    bridge = m.Bridge(frag_data=bytes(BRIDGE_DATA_MAX))
    assert len(codec.encode(bridge, version)) <= SSMB_MSG_MAX
    assert BRIDGE_DATA_MAX % 8 == 0
    assert codec.decode(codec.encode(bridge, version), version) == bridge


@BOTH
@pytest.mark.parametrize("announced", [2, 5, 1376, 1377, 0xFFFF])
def test_a_length_that_is_not_there_is_malformed(announced: int, version: int) -> None:
    encoded = bytearray(codec.encode(m.AppQuery(app_data=b"x" * 4), version))
    length_at = codec.size_of(MessageType.APP_QUERY, version) - 4
    encoded[length_at : length_at + 2] = announced.to_bytes(2, "big")
    if announced == 2:  # is there, and its padding
        assert codec.decode(bytes(encoded), version)
        return
    with pytest.raises(MalformedMessage):
        codec.decode(bytes(encoded), version)


@BOTH
@pytest.mark.parametrize("cls", [m.Query, m.Reply])
@pytest.mark.parametrize("length", [1, 60, 61, PARKED_FRAME_MAX])
def test_a_parked_frame_comes_back_octet_for_octet(
    cls: type[m.Query | m.Reply], length: int, version: int
) -> None:
    message = cls(flags=Flag.PARKED, frame=bytes(number % 251 for number in range(length)))
    decoded = codec.decode(codec.encode(message, version), version)
    assert isinstance(decoded, cls)
    assert decoded.frame == message.frame


@BOTH
def test_parked_without_a_frame_or_with_too_much_of_one_is_malformed(version: int) -> None:
    encoded = bytearray(codec.encode(m.Query(), version))
    encoded[2] |= Flag.PARKED >> 8
    for frame in (b"", bytes(PARKED_FRAME_MAX + 1)):
        with pytest.raises(MalformedMessage, match="PARKED"):
            codec.decode(bytes(encoded) + frame, version)


@BOTH
def test_a_reply_may_bring_no_frame_back(version: int) -> None:
    message = m.Reply(flags=Flag.PARKED, serial=5)
    decoded = codec.decode(codec.encode(message, version), version)
    assert isinstance(decoded, m.Reply)
    assert (decoded.flags & Flag.PARKED, decoded.serial, decoded.frame) == (Flag.PARKED, 5, b"")
    too_much = codec.encode(message, version) + bytes(PARKED_FRAME_MAX + 1)
    with pytest.raises(MalformedMessage, match="PARKED"):
        codec.decode(too_much, version)


@pytest.mark.parametrize(
    "message", [m.Query(frame=b"x"), m.Reply(frame=b"x"), m.Query(flags=Flag.PARKED)]
)
def test_parked_and_a_frame_go_together(message: m.Message) -> None:
    with pytest.raises(EncodeError, match="PARKED"):
        codec.encode(message, 1)


# --- signatures ------------------------------------------------------------------------------


def test_every_flow_message_knows_its_signature() -> None:
    for cls in codec.TYPE_OF:
        message = cls()
        if not hasattr(message, "src_ipaddr"):
            continue
        about = message._replace(
            src_ipaddr=CLIENT, dst_ipaddr=SERVICE, src_port=1, dst_port=2, protocol=6, tos=8
        )
        assert about.signature == m.FlowSignature(CLIENT, SERVICE, 1, 2, 6, 8)
        assert about.session == about.signature.session == (CLIENT, SERVICE, 1, 2, 6)


@pytest.mark.parametrize("cls", [m.Reply, m.NewFlow, m.FlowState])
def test_what_carries_a_decision_has_its_fields_where_the_translation_takes_them(
    cls: type[Any],
) -> None:
    assert cls._fields[m.TRANSLATION_FIELDS] == m.Translation._fields
