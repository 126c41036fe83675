# SPDX-License-Identifier: Apache-2.0
"""Datagrams of several messages: what may share one, and what is kept of a bad one."""

from __future__ import annotations

import pytest

from ssmb import codec
from ssmb import messages as m
from ssmb.constants import BATCHABLE, SSMB_MSG_MAX, Flag, MessageType
from ssmb.errors import MalformedMessage, RemoteProtocolError

EVERY = list(codec.TYPE_OF.items())
BOTH = pytest.mark.parametrize("version", [1, 2])
TYPES = pytest.mark.parametrize(("cls", "kind"), EVERY, ids=[kind.name for _, kind in EVERY])
STATS_FLOW = m.Stats(serial=0x101, bytes_in=1500)
STATS_OCTETS = codec.encode(STATS_FLOW, 1)
DELETE_OCTETS = codec.encode(m.Delete(serial=0x103), 1)


def test_an_empty_datagram_is_malformed() -> None:
    found, malformed, ignored = codec.decode_datagram(b"", 1)
    assert (found, ignored) == ([], 0)
    assert isinstance(malformed, MalformedMessage)


def test_what_stood_before_a_malformed_message_is_kept() -> None:
    datagram = STATS_OCTETS + DELETE_OCTETS[:-1]
    found, malformed, _ = codec.decode_datagram(datagram, 1)
    assert found == [STATS_FLOW]
    assert isinstance(malformed, RemoteProtocolError)


@pytest.mark.parametrize("kind", [0, 12, 63, 73, 127])
def test_an_unknown_type_below_128_ends_the_walk_as_malformed(kind: int) -> None:
    found, malformed, ignored = codec.decode_datagram(STATS_OCTETS + bytes([kind]) * 4, 1)
    assert found == [STATS_FLOW]
    assert str(malformed) == f"unknown message type {kind}"
    assert ignored == 0


@pytest.mark.parametrize("kind", [128, 255])
def test_an_experimental_type_ends_the_walk_in_silence(kind: int) -> None:
    datagram = STATS_OCTETS + bytes([kind]) * 4
    assert codec.decode_datagram(datagram, 1) == ([STATS_FLOW], None, 1)


@BOTH
@TYPES
def test_only_batchable_types_share_a_datagram(
    cls: type[m.Message], kind: MessageType, version: int
) -> None:
    encoded = codec.encode(cls(), version)
    found, malformed, _ = codec.decode_datagram(encoded + encoded, version)
    if kind in BATCHABLE:
        assert len(found) == 2
        assert malformed is None
    else:
        assert not found
        assert malformed is not None


def test_a_message_that_travels_alone_is_not_taken_from_behind_others() -> None:
    datagram = STATS_OCTETS + codec.encode(m.Query(), 1)
    found, malformed, _ = codec.decode_datagram(datagram, 1)
    assert found == [STATS_FLOW]
    assert malformed is not None


def test_a_parked_query_behind_others_is_malformed() -> None:
    parked = codec.encode(m.Query(flags=Flag.PARKED, frame=b"frame"), 1)
    found, malformed, _ = codec.decode_datagram(STATS_OCTETS + parked, 1)
    assert found == [STATS_FLOW]
    assert malformed is not None


def test_a_datagram_larger_than_one_frame_is_malformed() -> None:
    reaps = codec.encode(m.Reap(), 1) * 52  # 1456 octets
    found, malformed, _ = codec.decode_datagram(reaps, 1)
    assert not found
    assert malformed is not None


def test_decode_wants_exactly_one_message() -> None:
    for datagram in (STATS_OCTETS * 2, b"\x80\0\0\0"):
        with pytest.raises(MalformedMessage, match="expected one message"):
            codec.decode(datagram, 1)


# --- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "fitting"), [(1, 17), (2, 13)])
def test_so_many_deletes_fit_a_datagram(version: int, fitting: int) -> None:
    deletes = [m.Delete(serial=serial) for serial in range(1, fitting + 2)]
    first, second = codec.encode_batch(deletes, version)
    assert len(codec.decode_datagram(first, version).messages) == fitting
    assert len(codec.decode_datagram(second, version).messages) == 1
    assert len(first) <= SSMB_MSG_MAX


def test_a_batch_keeps_its_order_around_messages_that_travel_alone() -> None:
    batch: list[m.Message] = [
        m.Reap(serial=1),
        m.Timeout(serial=2),
        m.NewFlow(serial=3),
        m.Reap(serial=4),
    ]
    datagrams = codec.encode_batch(batch, 1)
    assert [len(codec.decode_datagram(one, 1).messages) for one in datagrams] == [2, 1, 1]
    assert [got for one in datagrams for got in codec.decode_datagram(one, 1).messages] == batch


def test_an_empty_batch_is_no_datagram() -> None:
    assert codec.encode_batch([], 1) == []


def test_messages_that_travel_alone_need_no_batch_before_them() -> None:
    assert len(codec.encode_batch([m.NewFlow(serial=1), m.NewFlow(serial=2)], 1)) == 2
