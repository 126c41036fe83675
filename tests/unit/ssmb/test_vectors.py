# SPDX-License-Identifier: Apache-2.0
"""The conformance vectors, both ways."""

from __future__ import annotations

import pytest

from ssmb import codec
from ssmb.constants import MessageType
from ssmb.messages import Message
from support.octets.vectors import Vector, load, message_fields

VECTORS = load("SSMB")
CLASS_OF = {kind.name: cls for cls, kind in codec.TYPE_OF.items()}


def message(vector: Vector) -> Message:
    made: Message = CLASS_OF[vector.type](**message_fields(vector))
    return made


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_octets_decode_to_the_values(vector: Vector) -> None:
    assert codec.decode(vector.octets, vector.version) == message(vector)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_values_encode_to_the_octets(vector: Vector) -> None:
    assert codec.encode(message(vector), vector.version) == vector.octets


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_every_field_of_the_vector_is_one_of_the_message(vector: Vector) -> None:
    fields = set(message(vector)._fields) - {"frame"}
    assert set(message_fields(vector)) == fields


def test_every_message_type_has_a_vector() -> None:
    assert {vector.type for vector in VECTORS} == {kind.name for kind in MessageType}
