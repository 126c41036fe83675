# SPDX-License-Identifier: Apache-2.0
"""A whole configuration as the API sends it and a CS keeps it: two lines of JSON.

{"generation": 7, "made_at": 1790000000.0, "group_id": 1}
{"settings": {...}, "monitors": [...], "pools": [...], "virtual_servers": [...]}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from admin.errors import ConfigError
from control_segment.config import GroupConfig
from control_segment.config_changes import validated


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Which configuration it is."""

    generation: int
    made_at: float  # Unix time, s
    group_id: int


_HEAD: Final = TypeAdapter(Head)


def frame_of(head: Head, configuration: dict[str, Any]) -> bytes:
    """The two lines."""
    return to_json(head) + b"\n" + to_json(configuration)


def head_of(octets: bytes) -> tuple[Head, bytes]:
    """The first line, and the second one as it is; ConfigError: it is none."""
    line, _, rest = octets.partition(b"\n")
    try:
        return _HEAD.validate_json(line), rest
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError([f"its first line: {place}: {first['msg'].lower()}"]) from None


def configuration_of(line: bytes) -> dict[str, Any]:
    """What the second line says, unchecked; ConfigError."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"a configuration is JSON: {error}"]) from None
    if not isinstance(said, dict):
        raise ConfigError(["a configuration is a JSON object"])
    return said


def group_of(head: Head, configuration: dict[str, Any], group_id: int) -> GroupConfig:
    """The configuration, checked; ConfigError with all that is wrong with it."""
    if head.group_id != group_id:
        raise ConfigError(
            [f"it is that of group {head.group_id}, and this CS is of group {group_id}"]
        )
    return validated(GroupConfig, configuration)
