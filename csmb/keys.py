# SPDX-License-Identifier: Apache-2.0
"""What CSMB derives from the pre-shared key (wire protocol 12 and decision 9)."""

from __future__ import annotations

import struct

from ssmb.keys import SessionKeys, derive, directional


def auth_proof(
    key: bytes, challenge_id: int, challenge: bytes, nonce: bytes, *, dfs_id: int, cs_id: int
) -> bytes:
    """Return what a DFS answers to an AUTH_CHALLENGE (12.2)."""
    ids = struct.pack(">HH", dfs_id, cs_id)
    return derive(key, "CSMB-AUTH-1", struct.pack(">I", challenge_id), challenge, nonce, ids)


def result_proof(
    key: bytes, challenge_id: int, challenge: bytes, nonce: bytes, *, dfs_id: int, cs_id: int
) -> bytes:
    """Return what proves the CS to the DFS in AUTH_RESULT (12.3)."""
    ids = struct.pack(">HH", cs_id, dfs_id)
    return derive(key, "CSMB-AUTHRES-1", struct.pack(">I", challenge_id), nonce, challenge, ids)


def stream_keys(key: bytes, challenge_id: int, challenge: bytes, nonce: bytes) -> SessionKeys:
    """Return the keys that seal the rest of this connection (decision 9)."""
    return directional(derive(key, "CSMB-KEY-1", struct.pack(">I", challenge_id), challenge, nonce))
