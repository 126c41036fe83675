# SPDX-License-Identifier: Apache-2.0
"""What holds for every SSMB message, and for any octets at all."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmb import codec
from ssmb.constants import BATCHABLE, SSMB_DGRAM_MAX, SSMB_MSG_MAX, MessageType
from ssmb.errors import MalformedMessage
from ssmb.messages import Message
from support.octets.wire_strategies import ssmb_message, versions

CLASSES = list(codec.TYPE_OF)
BATCHABLE_CLASSES = [cls for cls, kind in codec.TYPE_OF.items() if kind in BATCHABLE]
SMALLEST = min(codec.size_of(kind, 1) for kind in MessageType)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[bytes, int]:
    """The octets of some message, and their version."""
    version = draw(versions)
    message = draw(ssmb_message(draw(st.sampled_from(CLASSES)), version))
    return codec.encode(message, version), version


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, int]:
    """A message with octets changed, put in or taken out: it looks like one for a while."""
    octets, version = draw(encoded())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(octets)))
        until = draw(st.integers(at, min(at + 8, len(octets))))
        octets = octets[:at] + draw(st.binary(max_size=8)) + octets[until:]
    return octets, draw(versions) if draw(st.booleans()) else version


@st.composite
def typed_garbage(draw: st.DrawFn) -> tuple[bytes, int]:
    """A known type and then anything."""
    kind = draw(st.sampled_from(list(MessageType)))
    return bytes([kind]) + draw(st.binary(max_size=160)), draw(versions)


anything = st.tuples(st.binary(max_size=SSMB_DGRAM_MAX + 8), versions)
octets_of_any_kind = damaged() | typed_garbage() | anything


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_every_message_survives(cls: type[Message], version: int, data: st.DataObject) -> None:
    message = data.draw(ssmb_message(cls, version))
    octets = codec.encode(message, version)
    assert octets[0] == codec.TYPE_OF[cls]
    assert len(octets) <= SSMB_MSG_MAX
    assert codec.decode(octets, version) == message
    assert type(codec.decode(octets, version)) is cls


@given(data=st.data(), version=versions)
def test_a_batch_comes_back_in_order(data: st.DataObject, version: int) -> None:
    one = st.sampled_from(BATCHABLE_CLASSES).flatmap(lambda cls: ssmb_message(cls, version))
    batch = data.draw(st.lists(one, max_size=40))
    back = []
    for datagram in codec.encode_batch(batch, version):
        assert 0 < len(datagram) <= SSMB_MSG_MAX
        found, malformed, ignored = codec.decode_datagram(datagram, version)
        assert malformed is None
        assert not ignored
        back += found
    assert back == batch


@given(octets_of_any_kind)
def test_decode_raises_only_the_documented_error(case: tuple[bytes, int]) -> None:
    octets, version = case
    with contextlib.suppress(MalformedMessage):
        codec.decode(octets, version)


@given(octets_of_any_kind)
def test_decode_datagram_never_raises_and_never_reads_more_than_is_there(
    case: tuple[bytes, int],
) -> None:
    octets, version = case
    found, malformed, ignored = codec.decode_datagram(octets, version)
    assert malformed is None or isinstance(malformed, MalformedMessage)
    assert ignored in (0, 1)
    assert len(found) <= len(octets) // SMALLEST  # each step of the walk consumed octets
    assert sum(len(codec.encode(message, version)) for message in found) <= len(octets)


@given(octets_of_any_kind)
def test_what_is_decoded_encodes_to_the_same_octets_but_for_reserved_ones(
    case: tuple[bytes, int],
) -> None:
    octets, version = case
    found, malformed, ignored = codec.decode_datagram(octets, version)
    again = b"".join(codec.encode(message, version) for message in found)
    if malformed is None and not ignored:
        assert len(again) == len(octets)
    for was, now in zip(octets, again, strict=False):
        assert now in (was, 0)
    assert codec.decode_datagram(again, version).messages == found or not again


@given(encoded(), st.data())
def test_a_cut_datagram_loses_only_its_last_message(
    case: tuple[bytes, int], data: st.DataObject
) -> None:
    octets, version = case
    length = data.draw(st.integers(0, len(octets) - 1))
    found, malformed, _ = codec.decode_datagram(octets[:length], version)
    # a PARKED frame has no length of its own: what was cut from it nobody can miss
    if not found:
        assert malformed is not None
    assert len(found) <= 1


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", list(MessageType), ids=lambda kind: kind.name)
def test_no_length_field_makes_it_allocate(kind: MessageType, version: int) -> None:
    addr16 = b"\x40" if version == 2 else b"\0"  # the flags of a message that is looked into
    octets = bytes([kind, 0]) + addr16 + b"\xff" * (codec.size_of(kind, version) - 3)
    codec.decode_datagram(octets, version)
    tracemalloc.start()
    try:
        codec.decode_datagram(octets, version)
        assert tracemalloc.get_traced_memory()[1] < 16_384
    finally:
        tracemalloc.stop()
