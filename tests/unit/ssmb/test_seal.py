# SPDX-License-Identifier: Apache-2.0
"""The seal: who may have written a datagram, and whether it was seen before."""

from __future__ import annotations

import pytest

from ssmb.constants import KEY_OVERLAP_S, SEAL_SIZE
from ssmb.errors import BadTag, Replayed, SealError, TooOld, TooShort
from ssmb.seal import WINDOW, KeyRing, Opener, Sealer, tag

KEY = bytes(range(16))
OTHER_KEY = bytes(range(1, 17))
BODY = b"QUERY"


def sealed(counter: int, lane: int = 0, key: bytes = KEY, body: bytes = BODY) -> bytes:
    """Seal by hand, with any counter."""
    octets = body + bytes([lane]) + counter.to_bytes(7, "big")
    return octets + tag(key, octets)


def test_siphash_is_siphash() -> None:
    # the first, second and last of the reference's vectors (key 00..0f, message 00..)
    assert tag(KEY, b"").hex() == "310e0edd47db6f72"
    assert tag(KEY, b"\0").hex() == "fd67dc93c539f874"
    assert tag(KEY, bytes(range(63))).hex() == "724506eb4c328a95"


def test_the_documents_sealed_query() -> None:
    query = bytes.fromhex("0100000000000101c6336407cb00710a9c400050060002000001e240")
    sealer = Sealer(bytes.fromhex("b5df48762b527d78447929fb6a3b152e"))
    assert sealer.seal(query) == query + bytes.fromhex("0000000000000001427484 72f59a525b")


# --- counters and lanes ----------------------------------------------------------------------


def test_counters_rise_from_one_in_each_lane() -> None:
    for lane in (0, 1, 255):
        sealer = Sealer(KEY, lane)
        for counter in (1, 2, 3):
            assert sealer.seal(BODY) == sealed(counter, lane)


@pytest.mark.parametrize("lane", [-1, 256])
def test_a_lane_is_one_octet(lane: int) -> None:
    with pytest.raises(ValueError, match="lane"):
        Sealer(KEY, lane)


def test_lanes_do_not_disturb_each_other() -> None:
    opener = Opener(KEY)
    assert opener.open(sealed(5000, lane=0)) == BODY
    assert opener.open(sealed(1, lane=1)) == BODY
    assert opener.open(sealed(1, lane=255)) == BODY
    with pytest.raises(Replayed):
        opener.open(sealed(1, lane=1))
    with pytest.raises(TooOld):
        opener.open(sealed(1, lane=0))


# --- the window ------------------------------------------------------------------------------


def test_a_datagram_opens_once() -> None:
    opener, sealer = Opener(KEY), Sealer(KEY)
    datagrams = [sealer.seal(BODY) for _ in range(3)]
    for datagram in datagrams:
        assert opener.open(datagram) == BODY
    for datagram in datagrams:
        with pytest.raises(Replayed):
            opener.open(datagram)


@pytest.mark.parametrize("first", [1, 2, WINDOW, WINDOW + 1, 70_000])
def test_any_order_within_the_window(first: int) -> None:
    opener = Opener(KEY)
    counters = [first + step for step in (0, 7, 3, 1, 2, 1023, 6, 1022, 4, 500)]
    for counter in counters:
        assert opener.open(sealed(counter)) == BODY
    for counter in counters:
        with pytest.raises(Replayed):
            opener.open(sealed(counter))


def test_the_edge_of_the_window() -> None:
    opener = Opener(KEY)
    opener.open(sealed(WINDOW + 10))
    assert opener.open(sealed(11)) == BODY  # 1023 behind: the last that is remembered
    with pytest.raises(Replayed):
        opener.open(sealed(11))
    with pytest.raises(TooOld):
        opener.open(sealed(10))


@pytest.mark.parametrize("step", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 1 << 40])
def test_a_step_forward_keeps_what_is_still_in_the_window(step: int) -> None:
    opener = Opener(KEY)
    opener.open(sealed(WINDOW))
    opener.open(sealed(WINDOW + step))
    expected = Replayed if step < WINDOW else TooOld
    with pytest.raises(expected):
        opener.open(sealed(WINDOW))
    between = WINDOW + step - 1
    if step > 1:
        assert opener.open(sealed(between)) == BODY


def test_the_last_counter_of_a_lane() -> None:
    opener = Opener(KEY)
    assert opener.open(sealed((1 << 56) - 1, lane=255)) == BODY
    with pytest.raises(TooOld):
        opener.open(sealed(1, lane=255))


# --- forged ----------------------------------------------------------------------------------


def test_any_changed_bit_is_seen() -> None:
    datagram = sealed(1)
    opener = Opener(KEY)
    for bit in range(len(datagram) * 8):
        forged = bytearray(datagram)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadTag):
            opener.open(bytes(forged))
    assert opener.open(datagram) == BODY


def test_any_other_length_is_seen() -> None:
    datagram = sealed(1)
    opener = Opener(KEY)
    for length in range(len(datagram)):
        with pytest.raises(SealError):
            opener.open(datagram[:length])
    with pytest.raises(BadTag):
        opener.open(datagram + b"\0")


def test_a_seal_around_nothing_is_too_short() -> None:
    with pytest.raises(TooShort):
        Opener(KEY).open(sealed(1, body=b""))
    with pytest.raises(TooShort):
        Opener(KEY).open(b"")
    assert Opener(KEY).open(sealed(1, body=b"x")) == b"x"
    assert len(sealed(1, body=b"")) == SEAL_SIZE


def test_another_key_opens_nothing() -> None:
    with pytest.raises(BadTag):
        Opener(OTHER_KEY).open(sealed(1))


def test_a_forged_datagram_moves_no_window() -> None:
    opener = Opener(KEY)
    opener.open(sealed(1))
    with pytest.raises(BadTag):
        opener.open(sealed(1 << 50, key=OTHER_KEY))
    with pytest.raises(BadTag):
        opener.open(sealed(2, key=OTHER_KEY))
    assert opener.open(sealed(2)) == BODY


# --- key change ------------------------------------------------------------------------------


def test_no_key_opens_nothing() -> None:
    with pytest.raises(BadTag):
        KeyRing().open(sealed(1), now=0.0)


def test_the_previous_key_is_good_for_two_seconds_more() -> None:
    ring = KeyRing()
    ring.install(KEY, now=10.0)
    assert ring.open(sealed(1), now=10.0) == BODY
    ring.install(OTHER_KEY, now=20.0)
    assert ring.open(sealed(1, key=OTHER_KEY), now=20.0) == BODY
    assert ring.open(sealed(2), now=20.0) == BODY
    assert ring.open(sealed(3), now=20.0 + KEY_OVERLAP_S - 0.001) == BODY
    with pytest.raises(BadTag):
        ring.open(sealed(4), now=20.0 + KEY_OVERLAP_S)
    assert ring.open(sealed(2, key=OTHER_KEY), now=30.0) == BODY


def test_the_first_key_has_none_before_it() -> None:
    ring = KeyRing()
    ring.install(KEY, now=10.0)
    with pytest.raises(BadTag):
        ring.open(sealed(1, key=OTHER_KEY), now=10.0)


def test_the_previous_key_still_refuses_replays() -> None:
    ring = KeyRing()
    ring.install(KEY, now=10.0)
    ring.open(sealed(1), now=10.0)
    ring.install(OTHER_KEY, now=11.0)
    with pytest.raises(Replayed):
        ring.open(sealed(1), now=11.5)
    ring.open(sealed(1, key=OTHER_KEY), now=11.5)
    with pytest.raises(Replayed):
        ring.open(sealed(1, key=OTHER_KEY), now=11.5)


def test_two_changes_within_two_seconds_leave_the_last_two_keys() -> None:
    ring = KeyRing()
    third = bytes(16)
    for key, now in ((KEY, 10.0), (OTHER_KEY, 10.5), (third, 11.0)):
        ring.install(key, now)
    assert ring.open(sealed(1, key=third), now=11.0) == BODY
    assert ring.open(sealed(1, key=OTHER_KEY), now=11.0) == BODY
    with pytest.raises(BadTag):
        ring.open(sealed(1), now=11.0)
