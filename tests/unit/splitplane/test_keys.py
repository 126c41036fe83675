# SPDX-License-Identifier: Apache-2.0
"""A key file holds 16 octets or more, raw or hexadecimal, and is nobody else's to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.errors import ConfigError
from splitplane.keys import read_key

KEY = bytes(range(128, 160))


def _file(folder: Path, octets: bytes, mode: int = 0o600) -> Path:
    path = folder / "cluster.key"
    path.write_bytes(octets)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "octets",
    [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n", b" " + KEY.hex().encode()],
)
def test_a_key_is_raw_or_hexadecimal(tmp_path: Path, octets: bytes) -> None:
    assert read_key(_file(tmp_path, octets)) == KEY


@pytest.mark.parametrize(
    ("octets", "mode", "said"),
    [
        (b"", 0o600, "the key has 0 octets; at least 16 are needed"),
        (KEY[:15], 0o600, "the key has 15 octets; at least 16"),
        (KEY[:15].hex().encode(), 0o600, "the key has 15 octets; at least 16"),
        (KEY * 1000, 0o600, "this is not a key file"),
        (KEY, 0o644, "other users may read or write this key; run chmod 600"),
    ],
)
def test_a_wrong_key_file_is_said(tmp_path: Path, octets: bytes, mode: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_key(_file(tmp_path, octets, mode))


def test_a_missing_key_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such key file; create one with"):
        read_key(tmp_path / "cluster.key")
