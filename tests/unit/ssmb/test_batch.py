# SPDX-License-Identifier: Apache-2.0
"""What waits for companions, and for how long."""

from __future__ import annotations

from ssmb import codec
from ssmb.batch import Batcher
from ssmb.constants import BATCH_DELAY_MS, SSMB_MSG_MAX
from ssmb.messages import Delete, Stats

DELAY_S = BATCH_DELAY_MS / 1000
PER_DATAGRAM = SSMB_MSG_MAX // 80  # version 1


def serials(datagrams: list[bytes], version: int = 1) -> list[list[int]]:
    found = []
    for datagram in datagrams:
        messages = codec.decode_datagram(datagram, version).messages
        found.append([each.serial for each in messages if isinstance(each, Delete | Stats)])
        assert len(found[-1]) == len(messages)
    return found


def test_nothing_waits_at_first() -> None:
    batcher = Batcher(1)
    assert batcher.get_timer() is None
    assert batcher.due(1.0) == []
    assert batcher.flush() == []


def test_messages_leave_together_after_the_delay_of_the_first() -> None:
    batcher = Batcher(1)
    batcher.add(Delete(serial=1), now=5.0)
    batcher.add(Stats(serial=2), now=5.0 + DELAY_S / 2)
    assert batcher.get_timer() == 5.0 + DELAY_S
    assert batcher.due(5.0 + DELAY_S / 2) == []
    assert serials(batcher.due(5.0 + DELAY_S)) == [[1, 2]]
    assert batcher.get_timer() is None
    assert batcher.due(9.0) == []


def test_a_full_datagram_leaves_at_once_and_the_rest_waits_its_own_time() -> None:
    batcher = Batcher(1)
    for serial in range(PER_DATAGRAM):
        batcher.add(Delete(serial=serial), now=5.0)
    assert batcher.due(5.0) == []
    batcher.add(Delete(serial=99), now=5.004)
    assert serials(batcher.due(5.004)) == [list(range(PER_DATAGRAM))]
    assert batcher.get_timer() == 5.004 + DELAY_S
    assert serials(batcher.due(5.004 + DELAY_S)) == [[99]]


def test_flush_empties_it_before_its_time() -> None:
    batcher = Batcher(1)
    for serial in range(PER_DATAGRAM + 1):
        batcher.add(Delete(serial=serial), now=5.0)
    assert [len(one) for one in serials(batcher.flush())] == [PER_DATAGRAM, 1]
    assert batcher.get_timer() is None
    assert batcher.flush() == []


def test_it_batches_as_encode_batch_does() -> None:
    for version in (1, 2):
        batch = [Delete(serial=serial) for serial in range(1, 60)]
        batcher = Batcher(version)
        for message in batch:
            batcher.add(message, now=1.0)
        assert batcher.flush() == codec.encode_batch(batch, version)


# --- messages that are encoded already ------------------------------------------------------------

SIZE = 104  # of a DELETE of version 2
FIT = SSMB_MSG_MAX // SIZE


def deletes(first: int, count: int) -> bytes:
    return b"".join(codec.encode(Delete(serial=first + n), 2) for n in range(count))


def test_finished_messages_wait_like_others() -> None:
    batcher = Batcher(2)
    batcher.add_finished(deletes(1, 2), SIZE, now=5.0)
    assert batcher.get_timer() == 5.0 + DELAY_S
    batcher.add(Delete(serial=3), now=5.001)
    batcher.add_finished(deletes(4, 1), SIZE, now=5.002)
    assert batcher.due(5.0) == []
    assert serials(batcher.due(5.0 + DELAY_S), version=2) == [[1, 2, 3, 4]]
    assert batcher.get_timer() is None


def test_finished_messages_fill_datagrams() -> None:
    batcher = Batcher(2)
    batcher.add_finished(deletes(1, 2 * FIT + 1), SIZE, now=5.0)
    full = serials(batcher.due(5.0), version=2)
    assert full == [list(range(1, FIT + 1)), list(range(FIT + 1, 2 * FIT + 1))]
    assert batcher.get_timer() == 5.0 + DELAY_S
    assert serials(batcher.due(5.0 + DELAY_S), version=2) == [[2 * FIT + 1]]


def test_what_is_full_to_the_last_octet_leaves_when_the_next_one_comes_or_is_due() -> None:
    batcher = Batcher(2)
    batcher.add_finished(deletes(1, FIT), SIZE, now=5.0)
    assert batcher.get_timer() == 5.0 + DELAY_S
    batcher.add_finished(deletes(FIT + 1, 1), SIZE, now=6.0)
    assert serials(batcher.due(5.0), version=2) == [list(range(1, FIT + 1))]
    assert batcher.get_timer() == 6.0 + DELAY_S, "the rest waits its own time"


def test_finished_messages_follow_what_waits() -> None:
    batcher = Batcher(2)
    for serial in range(1, FIT):
        batcher.add(Delete(serial=serial), now=5.0)
    batcher.add_finished(deletes(FIT, 3), SIZE, now=5.0)
    assert serials(batcher.flush(), version=2) == [list(range(1, FIT + 1)), [FIT + 1, FIT + 2]]


def test_no_finished_message_starts_no_timer() -> None:
    batcher = Batcher(2)
    batcher.add_finished(b"", SIZE, now=5.0)
    assert batcher.get_timer() is None
    assert batcher.flush() == []
