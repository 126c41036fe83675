# SPDX-License-Identifier: Apache-2.0
"""The states of a connection's machine, what can happen, and what is done about it: one table.

Every state has a row for everything that can happen; `Connection` has a method for each action.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class State(Enum):
    """Of one client's connection (docs/design/0012)."""

    CLIENT_HANDSHAKE = 1  # SYN-ACK sent; only for a driver that repeats it
    COLLECT = 2  # data are missing
    ASKED = 3  # for a decision
    NODE_HANDSHAKE = 4  # SYN sent
    NODE_GREETING = 5  # the node says first what the proxy has said in its place
    FLUSH = 6  # an end has not acknowledged all that the proxy answers for
    RELAY = 7  # every packet goes through the machine
    SPLICED = 8  # the target carries it; what still comes here is put back
    OVER = 9


class Input(Enum):
    """What can happen, with segments judged by the connection that they belong to."""

    CLIENT_DATA = 1  # octets or FIN that are not acknowledged yet
    CLIENT_ACK = 2  # nothing but an acknowledgement
    CLIENT_REPEAT = 3  # nothing that is not acknowledged, or outside the window; also a probe
    CLIENT_SYN = 4  # its SYN again
    CLIENT_STRANGE = 5  # what no end of this connection sends, but a lost or a malicious one
    CLIENT_WRONG_ACK = 6  # in answer to no SYN-ACK of this connection
    CLIENT_RESET = 7  # RST with the exact number
    NODE_SYN_ACK = 8  # the answer to the SYN
    NODE_DATA = 9  # any segment of the connection, octets or not
    NODE_REPEAT = 10  # its SYN-ACK again
    NODE_STRANGE = 11
    NODE_RESET = 12
    DECIDED = 13
    WANTS_MORE = 14
    REFUSED = 15
    UNREACHABLE = 16
    TOO_BIG = 17
    SAYS = 18
    DROPPED = 19
    TIME = 20


class Action(Enum):
    """What is done; the value is the name of the method."""

    IGNORE = "_ignore"
    REPEAT_SYN_ACK = "_repeat_syn_ack"
    OPEN = "_open"  # the client's handshake is complete
    RESET_SENDER = "_reset_sender"  # RFC 9293 3.10.7.3: <SEQ=SEG.ACK><CTL=RST>
    COLLECT = "_collect"
    KEEP = "_keep"  # octets for later
    HEAR = "_hear"
    REPLY = "_reply"  # with what is acknowledged so far
    CHALLENGE = "_challenge"  # RFC 5961
    END_BY_CLIENT = "_end_by_client"
    COLLECT_ON = "_collect_on"
    CHOOSE = "_choose"
    REFUSE = "_refuse"
    JOIN = "_join"  # the node's handshake is complete
    READ_GREETING = "_read_greeting"
    ACKNOWLEDGE_NODE = "_acknowledge_node"
    CHALLENGE_NODE = "_challenge_node"
    CLEAR_NODE = "_clear_node"
    FAIL_NODE = "_fail_node"
    LOSE_NODE = "_lose_node"
    SHORTEN = "_shorten"
    FORWARD_TO_NODE = "_forward_to_node"
    FORWARD_REPEAT = "_forward_repeat"
    FORWARD_TO_CLIENT = "_forward_to_client"
    RELAY_TO_NODE = "_relay_to_node"
    RELAY_TO_CLIENT = "_relay_to_client"
    PUT_BACK = "_put_back"
    SAY = "_say"
    GIVE_UP = "_give_up"
    TIME_SYN_ACK = "_time_syn_ack"
    TIME_COLLECT = "_time_collect"
    TIME_SYN = "_time_syn"
    TIME_NODE = "_time_node"
    TIME_RELAY = "_time_relay"


_CLIENT: Final = frozenset(each for each in Input if each.name.startswith("CLIENT"))
_NODE: Final = frozenset(each for each in Input if each.name.startswith("NODE"))


def _row(*groups: tuple[frozenset[Input], Action], **named: Action) -> Mapping[Input, Action]:
    row = dict.fromkeys(Input, Action.IGNORE)
    for inputs, action in groups:
        row |= dict.fromkeys(inputs, action)
    return row | {Input[name]: action for name, action in named.items()}


_COLLECTING: Final = {
    "CLIENT_ACK": Action.HEAR,
    "CLIENT_REPEAT": Action.REPLY,
    "CLIENT_SYN": Action.CHALLENGE,
    "CLIENT_STRANGE": Action.CHALLENGE,
    "CLIENT_RESET": Action.END_BY_CLIENT,
    "DROPPED": Action.GIVE_UP,
}
"""What a client does while no node is joined to it has the same answer whatever is awaited."""

_NO_NODE: Final = {
    # late, of a node that was given up: a SYN-ACK, or what it sends because of it
    "NODE_SYN_ACK": Action.RESET_SENDER,
    "NODE_DATA": Action.RESET_SENDER,
    "NODE_REPEAT": Action.RESET_SENDER,
    "NODE_STRANGE": Action.RESET_SENDER,
    "REFUSED": Action.REFUSE,
    "DECIDED": Action.CHOOSE,
    "SAYS": Action.SAY,
    "TIME": Action.TIME_COLLECT,
}

TABLE: Final[Mapping[State, Mapping[Input, Action]]] = {
    State.CLIENT_HANDSHAKE: _row(
        CLIENT_DATA=Action.OPEN,
        CLIENT_ACK=Action.OPEN,
        CLIENT_REPEAT=Action.CHALLENGE,
        CLIENT_SYN=Action.REPEAT_SYN_ACK,
        CLIENT_STRANGE=Action.CHALLENGE,
        CLIENT_WRONG_ACK=Action.RESET_SENDER,
        CLIENT_RESET=Action.END_BY_CLIENT,
        REFUSED=Action.REFUSE,
        DROPPED=Action.GIVE_UP,
        TIME=Action.TIME_SYN_ACK,
    ),
    State.COLLECT: _row(**_COLLECTING, **_NO_NODE, CLIENT_DATA=Action.COLLECT),
    State.ASKED: _row(
        **_COLLECTING, **_NO_NODE, CLIENT_DATA=Action.KEEP, WANTS_MORE=Action.COLLECT_ON
    ),
    State.NODE_HANDSHAKE: _row(
        **_COLLECTING,
        CLIENT_DATA=Action.KEEP,
        NODE_SYN_ACK=Action.JOIN,
        NODE_STRANGE=Action.CLEAR_NODE,
        NODE_RESET=Action.FAIL_NODE,
        UNREACHABLE=Action.FAIL_NODE,
        TOO_BIG=Action.SHORTEN,
        TIME=Action.TIME_SYN,
    ),
    State.NODE_GREETING: _row(
        **_COLLECTING,
        CLIENT_DATA=Action.KEEP,
        NODE_DATA=Action.READ_GREETING,
        NODE_REPEAT=Action.ACKNOWLEDGE_NODE,
        NODE_STRANGE=Action.CHALLENGE_NODE,
        NODE_RESET=Action.FAIL_NODE,
        TOO_BIG=Action.SHORTEN,
        TIME=Action.TIME_NODE,
    ),
    State.FLUSH: _row(
        **_COLLECTING
        | {"CLIENT_ACK": Action.FORWARD_TO_NODE, "CLIENT_REPEAT": Action.FORWARD_REPEAT},
        CLIENT_DATA=Action.FORWARD_TO_NODE,
        NODE_DATA=Action.FORWARD_TO_CLIENT,
        NODE_REPEAT=Action.ACKNOWLEDGE_NODE,
        NODE_STRANGE=Action.CHALLENGE_NODE,
        NODE_RESET=Action.LOSE_NODE,
        TOO_BIG=Action.SHORTEN,
        TIME=Action.TIME_NODE,
    ),
    State.RELAY: _row(
        (_CLIENT, Action.RELAY_TO_NODE),
        (_NODE, Action.RELAY_TO_CLIENT),
        TOO_BIG=Action.SHORTEN,
        DROPPED=Action.GIVE_UP,
        TIME=Action.TIME_RELAY,
    ),
    State.SPLICED: _row((_CLIENT | _NODE, Action.PUT_BACK)),
    State.OVER: _row(),
}
