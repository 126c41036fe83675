# SPDX-License-Identifier: Apache-2.0
"""What a knock shows, and to whom (12.7)."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from csmb.constants import HELLO_SIZE_V2, KNOCK_SIZE, Role
from csmb.knock import NONCE_SIZE, nonce_of
from csmb.transitions import State
from support.segments.csmb_pair import KEY, ScriptedPeer, connect, pair_of

WHOLE = HELLO_SIZE_V2 + KNOCK_SIZE


def knocking() -> bytes:
    return connect(Role.CS, knocks=True).data_to_send()


def test_a_knock_is_what_the_text_says() -> None:
    octets = knocking()
    assert len(octets) == WHOLE
    assert octets[6:8] == WHOLE.to_bytes(2, "big")
    proof = hmac.digest(KEY, b"CSMB-KNOCK-1\0" + octets[:-16], hashlib.sha256)
    assert octets[-16:] == proof[:16]
    assert nonce_of(octets, KEY) == octets[HELLO_SIZE_V2 : HELLO_SIZE_V2 + NONCE_SIZE]


@pytest.mark.parametrize("at", range(0, WHOLE, 7))
def test_nothing_of_it_can_be_changed(at: int) -> None:
    octets = bytearray(knocking())
    octets[at] ^= 1
    assert nonce_of(bytes(octets), KEY) is None


@pytest.mark.parametrize("octets", [b"", b"\0\1", bytes(WHOLE), knocking()[:-1]])
def test_what_is_no_knock_is_none(octets: bytes) -> None:
    assert nonce_of(octets, KEY) is None


def test_another_key_is_none() -> None:
    assert nonce_of(knocking(), KEY[::-1]) is None


@pytest.mark.parametrize("csmb_versions", [((1, 0),), ((1, 0), (2, 0))])
def test_a_dfs_that_does_not_look_at_it_goes_on_as_ever(
    csmb_versions: tuple[tuple[int, int], ...],
) -> None:
    pair = pair_of({"knocks": True}, {"csmb_versions": csmb_versions})
    assert pair.cs.is_ready
    assert pair.dfs.is_ready


def test_only_what_is_not_sealed_has_one() -> None:
    cs = connect(Role.CS, knocks=True)
    peer = ScriptedPeer(cs)
    peer.reach(State.READY)
    before = len(cs.data_to_send())
    cs.announce(active=True, role_epoch=1, now=100.0)
    assert len(cs.data_to_send()) - before < WHOLE


def test_who_has_no_key_cannot_knock() -> None:
    with pytest.raises(ValueError, match="key"):
        connect(Role.CS, knocks=True, laboratory=True, key=b"")
