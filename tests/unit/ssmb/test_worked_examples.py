# SPDX-License-Identifier: Apache-2.0
"""The protocol document's worked examples of SSMB, octet for octet."""

from __future__ import annotations

import pytest

from ssmb import codec
from ssmb import messages as m
from ssmb.addresses import from_text
from ssmb.constants import ErrorCode, Flag

CLIENT, SERVICE = from_text("198.51.100.7"), from_text("203.0.113.10")
CLIENT6, SERVICE6 = from_text("2001:db8::7"), from_text("2001:db8:1::10")


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


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
