# SPDX-License-Identifier: Apache-2.0
"""Signals that end a laboratory: the first one ends it, no later one disturbs the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from splitplane.interrupts import SIGNALS, ending_once, ignored


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_and_the_others_do_nothing(number: signal.Signals) -> None:
    ended = taken_down = False
    with ending_once():
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            ended = True
            for again in SIGNALS:
                os.kill(os.getpid(), again)
            taken_down = True
    assert ended
    assert taken_down


def test_what_is_started_after_the_first_signal_does_not_end_by_the_terminals() -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    with ending_once(), ignored():
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    assert done.stdout == "alive\n"


@pytest.mark.parametrize("block", [ending_once, ignored])
def test_afterwards_signals_mean_what_they_meant(
    block: Callable[[], AbstractContextManager[None]],
) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with block():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_ignoring_in_another_thread_does_nothing() -> None:
    done: list[bool] = []

    def work() -> None:
        with ignored():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
