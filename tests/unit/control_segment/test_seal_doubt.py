# SPDX-License-Identifier: Apache-2.0
"""A CS that hears only wrong seals of a DFS authenticates it again (wire protocol 12.4)."""

from __future__ import annotations

import pytest

from control_segment.seal_doubt import SEAL_DOUBT_S, SealDoubt
from ssmb.messages import AuthChallenge, Query
from ssmb.seal import Sealer
from support.segments.dfs_double import CLIENT, SERVER, DfsDouble, Rig, config

WRONG = Sealer(b"a key of nobody.")


def forged() -> bytes:
    return WRONG.seal(bytes(52))


def with_two_addresses(second: DfsDouble) -> Rig:
    listed = [{"address": "10.255.0.1"}, {"address": "10.254.0.1"}]
    rig = Rig(config(data_flow_segments=listed), DfsDouble(0))
    rig.dfs.address = ("nowhere", 0)  # datagrams go to the one double that has the newest keys
    second._keys = rig.dfs._keys  # of the same DFS
    rig.dfss.append(second)
    second.connect(rig)
    return rig


def is_ready(rig: Rig) -> bool:
    return rig.cs.connections.links[0].is_ready


def challenges(rig: Rig) -> int:
    return sum(isinstance(message, AuthChallenge) for message in rig.dfs.ssmb)


def test_a_dfs_that_seals_with_other_keys_is_authenticated_again_and_served() -> None:
    rig = Rig()
    dfs = rig.dfs
    dfs._sealer = Sealer(b"keys of another.")
    assert dfs.query(rig) is None
    rig.advance(SEAL_DOUBT_S - 0.1)
    assert is_ready(rig)
    rig.advance(0.2)
    assert not is_ready(rig)
    assert rig.cs.log[-1].endswith("only wrong seals for 2 s: authenticating again")
    assert dfs.reconnect_s is not None
    assert dfs.reconnect_s < 1
    dfs.connect(rig)
    assert dfs.query(rig, port=2) is not None
    rig.advance(3 * SEAL_DOUBT_S)
    assert is_ready(rig)


def test_forged_datagrams_cost_a_dfs_that_is_well_a_challenge_and_not_its_connection() -> None:
    rig = Rig()
    for _ in range(50):
        for _ in range(20):
            rig.cs.receive_datagram(forged(), rig.dfs.address, rig.now)
        rig.advance(0.1)
        assert rig.cs.peers[256].authentication.is_proved  # and it is trusted all the while
    assert is_ready(rig)
    assert 2 <= challenges(rig) <= 1 + 5 / SEAL_DOUBT_S + 1
    assert rig.cs.statistics.drops["bad_seal"] == 1000
    assert rig.dfs.query(rig) is not None


def test_a_right_seal_among_the_wrong_ones_is_enough() -> None:
    """The challenge is lost, a QUERY comes through."""
    rig = Rig()
    rig.dfs.answers_challenges = False
    rig.cs.receive_datagram(forged(), rig.dfs.address, rig.now)
    rig.advance(1.0)
    query = Query(0, 0, 5, CLIENT, SERVER, 1, 80, 6, 0, 2)
    rig.dfs.send(rig, query)
    rig.advance(SEAL_DOUBT_S)
    assert is_ready(rig)


def test_both_connections_of_one_dfs_are_made_anew() -> None:
    second = DfsDouble(1)
    rig = with_two_addresses(second)
    second.answers_challenges = False
    rig.cs.receive_datagram(forged(), second.address, rig.now)
    rig.advance(SEAL_DOUBT_S + 0.1)
    assert not any(link.is_ready for link in rig.cs.connections.links)


@pytest.mark.parametrize("versions", [((1, 0),), ((1, 0), (2, 0))])
def test_two_connections_of_one_dfs_speak_one_version_of_ssmb(
    versions: tuple[tuple[int, int], ...],
) -> None:
    rig = with_two_addresses(DfsDouble(1, ssmb_versions=versions))
    assert is_ready(rig)
    assert rig.cs.connections.links[1].is_ready is ((2, 0) in versions)
    assert rig.cs.peers[256].ssmb_version == 2
    if versions == ((1, 0),):
        assert rig.cs.log[-1].endswith("this DFS speaks SSMB 2, this one SSMB 1")


def test_a_doubt_begins_once_and_ends_with_its_verdict() -> None:
    doubt = SealDoubt()
    assert doubt.get_timer() is None
    assert doubt.bad_seal(7, 10.0)
    assert not doubt.bad_seal(8, 11.0)
    assert doubt.get_timer() == 10.0 + SEAL_DOUBT_S
    assert not doubt.is_confirmed(7, 11.0)
    assert doubt.is_confirmed(7, 12.0)
    assert doubt.get_timer() is None
    assert doubt.bad_seal(7, 13.0)
    assert not doubt.is_confirmed(8, 15.0)
