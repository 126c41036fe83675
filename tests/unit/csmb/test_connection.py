# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from csmb.actions import Actions
from csmb.connection import Connection
from csmb.constants import Flag, MessageType, Role
from csmb.errors import EncodeError, LocalProtocolError, NotReady
from csmb.events import Closed, HelloReceived, MessageReceived, Ready
from csmb.messages import (
    Ack,
    AddVs,
    AuthChallenge,
    AuthResponse,
    Config,
    DelVs,
    GetVsList,
    Hello,
    Message,
    VsList,
)
from csmb.transitions import TABLE, Input, State
from ssmb.addresses import UNSPECIFIED, from_text
from support.segments.csmb_pair import (
    CS_SETTINGS,
    DFS_SETTINGS,
    START,
    Pair,
    ScriptedPeer,
    closed,
    connect,
    events,
    pair_of,
    ready_pair,
)

LIVING = [State.HELLO_WAIT, State.AUTH_WAIT, State.READY]
BOTH = [Role.CS, Role.DFS]


# --- the table ------------------------------------------------------------------------------


def test_every_action_of_the_table_has_its_method_and_every_method_is_used() -> None:
    rows = [row for states in TABLE.values() for row in states.values()]
    named = {action for row in rows for _, action in row.values()}
    methods = {name for name in vars(Actions) if not name.startswith("_")}
    assert named == methods - {"open", "put"}


@pytest.mark.parametrize("role", BOTH)
def test_every_living_state_can_be_ended_and_a_closed_one_has_no_way_out(role: Role) -> None:
    for state in LIVING:
        for end in (Input.BROKEN, Input.EOF, Input.DEADLINE, Input.CLOSE, Input.HELLO_REFUSAL):
            assert TABLE[role][state][end] == (State.CLOSED, "fail")
    assert TABLE[role][State.CLOSED] == {}


def any_messages() -> list[tuple[str, int, bytes]]:
    """One of each type, one of each type malformed, and types that nobody knows."""
    frames = []
    lengths = {1: 48, 2: 52, 3: 84, 4: 52, 5: 104, 6: 60, 7: 32, 8: 16, 9: 12, 10: 20}
    for kind, length in lengths.items():
        frames.append((f"{MessageType(kind).name}, all zero", kind, bytes(length - 8)))
        frames.append((f"{MessageType(kind).name}, malformed", kind, bytes(length + 200)))
        frames.append((f"{MessageType(kind).name}, short", kind, bytes(4)))
    return frames + [(f"type {kind}", kind, bytes(8)) for kind in (0, 11, 127, 128, 257, 0xFFFF)]


@pytest.mark.parametrize("laboratory", [False, True])
@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("state", [*LIVING, State.CLOSED])
def test_any_message_in_any_state_has_its_place_in_the_table(
    role: Role, state: State, laboratory: bool
) -> None:
    for what, kind, body in any_messages():
        changes: dict[str, Any] = {"laboratory": True, "key": b""} if laboratory else {}
        peer = ScriptedPeer(connect(role, **changes))
        peer.reach(state)
        peer.say_frame(kind, body)
        assert peer.connection.state in State, what
        peer.heard()  # can be read


# --- the way to READY -----------------------------------------------------------------------


def test_two_that_hold_the_same_key_become_ready_with_the_same_ssmb_keys() -> None:
    pair = pair_of({}, {})
    hello, ready, again = events(pair.cs)
    assert isinstance(hello, HelloReceived)
    assert isinstance(ready, Ready)
    assert isinstance(again, HelloReceived)
    assert (ready.peer.segment_id, ready.peer.boot_id, ready.peer.flow_capacity) == (256, 22, 65536)
    assert ready.csmb_version == ready.ssmb_version == (2, 0)
    theirs = next(event for event in events(pair.dfs) if isinstance(event, Ready))
    assert (theirs.peer.segment_id, theirs.peer.boot_id, theirs.peer.group_id) == (1, 11, 7)
    assert ready.ssmb_keys == theirs.ssmb_keys
    assert ready.ssmb_keys is not None
    assert len({*ready.ssmb_keys}) == 2


def test_the_dfs_echoes_group_and_interval() -> None:
    pair = pair_of({"hello_interval_s": 9}, {})
    heard = events(pair.cs)[0]
    assert isinstance(heard, HelloReceived)
    assert (heard.hello.group_id, heard.hello.hello_interval) == (7, 9)


def test_hello_says_what_the_settings_say() -> None:
    address, standby = from_text("10.0.0.2"), from_text("fd00::3")
    cs = connect(
        Role.CS, ssmb_ipaddr=address, ssmb_port=61020, standby_ipaddr=standby, standby_port=61021,
        active=True, role_epoch=4, flags=int(Flag.SYNC_CAP),
    )  # fmt: skip
    hello = ScriptedPeer(cs).heard()[0]
    assert isinstance(hello, Hello)
    assert hello.flags == (
        Flag.SYNC_CAP | Flag.ACTIVE | Flag.REDUNDANT | Flag.SSMB_MAC | Flag.TRANSCRIPT
    )
    assert hello.role_epoch == 4
    assert hello.ssmb_address(2) == hello.ssmb_address(1) == address
    assert hello.ssmb_standby_address(2) == standby
    assert hello.ssmb_standby_address(1) == UNSPECIFIED
    assert (hello.ssmb_port, hello.ssmb_standby_port) == (61020, 61021)


def test_only_who_speaks_ssmb_2_sends_the_tail_of_16_octet_addresses() -> None:
    old, new = connect(Role.CS, ssmb_versions=((1, 0),)), connect(Role.CS)
    assert (len(old.data_to_send()), len(new.data_to_send())) == (48, 80)


def test_a_stream_may_be_cut_at_every_octet() -> None:
    whole = pair_of({}, {})
    whole.cs.send(VsList(), START)
    whole.exchange()
    for chunk in range(1, 90):
        pair = Pair(connect(Role.CS), connect(Role.DFS))
        pair.exchange(chunk)
        pair.cs.send(VsList(), START)
        pair.exchange(chunk)
        assert (pair.to_cs, pair.to_dfs) == (whole.to_cs, whole.to_dfs)
        assert pair.cs.is_ready
        assert isinstance(events(pair.dfs)[-1], MessageReceived)


def test_a_message_arrives_with_the_serials_that_send_returned() -> None:
    pair = ready_pair()
    sent: list[Message] = [Config(query_timeout=99), VsList(), AddVs(), AddVs(), DelVs()]
    serials = [pair.cs.send(message, START) for message in sent]
    pair.exchange()
    received = events(pair.dfs)
    assert received == [
        MessageReceived(message, *pair_)
        for message, pair_ in zip(sent, serials, strict=True)
    ]  # fmt: skip
    assert [bytype for _, bytype in serials] == [1, 1, 1, 2, 1]
    pair.dfs.send(Ack(0, 0, MessageType.CONFIG, *serials[0]), START)
    pair.dfs.send(GetVsList(), START)
    pair.exchange()
    answers = [event for event in events(pair.cs) if isinstance(event, MessageReceived)]
    assert [event.message for event in answers] == [Ack(0, 0, 5, *serials[0]), GetVsList()]


def test_serials_wrap_and_the_seal_goes_on_counting() -> None:
    pair = ready_pair()
    for _ in range(65_600):
        pair.cs.send(DelVs(), START)
    pair.exchange()
    received = events(pair.dfs)
    assert len(received) == 65_600
    last = received[-1]
    assert isinstance(last, MessageReceived)
    assert (last.serial_global, last.serial_bytype) == (65_604 - 65_536, 65_600 - 65_536)


# --- the end --------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("state", LIVING)
def test_the_end_of_the_stream_is_the_end_in_every_state(role: Role, state: State) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(state)
    peer.say_octets(b"")
    end = closed(peer.connection)
    assert end == Closed("the peer closed the stream")


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("state", LIVING)
def test_the_owner_can_end_it_in_every_state_and_nothing_follows(role: Role, state: State) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(state)
    peer.connection.close("the operator said so")
    peer.connection.close("again")
    assert closed(peer.connection).reason == "the operator said so"
    peer.say(peer.hello())
    peer.say_octets(b"")
    peer.connection.handle_timer(START + 1000)
    peer.connection.announce(active=True, role_epoch=9, now=START)
    assert events(peer.connection) == []
    assert peer.heard() == []


# --- our callers' mistakes ------------------------------------------------------------------


def test_nothing_is_sent_before_ready_or_after_the_end() -> None:
    cs = connect(Role.CS)
    with pytest.raises(NotReady):
        cs.send(Config(), START)
    cs.close("enough")
    with pytest.raises(NotReady):
        cs.send(Config(), START)


@pytest.mark.parametrize(
    ("role", "message"),
    [
        (Role.CS, Hello()),
        (Role.CS, AuthChallenge()),
        (Role.CS, GetVsList()),
        (Role.DFS, Config()),
        (Role.DFS, AuthResponse()),
    ],
)
def test_an_owner_sends_only_what_is_its_own(role: Role, message: Message) -> None:
    pair = ready_pair()
    connection = pair.cs if role is Role.CS else pair.dfs
    with pytest.raises(LocalProtocolError):
        connection.send(message, START)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b"short"},
        {"key": b""},
        {"laboratory": True},
        {"hello_interval_s": 0},
        {"hello_interval_s": 65536},
        {"boot_id": 1 << 32},
        {"role_epoch": -1},
        {"ssmb_port": 65536},
        {"csmb_versions": ()},
        {"csmb_versions": ((3, 0),)},
        {"ssmb_versions": ((1, 0),), "ssmb_ipaddr": from_text("fd00::1")},
    ],
)
def test_settings_that_could_never_work_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, EncodeError)):
        replace(CS_SETTINGS, **changes)


@pytest.mark.parametrize(("role", "settings"), [(Role.CS, DFS_SETTINGS), (Role.DFS, CS_SETTINGS)])
def test_a_segment_id_of_the_other_role_is_refused(role: Role, settings: object) -> None:
    with pytest.raises(ValueError, match="segment_id"):
        Connection(role, settings, random_octets=bytes, now=START)  # type: ignore[arg-type]


def test_an_epoch_that_fits_no_field_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        connect(Role.CS).announce(active=True, role_epoch=1 << 32, now=START)
