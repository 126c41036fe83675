# SPDX-License-Identifier: Apache-2.0
"""TLS hellos: any octets, any records and segments, in a bounded number of passes."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from packets.tls import ClientHello, Incomplete, ServerHello, read_client_hello, read_server_hello
from packets.tls_shortening import shortened
from support.octets import hellos
from support.octets.extraction_checks import (
    CHOICE_SIZE,
    LIMIT_MAX,
    Counted,
    check_segments,
    check_tls,
)

SAMPLES = [
    octets for sample in hellos.samples().values() for octets in (sample.client, sample.server)
]
choices = st.binary(min_size=CHOICE_SIZE, max_size=CHOICE_SIZE)
session_ids = st.binary(max_size=32)
versions = st.integers(0x0300, 0x0304)
names = st.text("aZ0-_.", min_size=1, max_size=20).map(lambda text: text + "a")
protocols = st.lists(st.sampled_from((b"h2", b"http/1.1", b"\x0a\x0a", b"\xff")), max_size=4)
unknown = st.builds(hellos.extension, st.integers(0x100, 0xF000), st.binary(max_size=40))


@st.composite
def made(draw: st.DrawFn) -> tuple[bytes, ClientHello]:
    """A ClientHello in any records, and what it says."""
    session_id, name, offered = draw(session_ids), draw(names), draw(protocols)
    numbers = draw(st.lists(versions, min_size=1, max_size=4))
    extensions = [
        hellos.server_name(name.encode()),
        hellos.alpn(*offered),
        hellos.versions(hellos.GREASE, *numbers),
        *draw(st.lists(unknown, max_size=3, unique_by=lambda octets: octets[:2])),
    ]
    fields = hellos.client_body(*draw(st.permutations(extensions)), session_id=session_id)
    lengths = draw(st.lists(st.integers(1, 60), max_size=8))
    octets = hellos.records(hellos.message(fields), *lengths)
    said = tuple(each.decode("latin-1") for each in offered if each != b"\x0a\x0a")
    hello = ClientHello(0x0303, session_id, name.lower(), said, tuple(numbers), length=len(octets))
    return octets, hello


@given(case=made(), size=st.integers(1, 50))
def test_what_is_right_is_read(case: tuple[bytes, ClientHello], size: int) -> None:
    octets, hello = case
    assert read_client_hello(octets + b"more", LIMIT_MAX) == hello
    check_segments(read_client_hello, octets, LIMIT_MAX, size)


@given(session_id=session_ids, version=versions, chosen=st.none() | versions)
def test_what_a_server_says(session_id: bytes, version: int, chosen: int | None) -> None:
    choice = [] if chosen is None else [hellos.extension(43, chosen.to_bytes(2, "big"))]
    octets = hellos.server_hello(*choice, session_id=session_id, version=version)
    used = version if chosen is None else chosen
    expected = ServerHello(used, session_id if used < 0x0304 else b"")
    assert read_server_hello(octets, LIMIT_MAX) == expected


@given(data=st.data(), choice=choices, sample=st.sampled_from(SAMPLES))
def test_damaged_hellos(data: st.DataObject, choice: bytes, sample: bytes) -> None:
    octets = sample
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets)))
        taken = data.draw(st.sampled_from((0, 1, 2, 40)))
        octets = octets[:at] + data.draw(st.binary(max_size=3)) + octets[at + taken :]
    check_tls(choice + octets)


@given(data=st.binary(max_size=200))
def test_any_octets(data: bytes) -> None:
    check_tls(data)
    check_tls(b"\x3f\xff\x07\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03" + data)


def test_the_work_is_bounded() -> None:
    """One octet in each record, one octet at a time: the worst that a client can do."""
    message = hellos.message(hellos.client_body(hellos.extension(21, bytes(600))))
    octets = hellos.records(message, *[1] * len(message))
    Counted.looked_at = passes = 0
    result: Incomplete | None = None
    for end in range(len(octets)):
        before = Counted.looked_at
        cut = read_client_hello(Counted(octets[:end]), LIMIT_MAX, result)
        assert isinstance(cut, Incomplete)
        result = cut
        passes += Counted.looked_at > before
    assert isinstance(read_client_hello(octets, LIMIT_MAX, result), ClientHello)
    most = math.log(len(message), 6 / 5) + 24  # so many octets come until its length is known
    assert 20 < passes < most
    assert Counted.looked_at < 2 * most * len(octets)


def test_a_hello_in_two_segments_is_looked_at_twice() -> None:
    octets = hellos.samples()["chromium"].client
    first = read_client_hello(octets[:1460], LIMIT_MAX)
    assert isinstance(first, Incomplete)
    assert first.needed == len(octets)
    assert read_client_hello(octets[:-1], LIMIT_MAX, first) is first


@given(made(), st.integers(0, 700))
def test_a_hello_that_is_too_long_keeps_what_nodes_are_chosen_by(
    case: tuple[bytes, ClientHello], limit: int
) -> None:
    octets, hello = case
    message, at = b"", 0
    while at < len(octets):  # out of its records
        length = int.from_bytes(octets[at + 3 : at + 5], "big")
        message += octets[at + 5 : at + 5 + length]
        at += 5 + length
    short = shortened(message, limit)
    assert len(short) <= limit
    if limit >= len(message):
        assert short == message
    found = read_client_hello(hellos.records(short), LIMIT_MAX)
    if limit >= 250:  # more than the three extensions have, and what is before them
        assert isinstance(found, ClientHello)
        kept, had = (
            (each.session_id, each.server_name, each.alpn, each.supported_versions)
            for each in (found, hello)
        )
        assert kept == had
