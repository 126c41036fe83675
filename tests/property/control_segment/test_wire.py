# SPDX-License-Identifier: Apache-2.0
"""The hot path's octets are the codec's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control_segment.wire import (
    KEY_END,
    KEY_SIZE,
    head_flags,
    pack_translation,
    reply_head,
    reply_octets,
    session_key,
    signature_of,
    slow_reply,
    unpack_translation,
)
from ssmb.codec import encode
from ssmb.constants import PARKED_FRAME_MAX, Flag
from ssmb.messages import FlowSignature, Query, Translation

ADDRESS = st.binary(min_size=16, max_size=16)
U8, U16, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
SIGNATURE = st.builds(FlowSignature, ADDRESS, ADDRESS, U16, U16, U8, U8)
TRANSLATION = st.builds(
    Translation,
    ADDRESS, ADDRESS, U16, U16, ADDRESS, U32, U32, U32, U16, st.integers(-128, 127), U8,
)  # fmt: skip
REPLY_FLAGS = st.integers(0, 0x3F)


@given(SIGNATURE, U32, U8, U8, U32)
def test_a_key_is_the_same_octets_of_the_query(
    signature: FlowSignature, serial: int, tcp_flags: int, detail: int, timestamp: int
) -> None:
    query = encode(Query(0, 0, serial, *signature, tcp_flags, detail, timestamp), 2)
    key = session_key(*signature.session)
    assert query[8:KEY_END] == key
    assert len(key) == KEY_SIZE
    assert signature_of(key, signature.tos) == signature
    assert int.from_bytes(query[4:8], "big") == serial
    assert query[46] == tcp_flags


@given(SIGNATURE, U32, TRANSLATION, U8, REPLY_FLAGS, st.binary(max_size=PARKED_FRAME_MAX))
def test_a_copied_reply_is_the_encoded_one(
    signature: FlowSignature,
    serial: int,
    translation: Translation,
    error: int,
    flags: int,
    frame: bytes,
) -> None:
    parked = Flag.PARKED if frame else 0
    query = encode(Query(0, Flag.RETRY | parked, serial, *signature, 2, frame=frame), 2)
    head, tail = reply_head(error, flags), pack_translation(translation)
    assert reply_octets(query, head, tail) == slow_reply(
        signature, serial, head, tail, version=2, frame=frame
    )


@given(TRANSLATION, U8, REPLY_FLAGS)
def test_heads_and_tails_can_be_read_again(
    translation: Translation, error: int, flags: int
) -> None:
    assert unpack_translation(pack_translation(translation)) == translation
    assert head_flags(reply_head(error, flags)) == flags
