# SPDX-License-Identifier: Apache-2.0
"""Files with what only this process may know; their content is in no message."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Final

from admin.disk import NotAFile, TooLarge, read_file
from admin.errors import ConfigError

_OCTETS_MAX: Final = 16 * 1024
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2


def read_secret(path: Path) -> str:
    """One line of text; ConfigError."""
    text = _read(path).rstrip("\r\n")
    if not text or "\n" in text or "\0" in text:
        raise ConfigError([f"{path}: give one line of text, and nothing else"])
    return text


def read_headers(path: Path) -> dict[str, str]:
    """Lines like `Name: value`; ConfigError."""
    headers: dict[str, str] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        value = value.strip()
        is_text = value.isascii() and value.isprintable()
        if not colon or not is_text or _NAME.fullmatch(name) is None:
            raise ConfigError([f"{path}:{number}: this is no header; give lines like Name: value"])
        headers[name] = value
    return headers


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = read_file(path, _OCTETS_MAX).decode()
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file; create it, with mode 600"]) from None
    except OSError as error:
        raise ConfigError(
            [f"{path}: cannot be read ({error.strerror}); give a file that this user may read"]
        ) from None
    except (NotAFile, TooLarge, UnicodeDecodeError):
        raise ConfigError([f"{path}: this is no small file of text; give one"]) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IXGRP:
        raise ConfigError([f"{path}: other users may read this secret; run chmod 600 {path}"])
    return text
