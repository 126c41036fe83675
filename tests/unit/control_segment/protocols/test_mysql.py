# SPDX-License-Identifier: Apache-2.0
"""MySQL's handshake, as far as a CS takes part in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_segment.protocols.mysql import (
    CONNECT_ATTRIBUTES,
    CONNECT_WITH_DB,
    LENENC_AUTH,
    NO_METHOD,
    OFFERED,
    PLUGIN_AUTH,
    PROTOCOL_41,
    TLS,
    Mysql,
    packet,
    read_greeting,
)
from control_segment.protocols.plugin import NotYet, Reading, Told, Unfit
from splicing.instructions import Verdict

MYSQL = Mysql()
ATTRIBUTES = bytes((10,)) + b"\x03_os\x05Linux"
PROOF = bytes(range(1, 21))
# what a MariaDB of Debian says first
MARIADB = bytes.fromhex(
    "5a0000000a352e352e352d31302e31312e31312d4d6172696144422d302b64656231327531000300000034"
    "6b4a5f4a7652290000fef7210200ffa1150000000000001d0000002f5b4e2a7c3b5e3d3b2d2f6100"
    "6d7973716c5f6e61746976655f70617373776f726400"
)


def answer(
    user: bytes = b"alice",
    database: bytes | None = b"shop",
    capabilities: int = OFFERED,
    proof: bytes = PROOF,
) -> bytes:
    """A client's answer to a greeting."""
    if database is None:
        capabilities &= ~CONNECT_WITH_DB
    body = capabilities.to_bytes(4, "little") + (1 << 24).to_bytes(4, "little") + b"\x2d"
    body += bytes(23) + user + b"\0" + bytes((len(proof),)) + proof
    body += b"" if database is None else database + b"\0"
    return packet(1, body + b"mysql_native_password\0" + ATTRIBUTES)


@pytest.mark.parametrize("database", [b"shop", None])
def test_user_and_database_are_read_and_the_proof_is_left_out(database: bytes | None) -> None:
    octets = answer(database=database)
    read = MYSQL.read(octets + b"not the client's turn")
    assert isinstance(read, Told)
    expected = {"user": "alice"} | ({} if database is None else {"database": "shop"})
    assert read.attributes == expected
    assert read.skip == len(octets)
    body = read.instead[4:]
    assert read.instead == packet(1, body)
    assert body[:32] == octets[4:36]
    rest = b"alice\0" + b"\0" + (b"" if database is None else b"shop\0")
    assert body[32:] == rest + NO_METHOD + b"\0" + ATTRIBUTES


def test_at_every_octet_more_is_needed_until_it_is_whole() -> None:
    octets = answer()
    reads: list[Reading] = [MYSQL.read(octets[:end]) for end in range(len(octets) + 1)]
    assert all(isinstance(each, NotYet) for each in reads[:-1])
    assert isinstance(reads[-1], Told)


@pytest.mark.parametrize("proof", [b"", b"x" * 250])
def test_a_proof_may_have_any_length(proof: bytes) -> None:
    read = MYSQL.read(answer(proof=proof))
    assert isinstance(read, Told)
    assert read.attributes["database"] == "shop"


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (packet(1, answer()[4:36]), "TLS"),
        (answer(capabilities=OFFERED | TLS), "TLS"),
        (answer(capabilities=OFFERED & ~PLUGIN_AUTH), "too old"),
        (answer(capabilities=OFFERED & ~PROTOCOL_41), "too old"),
        (packet(0, answer()[4:]), "number"),
        (packet(1, bytes(5)), "no answer"),
        (packet(1, bytes(9000)), "no answer"),
        (packet(1, answer()[4:36] + b"x" * 30), "user's name"),
        (packet(1, answer()[4:42] + b"\xff" + b"x" * 30), "proof"),
        (b"GET / HTTP/1.1\r\n\r\n", "number"),
    ],
)
def test_what_cannot_be_balanced_is_refused(octets: bytes, why: str) -> None:
    read = MYSQL.read(octets)
    assert isinstance(read, Unfit)
    assert why in read.why


def test_what_was_not_offered_does_not_hold() -> None:
    read = MYSQL.read(answer(capabilities=OFFERED | 1 << 24))
    assert isinstance(read, Told)
    assert int.from_bytes(read.instead[4:8], "little") == OFFERED


def test_the_greeting_is_one_that_is_read_as_one() -> None:
    greeting = MYSQL.greeting(7, bytes(20))
    assert read_greeting(greeting) == len(greeting)
    assert greeting[3] == 0
    salt_of = greeting.index(b"splitplane\0") + len(b"splitplane\0") + 4
    assert 0 not in greeting[salt_of : salt_of + 8]
    assert OFFERED & LENENC_AUTH
    assert OFFERED & CONNECT_ATTRIBUTES
    assert not OFFERED & TLS


def test_a_nodes_greeting_ends_where_its_packet_does() -> None:
    length = 4 + MARIADB[0]
    whole = MARIADB.ljust(length, b"\0")
    assert read_greeting(whole + b"next") == length
    assert {read_greeting(whole[:end]) for end in range(length)} == {Verdict.MORE}


@pytest.mark.parametrize(
    "octets", [packet(0, b"\xff\x10\x04Too many connections"), packet(1, b"\x0a"), packet(0, b"")]
)
def test_a_node_that_does_not_greet_is_refused(octets: bytes) -> None:
    assert read_greeting(octets) is Verdict.REFUSED


@given(st.binary(max_size=120) | st.binary(min_size=33, max_size=200).map(lambda b: packet(1, b)))
def test_any_octets_are_read(octets: bytes) -> None:
    read = MYSQL.read(octets)
    if isinstance(read, Told):
        assert set(read.attributes) <= set(MYSQL.ATTRIBUTES)
        assert read.skip <= len(octets)
    assert read_greeting(octets) is not None
