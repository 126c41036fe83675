# SPDX-License-Identifier: Apache-2.0
"""Edges of the SSMB codec: what a receiver refuses, what it keeps, what it ignores."""

from __future__ import annotations

import pytest

from ssmb import codec
from ssmb import messages as m
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.constants import (
    APP_DATA_MAX,
    BATCHABLE,
    BRIDGE_DATA_MAX,
    PARKED_FRAME_MAX,
    SINGLE_MBUF_MAX,
    SSMB_MSG_MAX,
    ErrorCode,
    Flag,
    ForwardMode,
    MessageType,
)
from ssmb.errors import EncodeError, MalformedMessage, RemoteProtocolError

CLIENT, SERVICE = from_text("198.51.100.7"), from_text("203.0.113.10")
CLIENT6, SERVICE6 = from_text("2001:db8::7"), from_text("2001:db8:1::10")
EVERY = list(codec.TYPE_OF.items())
BOTH = pytest.mark.parametrize("version", [1, 2])
TYPES = pytest.mark.parametrize(("cls", "kind"), EVERY, ids=[kind.name for _, kind in EVERY])


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


# The document's worked examples: (value, version, octets).
SESSION = (CLIENT, SERVICE, 40000, 80, 6, 0)
NODE = from_text("10.0.0.21")
TRANSLATED = Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP
STATS_FLOW = m.Stats(
    ErrorCode.CONNALIVE, Flag.HAS_STATS, 0x101, *SESSION, 0x1A, 0, 123456, 120, 10, 1500, 12, 64000
)
DELETE_FLOW = m.Delete(
    0, Flag.HAS_STATS, 0x103, CLIENT, SERVICE, 40002, 80, 6, 0, 0x1B, 1,
    123456, 0, 10, 1500, 12, 64000,
)  # fmt: skip
STATS_OCTETS = octets(
    "08040080 00000101 c6336407 cb00710a 9c400050 06001a00 0001e240 00000078"
    "00000000 0000000a 00000000 000005dc 00000000 0000000c 00000000 0000fa00"
    "00000000 00000000 00000000 00000000"
)
DELETE_OCTETS = octets(
    "05000080 00000103 c6336407 cb00710a 9c420050 06001b01 0001e240 00000000"
    "00000000 0000000a 00000000 000005dc 00000000 0000000c 00000000 0000fa00"
    "00000000 00000000 00000000 00000000"
)
EXAMPLES: list[tuple[m.Message, int, bytes]] = [
    (
        m.Query(0, 0, 0x101, *SESSION, tcp_flags=2, timestamp=123456),
        1,
        octets("01000000 00000101 c6336407 cb00710a 9c400050 06000200 0001e240"),
    ),
    (
        m.Reply(
            0, TRANSLATED, 0x101, *SESSION, node_ipaddr=NODE, node_port=8080, idle_timeout=300
        ),
        1,
        octets(
            "0200001c 00000101 c6336407 cb00710a 9c400050 06000000 0a000015 00000000"
            "1f900000 00000000 00000000 00000000 00000000 012c0000"
        ),
    ),
    (
        m.AppQuery(
            0, 0, 0x103, CLIENT, SERVICE, 40002, 80, 6, 0, 0x18, 2, 123500, b"SID=node7"
        ),
        1,
        octets(
            "03000000 00000103 c6336407 cb00710a 9c420050 06001802 0001e26c 00090000"
            "5349443d 6e6f6465 37000000"
        ),
    ),
    (
        m.NewFlow(
            0, TRANSLATED | Flag.ADD_TCP_OFFSETS, 0x81000005, CLIENT, SERVICE, 40003, 80, 6,
            node_ipaddr=from_text("10.0.0.22"), node_port=8080,
            ack_offset=(77 - 5_000_000) & 0xFFFFFFFF, idle_timeout=300,
        ),
        1,
        octets(
            "0400001e 81000005 c6336407 cb00710a 9c430050 06000000 0a000016 00000000"
            "1f900000 00000000 00000000 ffb3b50d 00000000 012c0000"
        ),
    ),
    (
        m.Reap(0, 0, 0x101, *SESSION, idle_limit=5000),
        1,
        octets("06000000 00000101 c6336407 cb00710a 9c400050 06000000 00001388"),
    ),
    (STATS_FLOW, 1, STATS_OCTETS),
    (DELETE_FLOW, 1, DELETE_OCTETS),
    (m.Reset(0, 0, 0, 0xA1B2C3D4, 0, 1), 1, octets("09000000 00000000 a1b2c3d4 00010000")),
    (m.Reset(0, Flag.ACK, 0, 0xA1B2C3D4, 0, 1), 2, octets("09000400 00000000 a1b2c3d4 00010000")),
    (
        m.AuthChallenge(challenge_id=7, auth_data=bytes(range(32))),
        1,
        octets("0a000000 00000000 01000020 00000007") + bytes(range(32)),
    ),
    (
        m.Query(0, Flag.ADDR16, 0x104, CLIENT6, SERVICE6, 40005, 443, 6, 0, 2, 0, 123600),
        2,
        octets(
            "01004000 00000104 20010db8 00000000 00000000 00000007 20010db8 00010000"
            "00000000 00000010 9c4501bb 06000200 0001e2d0"
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "version", "encoded"), EXAMPLES)
def test_worked_examples_of_the_document(message: m.Message, version: int, encoded: bytes) -> None:
    assert codec.encode(message, version) == encoded
    assert codec.decode(encoded, version) == message


def test_the_documents_batch_of_stats_and_delete() -> None:
    datagram = STATS_OCTETS + DELETE_OCTETS
    assert codec.encode_batch([STATS_FLOW, DELETE_FLOW], 1) == [datagram]
    assert codec.decode_datagram(datagram, 1) == ([STATS_FLOW, DELETE_FLOW], None, 0)


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
    has_addresses = hasattr(cls(), "src_ipaddr")
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


@pytest.mark.parametrize("message", [m.Query(frame=b"x"), m.Reply(flags=Flag.PARKED)])
def test_parked_and_a_frame_go_together(message: m.Message) -> None:
    with pytest.raises(EncodeError, match="PARKED"):
        codec.encode(message, 1)


# --- datagrams -------------------------------------------------------------------------------


def test_an_empty_datagram_is_malformed() -> None:
    found, malformed, ignored = codec.decode_datagram(b"", 1)
    assert (found, ignored) == ([], 0)
    assert isinstance(malformed, MalformedMessage)


def test_what_stood_before_a_malformed_message_is_kept() -> None:
    datagram = STATS_OCTETS + DELETE_OCTETS[:-1]
    found, malformed, _ = codec.decode_datagram(datagram, 1)
    assert found == [STATS_FLOW]
    assert isinstance(malformed, RemoteProtocolError)


@pytest.mark.parametrize("kind", [0, 12, 63, 69, 127])
def test_an_unknown_type_below_128_ends_the_walk_as_malformed(kind: int) -> None:
    found, malformed, ignored = codec.decode_datagram(STATS_OCTETS + bytes([kind]) * 4, 1)
    assert found == [STATS_FLOW]
    assert str(malformed) == f"unknown message type {kind}"
    assert ignored == 0


@pytest.mark.parametrize("kind", [128, 255])
def test_an_experimental_type_ends_the_walk_in_silence(kind: int) -> None:
    datagram = STATS_OCTETS + bytes([kind]) * 4
    assert codec.decode_datagram(datagram, 1) == ([STATS_FLOW], None, 1)


@BOTH
@TYPES
def test_only_batchable_types_share_a_datagram(
    cls: type[m.Message], kind: MessageType, version: int
) -> None:
    encoded = codec.encode(cls(), version)
    found, malformed, _ = codec.decode_datagram(encoded + encoded, version)
    if kind in BATCHABLE:
        assert len(found) == 2
        assert malformed is None
    else:
        assert not found
        assert malformed is not None


def test_a_message_that_travels_alone_is_not_taken_from_behind_others() -> None:
    datagram = STATS_OCTETS + codec.encode(m.Query(), 1)
    found, malformed, _ = codec.decode_datagram(datagram, 1)
    assert found == [STATS_FLOW]
    assert malformed is not None


def test_a_parked_query_behind_others_is_malformed() -> None:
    parked = codec.encode(m.Query(flags=Flag.PARKED, frame=b"frame"), 1)
    found, malformed, _ = codec.decode_datagram(STATS_OCTETS + parked, 1)
    assert found == [STATS_FLOW]
    assert malformed is not None


def test_a_datagram_larger_than_one_frame_is_malformed() -> None:
    reaps = codec.encode(m.Reap(), 1) * 52  # 1456 octets
    found, malformed, _ = codec.decode_datagram(reaps, 1)
    assert not found
    assert malformed is not None


def test_decode_wants_exactly_one_message() -> None:
    for datagram in (STATS_OCTETS * 2, b"\x80\0\0\0"):
        with pytest.raises(MalformedMessage, match="expected one message"):
            codec.decode(datagram, 1)


# --- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "fitting"), [(1, 17), (2, 13)])
def test_so_many_deletes_fit_a_datagram(version: int, fitting: int) -> None:
    deletes = [m.Delete(serial=serial) for serial in range(1, fitting + 2)]
    first, second = codec.encode_batch(deletes, version)
    assert len(codec.decode_datagram(first, version).messages) == fitting
    assert len(codec.decode_datagram(second, version).messages) == 1
    assert len(first) <= SSMB_MSG_MAX


def test_a_batch_keeps_its_order_around_messages_that_travel_alone() -> None:
    batch: list[m.Message] = [
        m.Reap(serial=1),
        m.Timeout(serial=2),
        m.NewFlow(serial=3),
        m.Reap(serial=4),
    ]
    datagrams = codec.encode_batch(batch, 1)
    assert [len(codec.decode_datagram(one, 1).messages) for one in datagrams] == [2, 1, 1]
    assert [got for one in datagrams for got in codec.decode_datagram(one, 1).messages] == batch


def test_an_empty_batch_is_no_datagram() -> None:
    assert codec.encode_batch([], 1) == []


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
