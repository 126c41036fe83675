# SPDX-License-Identifier: Apache-2.0
"""RECALL and RECORDS: what is said is what comes, and only of CSs that have the key (11.10)."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_segment.group import recall_messages
from control_segment.group.recall_messages import (
    EVERYTHING,
    NAME_MAX,
    RECALL_TYPE,
    RECORDS_TYPE,
    ROOM,
    Recall,
    Records,
    decode,
    encode_recall,
    encode_records,
)
from ssmb.addresses import from_text
from ssmb.constants import SSMB_DGRAM_MAX
from support.octets.protocol_tables import DOCUMENTS

DOCUMENT: Final = DOCUMENTS / "state-sharing.md"
OCTET, WORD16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
WORD32, WORD64 = st.integers(0, 0xFFFF_FFFF), st.integers(0, (1 << 64) - 1)
RECALLS = st.builds(Recall, OCTET, WORD32, WORD16, WORD16, WORD32, WORD64, WORD32, WORD32, WORD32)


@st.composite
def records(draw: st.DrawFn) -> Records:
    name = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
    size = draw(st.integers(1, 200))
    room = (ROOM - len(name.encode())) // size
    octets = draw(st.binary(min_size=0, max_size=3))
    content = (octets * size)[: size * min(len(octets), room)]
    return Records(
        draw(st.booleans()), draw(st.booleans()), draw(OCTET), draw(WORD32), draw(WORD16),
        draw(WORD16), draw(WORD32), draw(WORD64), draw(WORD32), draw(WORD32), size, name, content,
    )  # fmt: skip


@given(RECALLS)
def test_a_question_is_decoded_as_it_was(message: Recall) -> None:
    assert decode(encode_recall(message)) == message


@given(records())
def test_an_answer_is_decoded_as_it_was(message: Records) -> None:
    octets = encode_records(message)
    assert decode(octets) == message
    assert len(octets) + 16 <= SSMB_DGRAM_MAX


def test_the_longest_fits_into_a_datagram() -> None:
    name = "n" * NAME_MAX
    full = Records(False, False, 1, 0, 0, 0, 0, 0, 0, 0, 1, name, bytes(ROOM - NAME_MAX))
    assert len(encode_records(full)) + 16 == SSMB_DGRAM_MAX


@given(st.sampled_from([RECALL_TYPE, RECORDS_TYPE, 73, 72]), st.binary(max_size=120))
def test_whatever_comes_is_a_message_or_none(kind: int, octets: bytes) -> None:
    message = decode(bytes([kind]) + octets)
    if message is not None:
        assert kind == (RECALL_TYPE if isinstance(message, Recall) else RECORDS_TYPE)
    if isinstance(message, Records):
        assert not message.records or len(message.records) % message.record_size == 0


@pytest.mark.parametrize("cut", range(1, 60))
def test_one_that_was_cut_off_is_none(cut: int) -> None:
    octets = encode_records(Records(False, True, 1, 0, 0, 0, 0, 0, 0, 0, 38, "table", bytes(38)))
    found = decode(octets[:-cut])
    assert found is None or (isinstance(found, Records) and found.records == b"")


def examples() -> list[bytes]:
    text = DOCUMENT.read_text().split("## 11.10 RECALL", 1)[1]
    return [bytes.fromhex(part.split("```", 1)[0]) for part in text.split("```hex\n")[1:]]


def test_the_examples_of_the_document_are_what_is_sent() -> None:
    asked, told = examples()
    assert asked == encode_recall(Recall(16, 1, 2, 3, 0x01020304, 5, 0x0A0B0C0D, 0, EVERYTHING))
    client = from_text("198.51.100.1") + from_text("10.1.1.3") + bytes.fromhex("1f90 01000002")
    message = Records(
        True, True, 1, 0, 1, 3, 0x05060708, 6, 0x0A0B0C0D, 0x0100003C, 38,
        "virtual server 192.0.2.10 80 tcp", client,
    )  # fmt: skip
    assert told == encode_records(message)
    assert recall_messages.decode(told) == message
