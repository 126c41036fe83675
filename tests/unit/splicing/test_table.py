# SPDX-License-Identifier: Apache-2.0
"""The transition table is whole."""

from __future__ import annotations

from packets.parse import ACK, RST, SYN
from packets.tcp import Segment
from splicing.connection import Connection
from splicing.instructions import Agreed, Settings, Side, Verdict
from splicing.table import TABLE, Action, Input, State


def test_every_state_has_a_row_for_everything() -> None:
    assert set(TABLE) == set(State)
    for state, row in TABLE.items():
        assert set(row) == set(Input), state


def test_every_action_is_somewhere_and_has_a_method() -> None:
    used = {action for row in TABLE.values() for action in row.values()}
    assert used == set(Action)
    for action in Action:
        assert callable(getattr(Connection, action.value)), action


def test_what_is_over_does_nothing() -> None:
    assert set(TABLE[State.OVER].values()) == {Action.IGNORE}


def test_every_state_that_waits_answers_to_time() -> None:
    silent = {state for state in State if TABLE[state][Input.TIME] is Action.IGNORE}
    assert silent == {State.SPLICED, State.OVER}


def test_what_is_dropped_is_counted() -> None:
    agreed = Agreed(1000, 5000, 1460, None, False, None, False)
    connection = Connection(agreed, Settings(1460), lambda octets: Verdict.MORE, 0.0)
    segments = (
        (Side.CLIENT, Segment(1001, 5001, ACK, 1000, payload=b"GET"), 0),
        (Side.CLIENT, Segment(1004, 5001, ACK, 1000), 0),  # heard
        (Side.CLIENT, Segment(1004), 1),  # no ACK
        (Side.CLIENT, Segment(90_000, flags=RST), 2),  # outside the window
        (Side.CLIENT, Segment(1500, flags=RST), 2),  # challenged
        (Side.CLIENT, Segment(1501, flags=RST), 3),  # so soon it is not
        (Side.NODE, Segment(1, flags=SYN), 4),  # of no node
    )
    for origin, segment, dropped in segments:
        connection.segment(origin, segment, 1.0)
        assert connection.ignored == dropped
    connection.refused(1.0)
    connection.segment(Side.CLIENT, segments[0][1], 1.0)
    assert connection.ignored == 5
