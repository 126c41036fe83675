# SPDX-License-Identifier: Apache-2.0
"""The connection as a table: (role, state, input) -> (next state, action).

This file is the whole of "what may follow what" (wire protocol 7.7 and 12).  `csmb.judgements`
turns what arrives into an input, `csmb.actions` has one method per action.  A combination
that is not in the table cannot happen; the tests walk through all that can.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, TypeAlias

from csmb.constants import Role


class State(Enum):
    """Where a connection stands; connecting itself is the owner's."""

    HELLO_WAIT = auto()  # no version agreed yet
    AUTH_WAIT = auto()  # agreed; the key is not proved yet
    READY = auto()
    CLOSED = auto()  # no input has any effect any more


class Input(Enum):
    """Everything that can happen to a connection."""

    # HELLO, judged
    HELLO = auto()  # in order
    HELLO_NOTACTIVE = auto()  # in order, but the DFS knows an active CS of a higher epoch
    HELLO_OTHER_VERSION = auto()  # to be answered with another version, or by a lower offer
    HELLO_UNSOLICITED = auto()  # a DFS's opening, whose versions a CS ignores (7.8)
    HELLO_HELD = auto()  # in order; whether the CS lives that had its number is being asked
    HELLO_REFUSED = auto()  # by this side
    HELLO_REFUSAL = auto()  # the peer's
    # authentication, judged; once READY or before HELLO, OUT_OF_PLACE
    CHALLENGE = auto()
    CHALLENGE_WRONG = auto()
    RESPONSE = auto()
    RESPONSE_WRONG = auto()
    RESULT = auto()
    RESULT_WRONG = auto()
    # other messages
    PAYLOAD = auto()  # the owner's, and this peer may send it
    ACK = auto()  # never answered, or two sides would answer each other for ever
    OUT_OF_PLACE = auto()  # a type that this peer never sends, or not now
    UNKNOWN = auto()  # an unknown type below 128
    IGNORABLE = auto()  # one from 128 on
    MALFORMED = auto()  # the stream goes on behind it
    # the stream, the clock, the owner
    BROKEN = auto()  # length, seal or serial: nothing behind it can be trusted
    EOF = auto()
    DEADLINE = auto()
    HELLO_DUE = auto()
    ROLE_CHANGED = auto()  # another CS of the group is active, or none, or with another epoch
    CLOSE = auto()


Step: TypeAlias = tuple[State, str]
Row: TypeAlias = dict[Input, Step]

_HELLO_WAIT, _AUTH_WAIT, _READY, _CLOSED = State

# In every living state
_ENDS: Final[Row] = {
    Input.HELLO_REFUSAL: (_CLOSED, "fail"),
    Input.BROKEN: (_CLOSED, "fail"),
    Input.EOF: (_CLOSED, "fail"),
    Input.DEADLINE: (_CLOSED, "fail"),
    Input.CLOSE: (_CLOSED, "fail"),
}

TABLE: Final[dict[Role, dict[State, Row]]] = {
    Role.CS: {
        _HELLO_WAIT: {
            **_ENDS,
            Input.HELLO: (_AUTH_WAIT, "challenge"),
            # a standby is wanted as well, and only behind the seal is NOTACTIVE proved
            Input.HELLO_NOTACTIVE: (_AUTH_WAIT, "challenge"),
            Input.HELLO_OTHER_VERSION: (_HELLO_WAIT, "offer"),
            Input.HELLO_UNSOLICITED: (_HELLO_WAIT, "ignore"),
            Input.HELLO_REFUSED: (_CLOSED, "fail"),
            Input.OUT_OF_PLACE: (_CLOSED, "fail"),  # 7.7, rule 2
        },
        _AUTH_WAIT: {
            **_ENDS,
            Input.HELLO: (_AUTH_WAIT, "note_hello"),
            Input.HELLO_NOTACTIVE: (_AUTH_WAIT, "note_hello"),
            Input.HELLO_REFUSED: (_CLOSED, "fail"),
            Input.RESPONSE: (_READY, "admit"),
            Input.RESPONSE_WRONG: (_CLOSED, "reject"),
            # 7.7, rule 4: no answer to anything else
            Input.PAYLOAD: (_AUTH_WAIT, "ignore"),
            Input.ACK: (_AUTH_WAIT, "ignore"),
            Input.OUT_OF_PLACE: (_AUTH_WAIT, "ignore"),
            Input.UNKNOWN: (_AUTH_WAIT, "ignore"),
            Input.IGNORABLE: (_AUTH_WAIT, "ignore"),
            Input.MALFORMED: (_AUTH_WAIT, "ignore"),
        },
        _READY: {
            **_ENDS,
            Input.HELLO: (_READY, "note_hello"),
            Input.HELLO_NOTACTIVE: (_READY, "note_hello"),
            Input.HELLO_REFUSED: (_CLOSED, "fail"),
            Input.HELLO_DUE: (_READY, "keep_alive"),
            Input.PAYLOAD: (_READY, "deliver"),
            Input.ACK: (_READY, "deliver"),
            Input.OUT_OF_PLACE: (_READY, "refuse"),
            Input.UNKNOWN: (_READY, "refuse"),
            Input.IGNORABLE: (_READY, "ignore"),
            Input.MALFORMED: (_READY, "refuse"),
        },
        _CLOSED: {},
    },
    Role.DFS: {
        _HELLO_WAIT: {
            **_ENDS,
            Input.HELLO: (_AUTH_WAIT, "agree"),
            Input.HELLO_NOTACTIVE: (_AUTH_WAIT, "agree"),
            Input.HELLO_OTHER_VERSION: (_HELLO_WAIT, "answer"),
            Input.HELLO_REFUSED: (_CLOSED, "answer_and_fail"),
            Input.OUT_OF_PLACE: (_CLOSED, "fail"),  # 7.7, rule 2
        },
        _AUTH_WAIT: {
            **_ENDS,
            Input.HELLO: (_AUTH_WAIT, "answer_hello"),
            Input.HELLO_NOTACTIVE: (_AUTH_WAIT, "answer"),
            Input.HELLO_REFUSED: (_CLOSED, "answer_and_fail"),
            Input.CHALLENGE: (_AUTH_WAIT, "respond"),
            Input.CHALLENGE_WRONG: (_CLOSED, "fail"),
            Input.RESULT: (_READY, "be_admitted"),
            Input.RESULT_WRONG: (_CLOSED, "fail"),
            # 7.7, rule 4: not obeyed, but answered
            Input.PAYLOAD: (_AUTH_WAIT, "refuse"),
            Input.ACK: (_AUTH_WAIT, "ignore"),
            Input.OUT_OF_PLACE: (_AUTH_WAIT, "refuse"),
            Input.UNKNOWN: (_AUTH_WAIT, "refuse"),
            Input.IGNORABLE: (_AUTH_WAIT, "ignore"),
            Input.MALFORMED: (_AUTH_WAIT, "refuse"),
        },
        _READY: {
            **_ENDS,
            Input.HELLO: (_READY, "answer_hello"),
            Input.HELLO_NOTACTIVE: (_READY, "answer_hello"),
            Input.HELLO_HELD: (_READY, "hold_hello"),
            Input.ROLE_CHANGED: (_READY, "say_role"),
            Input.HELLO_REFUSED: (_CLOSED, "answer_and_fail"),
            Input.PAYLOAD: (_READY, "deliver"),
            Input.ACK: (_READY, "deliver"),
            Input.OUT_OF_PLACE: (_READY, "refuse"),
            Input.UNKNOWN: (_READY, "refuse"),
            Input.IGNORABLE: (_READY, "ignore"),
            Input.MALFORMED: (_READY, "refuse"),
        },
        _CLOSED: {},
    },
}
