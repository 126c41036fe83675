# SPDX-License-Identifier: Apache-2.0
"""The seal: who may have written a datagram, and whether it was seen before."""

from __future__ import annotations

import contextlib

import pytest

from ssmb.constants import SEAL_SIZE
from ssmb.errors import BadTag, Replayed, SealError, TooOld, TooShort
from ssmb.seal import ENDED_KEYS_MAX, WINDOW, KeyRing, Opener, Sealer, tag

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


SENDING = bytes(range(16))  # what a test of opening does not look at


def ring_of(*keys: bytes) -> KeyRing:
    ring = KeyRing()
    for key in keys:
        ring.add(key, SENDING)
    return ring


def test_every_ready_connections_key_is_good_in_any_order_and_for_ever() -> None:
    ring = ring_of(KEY, OTHER_KEY)
    for number in range(1, 50):
        for key in (KEY, OTHER_KEY)[:: 1 if number % 3 else -1]:
            assert ring.open(sealed(number, key=key), now=1e6 * number) == BODY
            with pytest.raises(Replayed):
                ring.open(sealed(number, key=key), now=1e6 * number)


def test_the_sender_uses_the_key_of_the_connection_that_became_ready_last_and_still_is() -> None:
    first, second = bytes(16), bytes([1]) * 16
    ring = KeyRing()
    ring.add(KEY, first)
    assert ring.sealer is not None
    assert ring.sealer.seal(BODY) == Sealer(first).seal(BODY)
    ring.add(OTHER_KEY, second)
    assert ring.sealer.seal(BODY) == Sealer(second).seal(BODY)
    ring.end(OTHER_KEY, until=20.0)
    again = Sealer(first)
    again.seal(BODY)
    assert ring.sealer.seal(BODY) == again.seal(BODY)  # no counter is used twice
    ring.end(KEY, until=20.0)
    assert ring.sealer is not None  # none is ready: what the last ones left goes on


def test_an_ended_connections_key_is_good_until_the_peer_must_have_noticed() -> None:
    ring = ring_of(KEY, OTHER_KEY)
    assert ring.open(sealed(1, key=KEY), now=10.0) == BODY
    ring.end(KEY, until=25.0)
    assert ring.open(sealed(2, key=KEY), now=24.9) == BODY
    with pytest.raises(Replayed):
        ring.open(sealed(2, key=KEY), now=24.9)
    with pytest.raises(BadTag):
        ring.open(sealed(3, key=KEY), now=25.0)
    assert ring.open(sealed(1, key=OTHER_KEY), now=25.0) == BODY


def test_while_no_connection_is_ready_the_last_keys_are_good() -> None:
    ring = ring_of(KEY)
    ring.end(KEY, until=25.0)
    assert ring.open(sealed(1), now=1000.0) == BODY
    ring.add(OTHER_KEY, SENDING)
    with pytest.raises(BadTag):
        ring.open(sealed(2), now=1000.0)


def test_a_strangers_key_opens_nothing() -> None:
    with pytest.raises(BadTag):
        ring_of(KEY).open(sealed(1, key=OTHER_KEY), now=10.0)


def test_few_ended_keys_are_kept_of_a_pair_that_reconnects_again_and_again() -> None:
    ring = KeyRing()
    keys = [bytes([number]) * 16 for number in range(1, 21)]
    for key in keys:
        ring.add(key, SENDING)
        ring.end(key, until=1e9)
    good = []
    for key in keys:
        with contextlib.suppress(BadTag):
            ring.open(sealed(1, key=key), now=1.0)
            good.append(key)
    assert good == keys[-ENDED_KEYS_MAX - 1 :]


def test_each_right_seal_is_heard_and_no_wrong_one() -> None:
    ring = ring_of(KEY, OTHER_KEY)
    heard = [ring.heard()]
    for datagram in (sealed(1), sealed(1, key=OTHER_KEY), sealed(2)):
        ring.open(datagram, now=1.0)
        heard.append(ring.heard())
    assert len(set(heard)) == 4
    with pytest.raises(BadTag):
        ring.open(sealed(9, key=bytes(16)), now=1.0)
    assert ring.heard() == heard[-1]
