# SPDX-License-Identifier: Apache-2.0
"""What CSMB derives from the pre-shared key (wire protocol 12 and decision 9).

A `transcript` is what both sides' HELLOs were (12.6); without one the proofs are those of a peer
that does not prove its HELLOs.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from ssmb.keys import SessionKeys, derive, directional

NO_HELLOS: Final = bytes(32)


def with_hello(hellos: bytes, octets: bytes) -> bytes:
    """Return the digest of a side's HELLOs, one more included; it begins with NO_HELLOS (12.6)."""
    return hashlib.sha256(hellos + octets).digest()


def auth_proof(
    key: bytes,
    challenge_id: int,
    challenge: bytes,
    nonce: bytes,
    *,
    dfs_id: int,
    cs_id: int,
    transcript: bytes = b"",
) -> bytes:
    """Return what a DFS answers to an AUTH_CHALLENGE (12.2)."""
    ids = struct.pack(">HH", dfs_id, cs_id)
    label = "CSMB-AUTH-2" if transcript else "CSMB-AUTH-1"
    return derive(key, label, struct.pack(">I", challenge_id), challenge, nonce, ids, transcript)


def result_proof(
    key: bytes,
    challenge_id: int,
    challenge: bytes,
    nonce: bytes,
    *,
    dfs_id: int,
    cs_id: int,
    transcript: bytes = b"",
) -> bytes:
    """Return what proves the CS to the DFS in AUTH_RESULT (12.3)."""
    ids = struct.pack(">HH", cs_id, dfs_id)
    label = "CSMB-AUTHRES-2" if transcript else "CSMB-AUTHRES-1"
    return derive(key, label, struct.pack(">I", challenge_id), nonce, challenge, ids, transcript)


def stream_keys(key: bytes, challenge_id: int, challenge: bytes, nonce: bytes) -> SessionKeys:
    """Return the keys that seal the rest of this connection (decision 9)."""
    return directional(derive(key, "CSMB-KEY-1", struct.pack(">I", challenge_id), challenge, nonce))
