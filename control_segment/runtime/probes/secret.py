# SPDX-License-Identifier: Apache-2.0
"""Secrets that monitors name, each in a file of one folder on this machine.

They are read for each probe, so a new one needs no restart.  No message has their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from admin.alerts.secret_files import read_secret
from admin.errors import ConfigError


def values(folder: Path | None, wanted: Mapping[str, str]) -> dict[str, str]:
    """Each with the content of the file that it names; ConfigError says what is wrong with one."""
    if not wanted:
        return {}
    if folder is None:
        raise ConfigError(
            ["this CS was started without monitor_secrets; give it, and restart the CS"]
        )
    return {name: read_secret(folder / file) for name, file in wanted.items()}


def headers(folder: Path | None, wanted: Mapping[str, str]) -> dict[str, str]:
    """As `values`, for HTTP headers, which not every text can be."""
    found = values(folder, wanted)
    for name, text in found.items():
        if not (text.isascii() and text.isprintable() and text == text.strip()):
            raise ConfigError(
                [
                    f"{wanted[name]}: this secret cannot be the value of header {name}; give ASCII"
                    " characters, without spaces at either end"
                ]
            )
    return found
