# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from typing import Any

import pytest

from csmb import versions
from csmb.constants import RETRY_DUPID_S, RETRY_MAX_S, ErrorCode, Flag, Role
from csmb.events import HelloReceived, Ready
from csmb.messages import AuthChallenge, Config, Hello
from csmb.transitions import State
from ssmb.addresses import UNSPECIFIED, from_text
from support.segments.csmb_pair import (
    START,
    Pair,
    ScriptedPeer,
    closed,
    connect,
    events,
    pair_of,
    ready_pair,
)

# --- versions -------------------------------------------------------------------------------

SETS: list[versions.Versions] = [
    ((1, 0),), ((1, 2),), ((2, 0),), ((2, 3),), ((1, 0), (2, 0)), ((1, 2), (2, 1)),
]  # fmt: skip


def common(left: versions.Versions, right: versions.Versions) -> versions.Version | None:
    both = [(major, min(minor, other)) for major, minor in left for m, other in right if m == major]
    return max(both, default=None)


@pytest.mark.parametrize(("cs_csmb", "dfs_csmb"), list(itertools.product(SETS, SETS)))
def test_every_combination_ends_with_the_highest_common_versions_or_with_none(
    cs_csmb: versions.Versions, dfs_csmb: versions.Versions
) -> None:
    for cs_ssmb, dfs_ssmb in itertools.product(SETS, SETS):
        pair = pair_of(
            {"csmb_versions": cs_csmb, "ssmb_versions": cs_ssmb},
            {"csmb_versions": dfs_csmb, "ssmb_versions": dfs_ssmb},
        )
        best = common(cs_csmb, dfs_csmb), common(cs_ssmb, dfs_ssmb)
        if None in best:
            end = closed(pair.cs)
            assert end.error_code in (ErrorCode.VERS_NEW, ErrorCode.VERS_OBSOLETE)
            assert end.retry_after_s == RETRY_MAX_S
            assert end.reason.startswith("no common version")
            continue
        for connection in (pair.cs, pair.dfs):
            ready = next(event for event in events(connection) if isinstance(event, Ready))
            assert (ready.csmb_version, ready.ssmb_version) == best


def test_the_agreed_version_is_what_messages_are_written_in() -> None:
    pair = pair_of({}, {"csmb_versions": ((1, 0),)})
    pair.to_dfs = b""
    pair.cs.send(Config(), START)
    pair.exchange()
    assert len(pair.to_dfs) == 44 + 8


def test_a_group_is_held_to_the_ssmb_version_that_it_speaks() -> None:
    groups = {7: (1, 1)}
    dfs: dict[str, Any] = {
        "ssmb_versions": ((1, 3), (2, 0)),
        "group_ssmb_version": lambda hello: groups.get(hello.group_id),
    }
    pair = pair_of({"ssmb_versions": ((1, 2), (2, 0))}, dfs)
    assert next(e for e in events(pair.cs) if isinstance(e, Ready)).ssmb_version == (1, 1)
    pair = pair_of({"ssmb_versions": ((1, 0),)}, dfs)
    assert closed(pair.cs).error_code == ErrorCode.VERS_OBSOLETE
    pair = pair_of({"ssmb_versions": ((2, 0),), "group_id": 8}, dfs)
    assert pair.cs.is_ready


def test_an_unsolicited_hello_of_a_dfs_is_taken_and_its_versions_ignored() -> None:
    peer = ScriptedPeer(connect(Role.CS))
    peer.reach(State.HELLO_WAIT)
    peer.say(peer.hello(vers_major=1))
    peer.say(peer.hello(group_id=0))
    assert peer.heard() == []
    peer.say(peer.hello())
    assert [type(message) for message in peer.heard()] == [AuthChallenge]
    peer.say(peer.hello(vers_major=1))  # and later as well
    assert peer.connection.state is State.AUTH_WAIT


def test_a_version_that_changes_within_a_connection_ends_it() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.READY)
    peer.say(peer.hello(ssmb_vers_major=1))
    assert "within a connection" in closed(peer.connection).reason


# --- HELLO: who may connect -----------------------------------------------------------------


@pytest.mark.parametrize(("role", "segment_id"), [(Role.CS, 2), (Role.DFS, 0), (Role.DFS, 256)])
def test_a_peer_of_the_wrong_role_is_refused(role: Role, segment_id: int) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(State.HELLO_WAIT)
    peer.say(peer.hello(segment_id=segment_id))
    assert closed(peer.connection).error_code == ErrorCode.BADMSG


@pytest.mark.parametrize("changes", [{"segment_id": 3}, {"group_id": 8}, {"flags": 0}])
@pytest.mark.parametrize("state", [State.AUTH_WAIT, State.READY])
def test_who_a_peer_is_cannot_change(state: State, changes: dict[str, int]) -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(state)
    peer.say(peer.hello(**changes))
    assert closed(peer.connection).error_code == ErrorCode.BADMSG


def test_a_changed_boot_id_is_the_owners_to_judge() -> None:
    peer = ScriptedPeer(connect(Role.CS))
    peer.reach(State.READY)
    events(peer.connection)
    peer.say(peer.hello(boot_id=99))
    assert events(peer.connection) == [HelloReceived(peer.hello(boot_id=99)._replace())]


def test_a_duplicate_id_is_refused_with_its_reason() -> None:
    pair = pair_of({}, {"accept_hello": lambda _: ErrorCode.DUPID})
    cs, dfs = closed(pair.cs), closed(pair.dfs)
    why = "the DFS refused the connection: DUPID (another segment with this segment_id is alive)"
    assert (cs.error_code, cs.reason) == (ErrorCode.DUPID, why)
    assert (dfs.error_code, dfs.reason) == (ErrorCode.DUPID, "this DFS refused CS 1: DUPID")
    assert cs.retry_after_s == RETRY_DUPID_S


def test_a_cs_that_is_not_the_active_one_connects_all_the_same_and_can_stand_by() -> None:
    def accept(hello: Hello) -> int:
        return ErrorCode.NOTACTIVE if hello.flags & Flag.ACTIVE else ErrorCode.OK

    pair = pair_of({"active": True, "role_epoch": 1}, {"accept_hello": accept})
    assert pair.cs.is_ready
    told = [event.hello.error_code for event in events(pair.cs) if isinstance(event, HelloReceived)]
    assert told == [ErrorCode.NOTACTIVE] * 2  # the second one is sealed
    events(pair.dfs)
    pair.cs.announce(active=False, role_epoch=1, now=START)
    pair.exchange()
    (heard,) = events(pair.dfs)
    assert isinstance(heard, HelloReceived)
    assert not heard.hello.flags & Flag.ACTIVE
    (answer,) = events(pair.cs)
    assert isinstance(answer, HelloReceived)
    assert answer.hello.error_code == ErrorCode.OK


def test_a_role_announced_before_ready_is_told_when_ready() -> None:
    pair = Pair(connect(Role.CS), connect(Role.DFS))
    pair.cs.announce(active=True, role_epoch=3, now=START)
    pair.exchange()
    last = events(pair.dfs)[-1]
    assert isinstance(last, HelloReceived)
    assert last.hello.flags & Flag.ACTIVE
    assert last.hello.role_epoch == 3


def test_a_dfs_may_announce_too_and_the_cs_does_not_answer() -> None:
    pair = ready_pair()
    pair.dfs.announce(active=False, role_epoch=5, now=START)
    pair.exchange()
    (heard,) = events(pair.cs)
    assert isinstance(heard, HelloReceived)
    assert heard.hello.role_epoch == 5
    assert events(pair.dfs) == []


@pytest.mark.parametrize("field", ["ssmb_ipaddr6", "ssmb_standby_ipaddr6"])
@pytest.mark.parametrize("role", [Role.CS, Role.DFS])
def test_a_hello_that_names_no_address_is_refused(role: Role, field: str) -> None:
    peer = ScriptedPeer(connect(role))
    peer.heard()
    tail = {"ssmb_ipaddr6": UNSPECIFIED, "ssmb_standby_ipaddr6": UNSPECIFIED}
    peer.say(peer.hello(**{**tail, field: from_text("::ffff:0.0.0.0")}))
    assert closed(peer.connection).reason == "::ffff:0.0.0.0 is no address for SSMB"


NOBODYS = ["0.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "ff02::1", "fe80::1"]
EACH_ROLE = pytest.mark.parametrize("role", [Role.CS, Role.DFS])


@EACH_ROLE
@pytest.mark.parametrize("state", [State.HELLO_WAIT, State.READY])
@pytest.mark.parametrize("address", NOBODYS)
def test_a_hello_with_an_address_that_ssmb_cannot_be_sent_to_is_refused(
    role: Role, state: State, address: str
) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(state)
    peer.heard()
    tail = {"ssmb_ipaddr6": from_text(address), "ssmb_standby_ipaddr6": UNSPECIFIED}
    peer.say(peer.hello(**tail))
    assert closed(peer.connection).reason == f"{address} is no address for SSMB 2"


@EACH_ROLE
def test_a_hello_with_no_address_or_port_for_ssmb_is_refused(role: Role) -> None:
    for changes, reason in (
        ({"ssmb_ipaddr": UNSPECIFIED}, ":: is no address for SSMB 2"),
        ({"ssmb_port": 0}, "0 is no port for SSMB"),
    ):
        peer = ScriptedPeer(connect(role))
        peer.heard()
        peer.say(peer.hello(**changes))
        assert closed(peer.connection).reason == reason


def test_who_has_an_ipv6_address_only_does_not_agree_on_ssmb_1() -> None:
    """Its HELLO would have no address that the peer can use."""
    only = {"ssmb_ipaddr": from_text("fd00::2")}
    old = {"ssmb_versions": ((1, 0),)}
    for cs, dfs in ((only, old), (old, only)):
        pair = pair_of(cs, dfs)
        assert not pair.cs.is_ready
        assert ":: is no address for SSMB 1" in closed(pair.dfs if cs is only else pair.cs).reason


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.1.1", "fd00::1"])
def test_segments_may_be_on_one_machine_and_anywhere_else(address: str) -> None:
    at = {"ssmb_ipaddr": from_text(address)}
    assert pair_of(at, at).cs.is_ready


@pytest.mark.parametrize("state", [State.HELLO_WAIT, State.AUTH_WAIT, State.READY])
@pytest.mark.parametrize("role", [Role.CS, Role.DFS])
def test_a_hello_with_an_error_is_the_peers_refusal(role: Role, state: State) -> None:
    for code in (ErrorCode.DUPID, ErrorCode.BADMSG, 999):
        peer = ScriptedPeer(connect(role))
        peer.reach(state)
        peer.say(peer.hello(error_code=code))
        end = closed(peer.connection)
        assert end.error_code == code
        assert "refused the connection" in end.reason
        assert peer.heard() == []


@pytest.mark.parametrize("state", [State.AUTH_WAIT, State.READY])
def test_a_version_once_agreed_is_not_negotiated_again(state: State) -> None:
    peer = ScriptedPeer(connect(Role.CS))
    peer.reach(state)
    peer.say(peer.hello(error_code=ErrorCode.VERS_NEW, vers_major=1))
    assert closed(peer.connection).error_code == ErrorCode.VERS_NEW


def test_a_capability_cannot_pass_for_a_role_or_for_a_seal() -> None:
    cs = connect(Role.CS, flags=0xFFFFFFFF, laboratory=True, key=b"")
    (hello,) = ScriptedPeer(cs).heard()
    assert isinstance(hello, Hello)
    assert not hello.flags & (Flag.ACTIVE | Flag.REDUNDANT | Flag.SSMB_MAC)
    assert hello.flags & Flag.SYNC_CAP


def test_a_dfs_says_whether_its_group_has_an_active_cs_to_nobody_but_a_ready_cs() -> None:
    pair = pair_of({"group_id": 9}, {"group_role": lambda hello: (hello.group_id == 9, 5)})
    pair.exchange()
    heard = [event.hello for event in events(pair.cs) if isinstance(event, HelloReceived)]
    assert [(bool(hello.flags & Flag.ACTIVE), hello.role_epoch) for hello in heard] == [
        (False, 0),
        (True, 5),
    ]


def roles_heard(pair: Pair) -> list[tuple[int, bool, int]]:
    """What the DFS's HELLOs since the last call said: code, whether a CS is active, epoch."""
    pair.exchange()
    heard = [event.hello for event in events(pair.cs) if isinstance(event, HelloReceived)]
    return [
        (each.error_code, bool(each.flags & Flag.ACTIVE), each.role_epoch) for each in heard[-2:]
    ]


def test_a_dfs_says_hello_out_of_turn_if_that_says_anything_new() -> None:
    pair = pair_of({}, {"group_role": lambda hello: (True, 5)})
    assert roles_heard(pair)[-1] == (0, True, 5)
    pair.dfs.role_changed((True, 5), ErrorCode.OK, START)
    assert roles_heard(pair) == []
    pair.dfs.role_changed((False, 5), ErrorCode.OK, START)
    pair.dfs.role_changed((False, 5), ErrorCode.OK, START)
    assert roles_heard(pair) == [(0, False, 5)]
    pair.dfs.role_changed((True, 6), ErrorCode.NOTACTIVE, START)
    assert roles_heard(pair) == [(ErrorCode.NOTACTIVE, True, 6)]
    assert pair.cs.is_ready


def test_a_cs_answers_no_hello_so_that_two_segments_never_go_on_for_ever() -> None:
    pair = pair_of({}, {"group_role": lambda hello: (True, 5)})
    pair.exchange()
    pair.dfs.role_changed((False, 5), ErrorCode.OK, START)
    pair.cs.receive_data(pair.dfs.data_to_send(), START)
    assert pair.cs.data_to_send() == b""


def test_while_a_hello_is_held_none_is_said_out_of_turn() -> None:
    """It would pass for the answer."""
    verdict: list[int | None] = [ErrorCode.OK]
    pair = pair_of(
        {}, {"group_role": lambda hello: (False, 5), "accept_hello": lambda hello: verdict[0]}
    )
    roles_heard(pair)
    verdict[0] = None
    pair.cs.announce(active=True, role_epoch=6, now=START)
    assert roles_heard(pair) == []
    pair.dfs.role_changed((True, 9), ErrorCode.NOTACTIVE, START)
    assert roles_heard(pair) == []
    verdict[0] = ErrorCode.NOTACTIVE
    pair.dfs.answer_held_hello(START)
    assert roles_heard(pair) == [(ErrorCode.NOTACTIVE, False, 5)]
    pair.dfs.role_changed((True, 9), ErrorCode.NOTACTIVE, START)
    assert roles_heard(pair) == [(ErrorCode.NOTACTIVE, True, 9)]


def test_before_ready_a_dfs_says_nothing_of_roles() -> None:
    dfs = connect(Role.DFS)
    dfs.role_changed((True, 5), ErrorCode.OK, START)
    assert dfs.data_to_send() == b""
