# SPDX-License-Identifier: Apache-2.0
"""Read a pre-shared key file: 16 octets or more, raw or as hexadecimal digits."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from admin.disk import said_when_slow
from admin.errors import ConfigError

KEY_OCTETS_MIN: Final = 16
KEY_OCTETS_MAX: Final = 4096  # the path of a wrong, large file must not become a key
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
MAKE_ONE: Final = "create one with: head -c 32 /dev/urandom | xxd -p -c 64"


def read_key(path: Path) -> bytes:
    """Return the key in *path*, or raise ConfigError."""
    try:
        with said_when_slow(path):
            mode = path.stat().st_mode
            with path.open("rb") as file:
                octets = file.read(KEY_OCTETS_MAX + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such key file; {MAKE_ONE}"]) from None
    except OSError as error:
        raise ConfigError(
            [
                f"{path}: the key cannot be read ({error.strerror}); give a file that"
                " this user may read"
            ]
        ) from None
    if len(octets) > KEY_OCTETS_MAX:
        raise ConfigError([f"{path}: more than {KEY_OCTETS_MAX} octets; this is not a key file"])
    if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IXGRP:
        raise ConfigError([f"{path}: other users may read or write this key; run chmod 600 {path}"])
    key = _decode(octets)
    if len(key) < KEY_OCTETS_MIN:
        raise ConfigError(
            [
                f"{path}: the key has {len(key)} octets; at least {KEY_OCTETS_MIN} are needed;"
                f" {MAKE_ONE}"
            ]
        )
    return key


def _decode(octets: bytes) -> bytes:
    text = octets.strip()
    if text and len(text) % 2 == 0 and all(octet in _HEX for octet in text):
        return bytes.fromhex(text.decode())
    return octets
