# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import threading

from api.memory import set_apart, without_collection


def test_there_is_no_collection_until_the_last_one_who_wants_none_is_done() -> None:
    inside, end = threading.Event(), threading.Event()

    def other() -> None:
        with without_collection():
            inside.set()
            end.wait()

    thread = threading.Thread(target=other)
    with without_collection():
        assert not gc.isenabled()
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    end.set()
    thread.join()
    assert gc.isenabled()


def test_a_collection_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with without_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_set_apart_is_looked_at_again_afterwards() -> None:
    before = gc.get_freeze_count()
    with set_apart():
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0
