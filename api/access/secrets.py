# SPDX-License-Identifier: Apache-2.0
"""Secrets that are shown once: tokens, sign-in links, sessions.  The database has their SHA-256.

256 random bits need no slow hash: there is nothing to guess from.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

TOKEN_PREFIX: Final = "splp_"
SECRET_MAX: Final = 100  # characters that are looked at; a real one has 43, a token 48


def new_secret() -> str:
    """256 random bits as text for URLs and headers."""
    return secrets.token_urlsafe(32)


def new_token() -> str:
    """A bearer token; the prefix lets scanners for leaked secrets find it."""
    return TOKEN_PREFIX + new_secret()


def new_id() -> str:
    """Of a token; no secret."""
    return secrets.token_hex(8)


def digest(secret: str) -> str:
    """What is stored, and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
