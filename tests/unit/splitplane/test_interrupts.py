# SPDX-License-Identifier: Apache-2.0
"""Signals that end a laboratory: the first one ends it, no later one disturbs the end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from splitplane.interrupts import SIGNALS, Signals, cancelling_once, ending_once, ignored


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


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_cancels_a_task_and_the_others_do_nothing(number: signal.Signals) -> None:
    """And interrupts no other: asyncio may be anywhere when a signal comes."""
    taken_down = False

    async def run() -> None:
        nonlocal taken_down
        with cancelling_once():
            try:
                os.kill(os.getpid(), number)
                await asyncio.Event().wait()
            finally:
                for again in SIGNALS:
                    os.kill(os.getpid(), again)
                await asyncio.sleep(0)
                taken_down = True

    with ending_once():
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(run())
        os.kill(os.getpid(), number)
    assert taken_down


def test_a_task_that_no_signal_cancelled_leaves_them_as_they_were() -> None:
    async def run() -> None:
        with cancelling_once():
            pass

    with ending_once():
        asyncio.run(run())
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("block", [ending_once, ignored, Signals().handled])
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


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_wait_once(number: signal.Signals) -> None:
    signals, ended = Signals(), False
    with signals.handled():
        try:
            with signals.ending_a_wait():
                os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            ended = True
            os.kill(os.getpid(), number)  # nothing waits any more
    assert ended
    assert signals.ended


def test_a_signal_between_two_waits_ends_the_second() -> None:
    signals = Signals()
    with signals.handled():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), signals.ending_a_wait():
            pytest.fail("it began")


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "meanwhile"])
def test_a_loop_is_told(is_before: bool) -> None:
    signals = Signals()

    async def run() -> None:
        over = asyncio.Event()
        handlers: dict[int, Callable[[], object]] = dict.fromkeys(map(int, SIGNALS), over.set)
        with signals.telling(asyncio.get_running_loop(), handlers):
            if not is_before:
                os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(over.wait(), 10)

    with signals.handled():
        if is_before:
            os.kill(os.getpid(), signal.SIGINT)
        asyncio.run(run())
    assert signals.ended


def test_sighup_does_not_mean_the_end_to_a_loop() -> None:
    signals, told = Signals(), asyncio.Event()

    async def run() -> None:
        handlers: dict[int, Callable[[], object]] = {signal.SIGHUP: told.set}
        with signals.telling(asyncio.get_running_loop(), handlers):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(told.wait(), 10)

    with signals.handled():
        asyncio.run(run())
    assert not signals.ended
