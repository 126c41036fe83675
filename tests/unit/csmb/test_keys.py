# SPDX-License-Identifier: Apache-2.0
"""What CSMB proves and seals with: the wire protocol's worked example, octet for octet."""

from __future__ import annotations

from csmb import keys
from ssmb import keys as ssmb_keys

KEY = b"0123456789abcdef" * 2
CHALLENGE = bytes(range(32))
NONCE = bytes(range(0x80, 0xA0))


def test_the_proof_of_a_dfs() -> None:
    proof = keys.auth_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1)
    assert proof.hex() == "2929442ef9cc90c7bcf0a0cd2a11d9ba1071165539b406917cae45228f379448"


def test_the_proof_of_a_cs() -> None:
    proof = keys.result_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1)
    assert proof.hex() == "f652116487039dfbfd048ba601b7aad69c0f4de43ea07ad7f4cfb8e743ba3641"


def test_no_two_uses_share_a_key_or_a_proof() -> None:
    made = [
        keys.auth_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1),
        keys.result_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1),
        keys.auth_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1, transcript=bytes(64)),
        keys.result_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1, transcript=bytes(64)),
        ssmb_keys.auth_proof(KEY, 7, CHALLENGE, NONCE, dfs_id=256, cs_id=1),
        *keys.stream_keys(KEY, 7, CHALLENGE, NONCE),
        *ssmb_keys.session_keys(KEY, 7, CHALLENGE, NONCE),
    ]
    assert len(set(made)) == len(made)


def test_new_randomness_of_either_side_makes_new_keys() -> None:
    before = keys.stream_keys(KEY, 7, CHALLENGE, NONCE)
    assert keys.stream_keys(KEY, 7, NONCE, NONCE) != before
    assert keys.stream_keys(KEY, 7, CHALLENGE, CHALLENGE) != before
    assert keys.stream_keys(KEY, 8, CHALLENGE, NONCE) != before
    assert {len(key) for key in before} == {16}
