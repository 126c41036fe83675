# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from admin.quiet_log import INTERVAL_S, LINES, QuietLog


def test_a_few_lines_of_each_kind_and_then_how_many_more() -> None:
    log = QuietLog()
    for number in range(LINES + 90_000):
        log.add("strangers", f"stranger {number}", 5.0)
    log.add("others", "another line", 5.0)
    assert log.take() == [*(f"stranger {number}" for number in range(LINES)), "another line"]
    assert log.get_timer() == 5.0 + INTERVAL_S
    log.handle_timer(5.0 + INTERVAL_S - 0.1)
    assert log.take() == []
    log.handle_timer(5.0 + INTERVAL_S)
    assert log.take() == ["90,000 more lines like these in 60 s: strangers"]
    assert log.get_timer() is None


def test_the_next_interval_has_lines_again() -> None:
    log = QuietLog()
    for _ in range(LINES + 1):
        log.add("strangers", "one", 0.0)
    log.take()
    log.add("strangers", "a new one", INTERVAL_S)
    assert log.take() == ["1 more lines like these in 60 s: strangers", "a new one"]


def test_what_is_rare_is_never_left_out() -> None:
    log = QuietLog()
    for number in range(100):
        log.add("strangers", "now and then", number * INTERVAL_S / LINES)
    assert len(log.take()) == 100
    assert log.get_timer() is None
