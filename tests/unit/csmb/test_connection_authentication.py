# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from csmb.authentication import Exchange
from csmb.connection import Connection
from csmb.constants import RETRY_MAX_S, ErrorCode, Role
from csmb.events import Ready
from csmb.messages import AuthChallenge, AuthResult, Config
from csmb.transitions import State
from support.segments.csmb_pair import (
    CS_SETTINGS,
    KEY,
    START,
    CountingRandom,
    ScriptedPeer,
    closed,
    connect,
    events,
    pair_of,
)

BOTH = [Role.CS, Role.DFS]


def test_a_dfs_with_another_key_is_refused_and_both_say_so() -> None:
    pair = pair_of({}, {"key": b"another sixteen."})
    cs, dfs = closed(pair.cs), closed(pair.dfs)
    assert (cs.error_code, dfs.error_code) == (ErrorCode.AUTHFAIL, ErrorCode.AUTHFAIL)
    assert cs.reason == (
        "authentication failed: the DFS has a different key, or the HELLOs were changed on the way"
    )
    assert dfs.reason == "the CS refused the connection: AUTHFAIL"
    assert (cs.retry_after_s, dfs.retry_after_s) == (RETRY_MAX_S, None)


def test_a_cs_that_accepts_without_having_the_key_is_found_out() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.AUTH_WAIT)
    peer.say(AuthChallenge(challenge_id=5, auth_data=bytes(32)))
    peer.heard()
    peer.say(AuthResult(challenge_id=5))
    end = closed(peer.connection)
    assert (end.error_code, end.reason) == (
        ErrorCode.AUTHFAIL,
        "authentication failed: the CS has a different key",
    )


def test_a_cs_that_accepts_without_a_challenge_is_found_out() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.AUTH_WAIT)
    peer.say(AuthResult())
    assert closed(peer.connection).error_code == ErrorCode.AUTHFAIL


def test_a_challenge_is_answered_once() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.AUTH_WAIT)
    peer.say(AuthChallenge(challenge_id=5))
    peer.say(AuthChallenge(challenge_id=6))
    assert closed(peer.connection).reason == "a second challenge"


@pytest.mark.parametrize("changes", [{"challenge_id": 1}, {"auth_alg": 0}, {"auth_length": 0}])
def test_a_right_proof_in_a_wrong_wrapping_is_refused(changes: dict[str, Any]) -> None:
    peer = ScriptedPeer(connect(Role.CS))
    peer.reach(State.AUTH_WAIT)
    assert peer.exchange is not None
    peer.say(peer.exchange.response_message()._replace(**changes))
    assert closed(peer.connection).error_code == ErrorCode.AUTHFAIL
    assert peer.heard() == [peer.exchange.rejection_message()]


def test_a_proof_made_for_another_dfs_is_refused() -> None:
    peer = ScriptedPeer(connect(Role.CS))
    peer.heard()
    peer.say(peer.hello(segment_id=300))
    peer.heard()
    assert peer.exchange is not None
    peer.say(peer.exchange.response_message())  # proves 256
    assert closed(peer.connection).error_code == ErrorCode.AUTHFAIL


def test_no_two_challenges_are_alike() -> None:
    random = CountingRandom(1)
    challenges = []
    for _ in range(2):
        peer = ScriptedPeer(Connection(Role.CS, CS_SETTINGS, random_octets=random, now=START))
        peer.heard()
        peer.say(peer.hello())
        challenges += [m for m in peer.heard() if isinstance(m, AuthChallenge)]
    assert challenges[0].challenge_id != challenges[1].challenge_id
    assert challenges[0].auth_data != challenges[1].auth_data


def test_two_laboratory_segments_talk_without_authentication_and_without_seals() -> None:
    laboratory: dict[str, Any] = {"laboratory": True, "key": b""}
    pair = pair_of(laboratory, laboratory)
    ready = next(event for event in events(pair.cs) if isinstance(event, Ready))
    assert ready.ssmb_keys is None
    pair.to_dfs = b""
    pair.cs.send(Config(), START)
    pair.exchange()
    assert len(pair.to_dfs) == 104  # CONFIG, and no seal behind it


@pytest.mark.parametrize("role", BOTH)
def test_one_laboratory_segment_alone_is_refused(role: Role) -> None:
    changes: dict[str, Any] = {"laboratory": True, "key": b""}
    pair = pair_of(changes if role is Role.CS else {}, changes if role is Role.DFS else {})
    for end in (closed(pair.cs), closed(pair.dfs)):
        assert end.error_code == ErrorCode.BADMSG
        assert "laboratory" in end.reason


def test_keys_stay_out_of_what_is_printed() -> None:
    pair = pair_of({}, {})
    ready = next(event for event in events(pair.cs) if isinstance(event, Ready))
    assert ready.ssmb_keys is not None
    assert "keys" not in repr(ready)
    assert repr(KEY)[2:-1] not in repr(CS_SETTINGS)


@pytest.mark.parametrize("changes", [{"auth_alg": 0}, {"auth_alg": 2}, {"auth_length": 0}])
def test_a_challenge_by_another_algorithm_is_refused(changes: dict[str, Any]) -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.AUTH_WAIT)
    peer.say(AuthChallenge(**changes))
    assert closed(peer.connection).error_code == ErrorCode.BADMSG
    assert peer.heard() == []


def test_a_laboratory_dfs_does_not_answer_a_real_challenge() -> None:
    peer = ScriptedPeer(connect(Role.DFS, laboratory=True, key=b""))
    peer.reach(State.AUTH_WAIT)
    peer.say(AuthChallenge())
    assert closed(peer.connection).reason == "auth_alg 1 is not supported"


@pytest.mark.parametrize("changes", [{"challenge_id": 1}, {"error_code": 99}, {"auth_length": 0}])
def test_a_right_result_in_a_wrong_wrapping_is_refused(changes: dict[str, Any]) -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.AUTH_WAIT)
    exchange = Exchange(KEY, 1, 256, 5, bytes(32))
    peer.say(exchange.challenge_message())
    peer.exchange = exchange
    peer.heard()
    peer.say(peer.exchange.result_message()._replace(**changes))
    assert closed(peer.connection).error_code == ErrorCode.AUTHFAIL
