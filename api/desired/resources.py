# SPDX-License-Identifier: Apache-2.0
"""What the desired state consists of, and how it is named (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from pydantic import BaseModel


class Kind(StrEnum):
    """The kinds of resource, in the order in which a document needs them."""

    SETTINGS = "settings"
    MONITOR = "monitor"
    POOL = "pool"
    VIRTUAL_SERVER = "virtual_server"


Key: TypeAlias = tuple[Kind, str]
"""Kind and name; the name of `settings` is its group's id as text."""

Body: TypeAlias = dict[str, Any]
"""As in cs.yaml, without defaults.  Whoever gets one from the desired state does not change it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A resource of the newest generation."""

    key: Key
    group_id: int
    place: int  # the order within its kind
    generation: int  # of its last change
    body: Body
    model: BaseModel  # the same, checked: VirtualServerConfig, PoolConfig, MonitorConfig ...


@dataclass(frozen=True, slots=True)
class Edit:
    """One resource as it is to be; None: gone."""

    key: Key
    group_id: int
    body: Body | None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a generation did to one resource; if it only moved within its list, both bodies are
    equal."""

    key: Key
    group_id: int
    before: Body | None  # None: it was not there
    after: Body | None  # None: it is gone
    place_before: int | None = None
    place_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A new generation; of a dry run what it would have been, with the number that it would get."""

    number: int
    at: float  # Unix time, s
    who: str
    how: str
    comment: str
    changes: tuple[Changed, ...]  # empty: nothing was different, and there is no new generation
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A generation in the history, without what it changed."""

    number: int
    at: float  # Unix time, s
    who: str
    how: str
    comment: str
    count: int  # resources that it changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a group's CS needs to come from one generation to another."""

    group_id: int
    generation: int
    since: int
    changed: Mapping[Kind, list[Body]] = field(default_factory=dict)
    gone: Mapping[Kind, list[str]] = field(default_factory=dict)
