# SPDX-License-Identifier: Apache-2.0
"""What a metric is: rows of tables, from which come what is exposed and docs/metrics.md.

A name begins with its component and ends in its unit (seconds, bytes), and in `_total` for what
only rises (prometheus.io/docs/practices/naming).  Counts begin with the process that answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

ItemT = TypeVar("ItemT")
Kind = Literal["counter", "gauge", "info"]


@dataclass(frozen=True, slots=True)
class Metric(Generic[ItemT]):
    """One metric: a value of each item."""

    name: str
    kind: Kind
    meaning: str
    value: Callable[[ItemT], float | None]
    """None: this item has none, and no sample."""


@dataclass(frozen=True, slots=True)
class Group(Generic[ItemT]):
    """Metrics with the same labels, of the same things."""

    of: str
    """What the items are, for people: "each node"."""
    labels: tuple[str, ...]
    values: Callable[[ItemT], tuple[str, ...]]
    """An item's values of `labels`; no two items have the same."""
    metrics: tuple[Metric[ItemT], ...]


@dataclass(frozen=True, slots=True)
class Reading(Generic[ItemT]):
    """A group, and the items that there are."""

    group: Group[ItemT]
    items: Sequence[ItemT]


AnyGroup = Group[Any]
AnyReading = Reading[Any]


def unlabelled(of: str, *metrics: Metric[ItemT]) -> Group[ItemT]:
    """A group with one item."""
    return Group(of, (), lambda _: (), metrics)
