# SPDX-License-Identifier: Apache-2.0
"""What follows from the pre-shared key: the wire protocol's worked example, octet for octet."""

from __future__ import annotations

import pytest

from ssmb import keys

KEY = b"0123456789abcdef" * 2
CHALLENGE = bytes(range(32))
NONCE = bytes(range(0x80, 0xA0))


def test_the_keys_of_both_directions() -> None:
    d2c, c2d = keys.session_keys(KEY, 7, CHALLENGE, NONCE)
    assert d2c.hex() == "b5df48762b527d78447929fb6a3b152e"
    assert c2d.hex() == "c778b7dc336c239e59c7b4a745798827"


def test_the_secret_between() -> None:
    secret = keys.derive(KEY, "SSMB-KEY-1", (7).to_bytes(4, "big"), CHALLENGE, NONCE)
    assert secret.hex() == "6b1f4d908458abb8c588bb5fc5c246f759352e26bf44795afedab8acb67e080a"
    assert keys.directional(secret) == keys.session_keys(KEY, 7, CHALLENGE, NONCE)


def test_the_proof_of_a_dfs() -> None:
    proof = keys.auth_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1)
    assert proof.hex() == "2f5daef188305a53206e80aa78a8423e2584a0473ade688e1778d64c773083f7"
    assert keys.proofs_equal(proof, bytes(proof))


@pytest.mark.parametrize(
    "other",
    [
        keys.auth_proof(KEY[:-1], 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1),
        keys.auth_proof(KEY, 8, CHALLENGE, NONCE, dfs_id=256, cs_id=1),
        keys.auth_proof(KEY, 7, NONCE, CHALLENGE, dfs_id=256, cs_id=1),
        keys.auth_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=257, cs_id=1),
        keys.auth_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=2),
    ],
)
def test_everything_that_goes_into_a_proof_matters(other: bytes) -> None:
    proof = keys.auth_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1)
    assert not keys.proofs_equal(proof, other)


def test_the_directions_have_keys_of_their_own() -> None:
    d2c, c2d = keys.session_keys(KEY, 7, CHALLENGE, NONCE)
    assert d2c != c2d
    assert len(d2c) == len(c2d) == keys.SEAL_KEY_SIZE
