# SPDX-License-Identifier: Apache-2.0
"""The conformance vectors of tests/vectors: field values and the octets that they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ssmb.addresses import UNSPECIFIED, from_text

VECTORS_FILE = Path(__file__).parents[2] / "vectors" / "wire_vectors.json"
# The vectors write these as text, what is not an address or a number as hexadecimal digits.
_OCTETS = frozenset(
    {"app_data", "auth_data", "auth_nonce", "frag_data", "grant_data", "taken_data"}
)
_DERIVED = frozenset({"app_length", "frag_length", "grant_length", "taken_length", "vs_count"})


class Vector(NamedTuple):
    """One message, as values by wire name and as octets."""

    name: str
    bus: str
    version: int
    type: str
    fields: dict[str, Any]
    octets: bytes


def load(bus: str) -> list[Vector]:
    """Return the vectors of a bus, named for pytest."""
    entries = json.loads(VECTORS_FILE.read_text())
    return [
        Vector(
            f"{entry['type']}-v{entry['version']}-{number}",
            entry["bus"],
            entry["version"],
            entry["type"],
            {name: _value(name, value) for name, value in entry["fields"].items()},
            bytes.fromhex(entry["hex"]),
        )
        for number, entry in enumerate(entries)
        if entry["bus"] == bus
    ]


def message_fields(vector: Vector) -> dict[str, Any]:
    """Return what the message class takes: not the header's serials, no derived lengths."""
    header = {"serial_global", "serial_bytype"} if vector.bus == "CSMB" else set()
    return {
        name: value
        for name, value in vector.fields.items()
        if name not in header | _DERIVED and not name.startswith("reserved")
    }


def _value(name: str, value: Any) -> Any:
    if "ipaddr" in name:
        address = from_text(value)
        return UNSPECIFIED if value == "0.0.0.0" else address
    return bytes.fromhex(value) if name in _OCTETS else value
