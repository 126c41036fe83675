# SPDX-License-Identifier: Apache-2.0
"""The conformance vectors, both ways."""

from __future__ import annotations

import pytest

from csmb import codec
from csmb.constants import MessageType
from csmb.messages import Message
from support.octets.vectors import Vector, load, message_fields

VECTORS = load("CSMB")
CLASS_OF = {kind.name: cls for cls, kind in codec.TYPE_OF.items()}
# lists: test_codec.py has their octets
WITHOUT_VECTOR = {MessageType.VS_LIST.name, MessageType.NODES.name}


def message(vector: Vector) -> Message:
    made: Message = CLASS_OF[vector.type](**message_fields(vector))
    return made


def serials(vector: Vector) -> tuple[int, int]:
    return vector.fields["serial_global"], vector.fields["serial_bytype"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_octets_decode_to_the_values(vector: Vector) -> None:
    decoded = codec.decode(vector.octets, vector.version)
    assert decoded == (message(vector), *serials(vector))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_values_encode_to_the_octets(vector: Vector) -> None:
    assert codec.encode(message(vector), vector.version, *serials(vector)) == vector.octets


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_msg_length_is_what_the_header_says(vector: Vector) -> None:
    assert codec.message_length(vector.octets) == len(vector.octets)
    assert codec.message_header(vector.octets) == (MessageType[vector.type], *serials(vector))


def test_every_message_type_has_a_vector() -> None:
    types = {kind.name for kind in MessageType}
    assert {vector.type for vector in VECTORS} == types - WITHOUT_VECTOR
