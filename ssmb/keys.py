# SPDX-License-Identifier: Apache-2.0
"""What is derived from the pre-shared key (wire protocol 12)."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Final, NamedTuple

KEY_MIN: Final = 16
SEAL_KEY_SIZE: Final = 16


class SessionKeys(NamedTuple):
    """A seal key of 16 octets for each direction."""

    d2c: bytes  # DFS to CS
    c2d: bytes  # CS to DFS


def derive(key: bytes, label: str, *parts: bytes) -> bytes:
    """Return H(label, ...) = HMAC-SHA-256(key, label || 0x00 || ...), 32 octets."""
    return hmac.digest(key, label.encode() + b"\0" + b"".join(parts), hashlib.sha256)


def directional(secret: bytes) -> SessionKeys:
    """Return the first 16 octets of HMAC(secret, direction) for both directions (12.4)."""
    d2c, c2d = (hmac.digest(secret, way, hashlib.sha256) for way in (b"D2C", b"C2D"))
    return SessionKeys(d2c[:SEAL_KEY_SIZE], c2d[:SEAL_KEY_SIZE])


def session_keys(key: bytes, challenge_id: int, challenge: bytes, nonce: bytes) -> SessionKeys:
    """Return the SSMB keys that follow from a CSMB authentication."""
    return directional(derive(key, "SSMB-KEY-1", struct.pack(">I", challenge_id), challenge, nonce))


def auth_proof(
    key: bytes, challenge_id: int, challenge: bytes, nonce: bytes, *, dfs_id: int, cs_id: int
) -> bytes:
    """Return what a DFS answers to an AUTH_CHALLENGE on SSMB (12.2)."""
    ids = struct.pack(">HH", dfs_id, cs_id)
    return derive(key, "SSMB-AUTH-1", struct.pack(">I", challenge_id), challenge, nonce, ids)


def proofs_equal(left: bytes, right: bytes) -> bool:
    """Compare in constant time (12.5)."""
    return hmac.compare_digest(left, right)
