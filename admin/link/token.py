# SPDX-License-Identifier: Apache-2.0
"""The file with the token by which a segment, or the command, proves itself to the API."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from admin.disk import NotAFile, TooLarge, read_file
from admin.errors import ConfigError

_OCTETS_MAX: Final = 4096


def read_token(path: Path) -> str:
    """The token; ConfigError."""
    try:
        mode = path.stat().st_mode
        text = read_file(path, _OCTETS_MAX).decode("ascii").strip()
    except FileNotFoundError:
        raise ConfigError(
            [f"{path}: there is no such token file; create one with: splitplane token create"]
        ) from None
    except OSError as error:
        raise ConfigError(
            [f"{path}: the token cannot be read ({error.strerror}); give a file that this user may"
             " read"]
        ) from None  # fmt: skip
    except (NotAFile, TooLarge, UnicodeDecodeError):
        raise ConfigError([f"{path}: this is no token file: give one line of text"]) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IXGRP:
        raise ConfigError([f"{path}: other users may read this token; run chmod 600 {path}"])
    if not text or not text.isprintable() or " " in text:
        raise ConfigError([f"{path}: this is no token: give one line without spaces"])
    return text
