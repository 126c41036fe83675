# SPDX-License-Identifier: Apache-2.0
"""The seal's window against the simplest thing that is right: a set of what was seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssmb.errors import Replayed, SealError, TooOld
from ssmb.seal import WINDOW, KeyRing, Opener, Sealer, tag

KEY, OTHER_KEY = bytes(range(16)), bytes(16)

near = st.integers(0, 3 * WINDOW)
far = st.integers(0, (1 << 56) - 1)
edges = st.sampled_from([WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW - 1, 2 * WINDOW])
arrivals = st.lists(st.tuples(st.integers(0, 2), near | edges | far), max_size=60)


def sealed(lane: int, counter: int, body: bytes = b"body") -> bytes:
    octets = body + (lane << 56 | counter).to_bytes(8, "big")
    return octets + tag(KEY, octets)


def verdict(opener: Opener, datagram: bytes) -> type[SealError] | None:
    try:
        opener.open(datagram)
    except SealError as error:
        return type(error)
    return None


@given(arrivals)
def test_the_window_does_what_a_set_would(arrivals: list[tuple[int, int]]) -> None:
    opener = Opener(KEY)
    seen: dict[int, set[int]] = {}
    for lane, counter in arrivals:
        before = seen.setdefault(lane, set())
        expected: type[SealError] | None = None
        if before and counter + WINDOW <= max(before):
            expected = TooOld
        elif counter in before:
            expected = Replayed
        assert verdict(opener, sealed(lane, counter)) is expected
        before.add(counter)


@given(st.lists(st.integers(1, 40) | near, min_size=1, max_size=80), near, st.integers(0, 200))
def test_what_is_missing_is_what_did_not_come(arrivals: list[int], first: int, length: int) -> None:
    opener = Opener(KEY)
    for counter in arrivals:
        verdict(opener, sealed(0, counter))
    latest = max(arrivals)
    assert opener.latest() == latest
    last = min(first + length, latest)
    remembered = range(max(first, latest - WINDOW + 1, 1), last + 1)
    # the window may have forgotten one that came late: it is too old then, and did not come
    came = {each for at, each in enumerate(arrivals) if each > max(arrivals[: at + 1]) - WINDOW}
    assert opener.missing(first, last) == len(set(remembered) - came)


@given(
    st.lists(st.tuples(near, st.sampled_from([1, 2, 30, WINDOW, WINDOW + 1])), max_size=5),
    st.lists(near, max_size=30),
)
def test_so_it_does_after_counters_that_came_in_order(
    runs: list[tuple[int, int]], later: list[int]
) -> None:
    opener, seen = Opener(KEY), {0}
    assert verdict(opener, sealed(0, 0)) is None
    for first, count in runs:
        for counter in (*range(first, first + count), *later):
            expected: type[SealError] | None = None
            if counter + WINDOW <= max(seen):
                expected = TooOld
            elif counter in seen:
                expected = Replayed
            assert verdict(opener, sealed(0, counter)) is expected
            seen.add(counter)


@given(st.binary(min_size=1, max_size=1436), st.integers(0, 255), st.integers(1, 5))
def test_what_is_sealed_opens(body: bytes, lane: int, count: int) -> None:
    sealer, opener = Sealer(KEY, lane), Opener(KEY)
    for _ in range(count):
        assert opener.open(sealer.seal(body)) == body


@given(st.binary(max_size=1500))
def test_any_octets_raise_only_the_documented_error(octets: bytes) -> None:
    for opened in (Opener(KEY).open, lambda given: KeyRing().open(given, 1.0)):
        try:
            opened(octets)
        except SealError:
            continue
        raise AssertionError("octets that nobody sealed were opened")


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_changed_datagram_does_not_open(body: bytes, data: st.DataObject) -> None:
    datagram = Sealer(KEY).seal(body)
    at = data.draw(st.integers(0, len(datagram) - 1))
    changed = bytearray(datagram)
    changed[at] ^= data.draw(st.integers(1, 255))
    opener = Opener(KEY)
    for forged in (bytes(changed), datagram[:at], datagram + b"\0"):
        try:
            opener.open(forged)
        except SealError:
            continue
        raise AssertionError("a changed datagram was opened")
    assert opener.open(datagram) == body


STEPS = st.lists(
    st.tuples(st.sampled_from(("ready", "ended", "nothing")), st.integers(0, 3), st.floats(0, 5)),
    max_size=20,
)


@given(STEPS)
def test_two_ends_that_saw_connections_in_any_order_open_what_the_other_seals(
    steps: list[tuple[str, int, float]],
) -> None:
    """12.4, against a list of the keys: what is ready at the receiver opens, whatever else is."""
    ring, now = KeyRing(), 0.0
    ready: dict[int, bytes] = {}
    for number, (step, which, passed) in enumerate(steps, 1):
        now += passed
        if step == "ready" and which not in ready:
            ready[which] = number.to_bytes(16, "big")
            ring.add(ready[which], ready[which])
        elif step == "ended" and which in ready:
            ring.end(ready.pop(which), now + 15.0)
        for key in ready.values():
            # a sender of its own lane: nothing here is a replay
            assert ring.open(Sealer(key, lane=number).seal(b"body"), now) == b"body"
        if ready:
            assert ring.sealer is not None
            # of one that is ready, so that the other end opens it
            assert ring.sealer.key == list(ready.values())[-1]
