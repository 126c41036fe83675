# SPDX-License-Identifier: Apache-2.0
"""The knock at the end of a CS's first HELLO: who knocks has the key (wire protocol 12.7).

It lets a DFS tell a CS from a stranger by the first octets of a connection, before it keeps
anything for it.  It proves nothing more: authentication follows as ever.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from csmb.constants import HELLO_SIZE_V2, KNOCK_SIZE, MessageType
from ssmb.keys import derive

NONCE_SIZE: Final = KNOCK_SIZE // 2
_LENGTH: Final = slice(6, 8)  # msg_length
_WHOLE: Final = HELLO_SIZE_V2 + KNOCK_SIZE
_KIND: Final = MessageType.HELLO.to_bytes(2, "big")


def with_knock(hello: bytes, key: bytes, nonce: bytes) -> bytes:
    """Return a HELLO that has its tail with the knock behind it; `nonce` must never repeat."""
    longer = bytearray(hello)
    longer[_LENGTH] = _WHOLE.to_bytes(2, "big")
    longer += nonce
    return bytes(longer) + _proof(bytes(longer), key)


def nonce_of(octets: bytes, key: bytes) -> bytes | None:
    """Return the nonce if these are the first octets of who has the key; else None."""
    if len(octets) < _WHOLE or octets[:2] != _KIND:
        return None
    if int.from_bytes(octets[_LENGTH], "big") != _WHOLE:
        return None
    proved, proof = octets[: _WHOLE - NONCE_SIZE], octets[_WHOLE - NONCE_SIZE : _WHOLE]
    return proved[HELLO_SIZE_V2:] if compare_digest(_proof(proved, key), proof) else None


def _proof(octets: bytes, key: bytes) -> bytes:
    return derive(key, "CSMB-KNOCK-1", octets)[:NONCE_SIZE]
