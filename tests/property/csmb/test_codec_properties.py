# SPDX-License-Identifier: Apache-2.0
"""What holds for every CSMB message, and for any octets at all."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmb import codec
from csmb.constants import CSMB_MSG_MAX, HEADER_SIZE, SMALLEST_MESSAGE, Flag, MessageType
from csmb.errors import MalformedMessage
from csmb.messages import Message, VsEntry
from support.octets.wire_strategies import csmb_message, numbers, versions, virtual_server

CLASSES = list(codec.TYPE_OF)
SMALLEST_ENTRY = 28


def with_length(octets: bytes, length: int) -> bytes:
    return octets[:6] + length.to_bytes(2, "big") + octets[8:]


@st.composite
def encoded(draw: st.DrawFn) -> tuple[bytes, int]:
    """The octets of some message, and their version."""
    version = draw(versions)
    message = draw(csmb_message(draw(st.sampled_from(CLASSES)), version))
    return codec.encode(message, version, 1, 1), version


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, int]:
    """A message with octets changed, put in or taken out; its length is often made to fit."""
    octets, _ = draw(encoded())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(octets)))
        until = draw(st.integers(at, min(at + 8, len(octets))))
        octets = octets[:at] + draw(st.binary(max_size=8)) + octets[until:]
    if len(octets) >= HEADER_SIZE and draw(st.booleans()):
        octets = octets[: len(octets) & ~3]
        octets = with_length(octets, len(octets))
    return octets, draw(versions)


@st.composite
def typed_garbage(draw: st.DrawFn) -> tuple[bytes, int]:
    """A header that is right, and then anything."""
    kind = draw(st.sampled_from(list(MessageType)))
    body = draw(st.binary(min_size=4, max_size=160))
    octets = kind.to_bytes(2, "big") + bytes(6) + body[: len(body) & ~3]
    return with_length(octets, len(octets)), draw(versions)


octets_of_any_kind = (
    damaged() | typed_garbage() | st.tuples(st.binary(max_size=CSMB_MSG_MAX + 8), versions)
)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@given(data=st.data(), serial_global=numbers(16), serial_bytype=numbers(16))
def test_every_message_survives(
    cls: type[Message], version: int, data: st.DataObject, serial_global: int, serial_bytype: int
) -> None:
    message = data.draw(csmb_message(cls, version))
    octets = codec.encode(message, version, serial_global, serial_bytype)
    assert codec.message_length(octets) == len(octets)
    decoded = codec.decode(octets, version)
    assert decoded == (message, serial_global, serial_bytype)
    assert type(decoded.message) is cls


@given(octets_of_any_kind)
def test_decode_raises_only_the_documented_error(case: tuple[bytes, int]) -> None:
    octets, version = case
    with contextlib.suppress(MalformedMessage):
        codec.decode(octets, version)


@given(octets_of_any_kind)
def test_what_is_decoded_encodes_to_the_same_octets_but_for_reserved_ones(
    case: tuple[bytes, int],
) -> None:
    octets, version = case
    try:
        decoded = codec.decode(octets, version)
    except MalformedMessage:
        return
    again = codec.encode(decoded.message, version, decoded.serial_global, decoded.serial_bytype)
    assert codec.decode(again, version) == decoded
    if octets[1] == MessageType.HELLO:  # what a later version put behind it is not kept
        octets = with_length(octets[: len(again)], len(again))
    assert len(again) == len(octets)
    for was, now in zip(octets, again, strict=True):
        assert now in (was, 0)


@given(st.binary(min_size=HEADER_SIZE, max_size=64))
def test_a_length_is_one_that_a_message_can_have_or_an_error(octets: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        length = codec.message_length(octets)
        assert SMALLEST_MESSAGE <= length <= CSMB_MSG_MAX
        assert length % 4 == 0


@given(st.data(), versions)
def test_a_list_of_any_length_is_split_and_joined(data: st.DataObject, version: int) -> None:
    entry = virtual_server(VsEntry, version, 16)
    # a few different ones, many times: what counts is where the list is cut
    kinds = data.draw(st.lists(entry, min_size=1, max_size=4))
    entries = data.draw(st.lists(st.sampled_from(kinds), max_size=150))
    parts = codec.split_list(entries, version)
    assert [entry for part in parts for entry in part.entries] == entries
    for number, part in enumerate(parts, 1):
        assert part.vs_total == len(entries)
        assert bool(part.flags & Flag.MORE) is (number < len(parts))
        assert part.entries or not entries
        octets = codec.encode(part, version, number, number)
        assert codec.decode(octets, version).message == part


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", list(MessageType), ids=lambda kind: kind.name)
def test_no_length_field_makes_it_allocate(kind: MessageType, version: int) -> None:
    header = kind.to_bytes(2, "big") + bytes(4) + CSMB_MSG_MAX.to_bytes(2, "big")
    cases = [header + b"\xff" * (CSMB_MSG_MAX - HEADER_SIZE), header + b"\xff" * 60]
    for octets in cases:
        with contextlib.suppress(MalformedMessage):
            codec.decode(octets, version)
    tracemalloc.start()
    try:
        for octets in cases:
            with contextlib.suppress(MalformedMessage):
                codec.decode(octets, version)
        assert tracemalloc.get_traced_memory()[1] < 32_768
    finally:
        tracemalloc.stop()


@given(versions)
def test_a_list_holds_no_more_entries_than_fit(version: int) -> None:
    """The walk takes a whole entry each step, so it ends."""
    octets = MessageType.VS_LIST.to_bytes(2, "big") + bytes(6 + CSMB_MSG_MAX - HEADER_SIZE)
    size = SMALLEST_ENTRY if version == 1 else 52
    fitting = (CSMB_MSG_MAX - 16) // size
    octets = with_length(octets[: 16 + fitting * size], 16 + fitting * size)
    octets = octets[:14] + fitting.to_bytes(2, "big") + octets[16:]
    decoded = codec.decode(octets, version).message
    assert len(getattr(decoded, "entries", ())) == fitting
