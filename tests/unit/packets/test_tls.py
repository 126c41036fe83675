# SPDX-License-Identifier: Apache-2.0
"""TLS hellos: what real clients and a server say, and what is refused."""

from __future__ import annotations

import pytest

from packets.refused import Refusal, Refused
from packets.tls import (
    SSL2,
    SSL3,
    TLS1,
    TLS1_1,
    TLS1_2,
    TLS1_3,
    ClientHello,
    Incomplete,
    ServerHello,
    read_client_hello,
    read_server_hello,
)
from support.octets import hellos
from support.octets.extraction_checks import check_segments

LIMIT = 16384
SAMPLES = hellos.samples()
VERSIONS = {"TLSv1": TLS1, "TLSv1.2": TLS1_2, "TLSv1.3": TLS1_3}
SESSION = bytes(range(32))
each_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)


def read(octets: bytes) -> ClientHello:
    hello = read_client_hello(octets, LIMIT)
    assert isinstance(hello, ClientHello)
    return hello


def refusal(octets: bytes) -> Refusal:
    refused = read_client_hello(octets, LIMIT)
    assert isinstance(refused, Refused)
    return refused.reason


@each_sample
def test_a_real_client(sample: hellos.Sample) -> None:
    """The server, which is OpenSSL, understood the same."""
    hello = read(sample.client)
    assert hello.server_name == sample.server_name
    assert hello.highest_version == VERSIONS[sample.version]
    assert hello.length == len(sample.client)
    assert not hello.is_ssl2


@each_sample
def test_a_real_server(sample: hellos.Sample) -> None:
    hello = read_server_hello(sample.server, LIMIT)
    assert isinstance(hello, ServerHello)
    assert hello.version == VERSIONS[sample.version]
    named = hello.version < TLS1_3
    assert hello.session_id == (sample.session_id if named else b"")


def test_a_session_id_is_learnt_and_offered() -> None:
    """A client that resumes offers what the server gave it the time before."""
    learnt = read_server_hello(SAMPLES["openssl, TLS 1.2"].server, LIMIT)
    assert isinstance(learnt, ServerHello)
    assert len(learnt.session_id) == 32
    assert read(SAMPLES["openssl, TLS 1.2, resumes"].client).session_id == learnt.session_id
    assert read(SAMPLES["openssl, TLS 1.2"].client).session_id == b""


def test_a_server_with_tickets_names_no_session() -> None:
    hello = read_server_hello(SAMPLES["openssl, TLS 1.2, ticket"].server, LIMIT)
    assert hello == ServerHello(TLS1_2, b"")


def test_what_tls_1_3_echoes_is_no_session() -> None:
    sample = SAMPLES["openssl, TLS 1.3"]
    offered = read(sample.client).session_id
    assert len(offered) == 32
    assert offered in sample.server[:80]
    assert read_server_hello(sample.server, LIMIT) == ServerHello(TLS1_3, b"")


def test_chromium() -> None:
    """It sends GREASE among extensions, versions and ciphers, and an ECH extension always."""
    sample = SAMPLES["chromium"]
    hello = read(sample.client)
    assert hello.alpn == ("h2", "http/1.1")
    assert hello.supported_versions == (TLS1_3, TLS1_2)
    assert hello.has_ech
    assert sum(bytes((octet, octet)) in sample.client for octet in range(0x0A, 0x100, 0x10)) >= 3
    assert len(sample.client) > 1460  # more than a segment


@pytest.mark.parametrize("name", ["openssl, TLS 1.2", "openssl, TLS 1.3", "curl"])
def test_others_send_no_ech(name: str) -> None:
    hello = read(SAMPLES[name].client)
    assert not hello.has_ech
    assert hello.alpn == ("h2", "http/1.1")


@each_sample
def test_every_split_of_a_client(sample: hellos.Sample) -> None:
    whole = read(sample.client)
    for end in range(len(sample.client)):
        cut = read_client_hello(sample.client[:end], LIMIT)
        assert isinstance(cut, Incomplete)
        assert not cut.truncated
        assert end < cut.needed <= len(sample.client)
        assert read_client_hello(sample.client, LIMIT, cut) == whole
    assert read_client_hello(sample.client + b"\x14\x03\x03\0\1\1", LIMIT) == whole


@each_sample
def test_every_split_of_a_server(sample: hellos.Sample) -> None:
    octets = sample.server
    whole = read_server_hello(octets, LIMIT)
    for end in range(len(octets)):
        cut = read_server_hello(octets[:end], LIMIT)
        if isinstance(cut, Incomplete):
            assert end < cut.needed
            assert read_server_hello(octets, LIMIT, cut) == whole
        else:
            assert cut == whole
            break


@each_sample
def test_octet_by_octet(sample: hellos.Sample) -> None:
    check_segments(read_client_hello, sample.client, LIMIT, 1)
    check_segments(read_server_hello, sample.server, LIMIT, 1)


@each_sample
def test_every_limit(sample: hellos.Sample) -> None:
    """What came whole is said, and nothing else."""
    whole = read(sample.client)
    for limit in range(len(sample.client)):
        cut = read_client_hello(sample.client, limit)
        assert isinstance(cut, Incomplete)
        assert cut.truncated
        if cut.hello is None:
            assert limit < 44 + len(whole.session_id)
            continue
        assert cut.hello.session_id == whole.session_id
        assert cut.hello.server_name in ("", whole.server_name)
        assert cut.hello.alpn in ((), whole.alpn)
        assert cut.hello.length == limit
    assert read_client_hello(sample.client, len(sample.client)) == whole


def test_a_message_over_several_records() -> None:
    whole = SAMPLES["chromium"].client
    message = whole[5:]
    for lengths in ([1] * 50, [4], [3, 1, 2, 40], [len(message) - 1]):
        octets = hellos.records(message, *lengths)
        assert read(octets).server_name == "www.example.com"
        assert read(octets).length == len(octets)
        check_segments(read_client_hello, octets, LIMIT, 7)


def test_other_messages_may_follow_in_the_record() -> None:
    """Servers before TLS 1.3 send their certificates there."""
    fields = hellos.server_hello(session_id=SESSION)[5:]
    octets = hellos.records(fields + hellos.message(bytes(500), 11))
    assert read_server_hello(octets, LIMIT) == ServerHello(TLS1_2, SESSION)
    assert read_server_hello(octets[: 5 + len(fields)], LIMIT) == ServerHello(TLS1_2, SESSION)


@pytest.mark.parametrize("version", [SSL3, TLS1, TLS1_1, TLS1_2])
def test_hellos_of_earlier_versions(version: int) -> None:
    """Without extensions; a session that was given by a server of that version."""
    octets = hellos.client_hello(session_id=SESSION, version=version)
    assert read(octets) == ClientHello(version, SESSION, length=len(octets))
    assert read(octets).highest_version == version
    answer = hellos.server_hello(session_id=SESSION, version=version)
    assert read_server_hello(answer, LIMIT) == ServerHello(version, SESSION)


@pytest.mark.parametrize("version", [SSL2, SSL3, TLS1, TLS1_2])
def test_a_hello_of_ssl_2(version: int) -> None:
    for session_id in (b"", SESSION[:16]):
        octets = hellos.ssl2_hello(session_id, version=version)
        whole = read(octets + b"more")
        assert whole == ClientHello(version, session_id, is_ssl2=True, length=len(octets))
        check_segments(read_client_hello, octets, LIMIT, 1)
        cut = read_client_hello(octets, len(octets) - 1)
        assert isinstance(cut, Incomplete)
        assert cut.hello is not None
        assert cut.hello.session_id == session_id
        cut = read_client_hello(octets, 12)
        assert cut == Incomplete(True, 12)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", Refusal.NOT_TLS),
        (b"\x80\x2e\x02", Refusal.NOT_TLS),
        (b"\x80\x2e\x01\x05", Refusal.NOT_TLS),
        (hellos.ssl2_hello(SESSION[:4]), Refusal.HELLO),
        (hellos.ssl2_hello(ciphers=b""), Refusal.HELLO),
        (hellos.ssl2_hello(ciphers=b"\0\0"), Refusal.HELLO),
        (hellos.ssl2_hello(challenge=bytes(15)), Refusal.HELLO),
        (hellos.ssl2_hello(challenge=bytes(33)), Refusal.HELLO),
        (hellos.ssl2_hello(version=3), Refusal.HELLO),
        (b"\x80\x2f" + hellos.ssl2_hello()[2:], Refusal.HELLO),
        (b"\x16\x02", Refusal.NOT_TLS),
        (b"\x17\x03\x03\0\1\0", Refusal.NOT_TLS),
        (b"\x15\x03\x03\0\2\2\x28", Refusal.ALERT),
        (b"\x16\x03\x01\0\0", Refusal.RECORD),
        (b"\x16\x03\x01\x40\x01", Refusal.RECORD),
        (b"\x16\x03\x01\0\1\1\x17", Refusal.RECORD),
        (b"\x16\x03\x01\0\1\1\x16\x02", Refusal.RECORD),
        (hellos.records(hellos.message(b"", 2)), Refusal.HELLO),
        (hellos.records(hellos.message(b"")), Refusal.HELLO),
        (hellos.client_hello(version=0x0403), Refusal.HELLO),
        (hellos.client_hello(session_id=bytes(33)), Refusal.HELLO),
        (hellos.records(hellos.message(hellos.client_body()[:-1])), Refusal.HELLO),
        (hellos.records(hellos.message(hellos.client_body() + b"\0")), Refusal.HELLO),
        (hellos.records(hellos.message(hellos.client_body() + b"\0\1")), Refusal.HELLO),
        (hellos.records(hellos.message(hellos.client_body(b"\0") + b"\0")), Refusal.HELLO),
        (hellos.client_hello(b"\0\x10\0\1"), Refusal.HELLO),
        (hellos.client_hello(hellos.alpn(b"h2"), hellos.alpn(b"h2")), Refusal.HELLO),
        (hellos.client_hello(hellos.alpn(b"")), Refusal.HELLO),
        (hellos.client_hello(hellos.extension(16, b"\0\3\5h2")), Refusal.HELLO),
        (hellos.client_hello(hellos.extension(16, b"\0\3\2h2!")), Refusal.HELLO),
        (hellos.client_hello(hellos.versions()), Refusal.HELLO),
        (hellos.client_hello(hellos.extension(43, b"\3\3\4\3")), Refusal.HELLO),
        (hellos.client_hello(hellos.extension(0xFE0D, b"")), Refusal.HELLO),
        (hellos.client_hello(hellos.server_name()), Refusal.SERVER_NAME),
        (hellos.client_hello(hellos.server_name(b"a", b"b")), Refusal.SERVER_NAME),
        (hellos.client_hello(hellos.server_name(b"a", kind=1)), Refusal.SERVER_NAME),
        (hellos.client_hello(hellos.server_name(b"a\0b")), Refusal.SERVER_NAME),
        (hellos.client_hello(hellos.server_name(b"a b")), Refusal.SERVER_NAME),
        (hellos.client_hello(hellos.server_name(b"")), Refusal.SERVER_NAME),
        (hellos.client_hello(hellos.server_name(b"a" * 256)), Refusal.SERVER_NAME),
    ],
)
def test_what_is_refused(octets: bytes, reason: Refusal) -> None:
    assert refusal(octets) is reason


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (SAMPLES["curl"].client, Refusal.HELLO),
        (b"HTTP/1.1 400 Bad Request\r\n", Refusal.NOT_TLS),
        (b"\x15\x03\x01\0\2\2\x28", Refusal.ALERT),
        (hellos.server_hello(session_id=bytes(33)), Refusal.HELLO),
        (hellos.server_hello(version=0x0203), Refusal.HELLO),
        (hellos.server_hello(hellos.extension(43, b"")), Refusal.HELLO),
        (hellos.server_hello(b"\0\x2b\0"), Refusal.HELLO),
    ],
)
def test_what_is_refused_of_a_server(octets: bytes, reason: Refusal) -> None:
    refused = read_server_hello(octets, LIMIT)
    assert isinstance(refused, Refused)
    assert refused.reason is reason


def test_names_and_protocols() -> None:
    octets = hellos.client_hello(
        hellos.server_name(b"WWW.Example.com."),
        hellos.alpn(b"\x5a\x5a", b"h2", b"\xff"),
        hellos.versions(hellos.GREASE, TLS1_3),
        hellos.extension(hellos.GREASE, b"\0"),
        hellos.extension(0xFE0D, b"\1"),  # an inner hello's mark
    )
    hello = read(octets)
    assert (hello.server_name, hello.alpn) == ("www.example.com", ("h2", "\xff"))
    assert hello.supported_versions == (TLS1_3,)
    assert not hello.has_ech


def test_an_address_for_a_name_is_taken_as_it_is() -> None:
    """RFC 6066 3 allows names alone; some clients send what the user typed."""
    for name in (b"192.0.2.1", b"2001:DB8::1"):
        assert read(hellos.client_hello(hellos.server_name(name))).server_name == (
            name.decode().lower()
        )


def test_octets_may_be_changeable() -> None:
    octets = bytearray(SAMPLES["openssl, TLS 1.2, resumes"].client)
    hello = read_client_hello(octets, LIMIT)
    octets[:] = bytes(len(octets))
    assert hello == read(SAMPLES["openssl, TLS 1.2, resumes"].client)


def test_a_limit_within_extensions() -> None:
    """An extension that is whole must be right, though the message will not be."""
    octets = hellos.client_hello(hellos.server_name(b"a b"), hellos.extension(9, bytes(100)))
    refused = read_client_hello(octets, len(octets) - 1)
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.SERVER_NAME
