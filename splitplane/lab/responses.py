# SPDX-License-Identifier: Apache-2.0
"""Read what the laboratory's server sends, and compare every octet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from splitplane.lab.web import pattern

_READ_OCTETS: Final = 64 * 1024


class WrongOctets(ValueError):
    """Octets came that were not sent."""


class EndedEarly(EOFError):
    """The connection ended before everything had come."""


async def read_head(reader: asyncio.StreamReader) -> dict[str, str]:
    """The header fields of a response by their names as sent; ValueError if it is no 200."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    if not head[0].startswith("HTTP/1.1 200 "):
        raise ValueError(f"answered {head[0]!r}")
    return dict(line.split(": ", 1) for line in head[1:] if ": " in line)


async def read_pattern(
    reader: asyncio.StreamReader, size: int, heard: Callable[[int], object] = lambda octets: None
) -> None:
    """Read a body of *size* octets of the pattern; *heard* is called with how many have come now.

    WrongOctets and EndedEarly say where.
    """
    offset = 0
    while offset < size:
        octets = await reader.read(min(_READ_OCTETS, size - offset))
        if not octets:
            raise EndedEarly(f"the connection ended {size - offset} octets early")
        compare(offset, octets)
        offset += len(octets)
        heard(len(octets))


def compare(offset: int, octets: bytes) -> None:
    """WrongOctets unless these are the pattern's octets from *offset*; up to 64 KiB."""
    if octets != pattern(offset, len(octets)):
        raise WrongOctets(f"wrong octets within {len(octets)} from {offset}")
