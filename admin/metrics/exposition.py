# SPDX-License-Identifier: Apache-2.0
"""Readings as the text that Prometheus reads, in pieces of about a millisecond.

`prometheus_client` negotiates the format and writes what a family is.  Samples are written here: it
takes 7 us for each and a whole registry at once, which for 100,000 nodes is 10 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import Metric as Family
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from admin.metrics.tables import AnyReading, Group, ItemT, Metric

AT_ONCE: Final = 1000
"""Samples in a piece."""
_END: Final = b"# EOF\n"  # of OpenMetrics
_TOTAL: Final = "_total"


class Exposition:
    """The text in the format that a client prefers."""

    def __init__(self, accept: str) -> None:
        """`accept`: the request's header; without one the oldest format is meant."""
        self._encode, self.content_type = choose_encoder(accept)
        self._end = _END if self._encode(_Families([])).endswith(_END) else b""

    def families(self, families: Iterable[Family]) -> bytes:
        """Families of the library."""
        return self._encode(_Families(families)).removesuffix(_END)

    def pieces(
        self, readings: Iterable[AnyReading], measured: Collector | None = None
    ) -> Iterator[bytes]:
        """All of it; between pieces other work may be done."""
        yield self.families(ProcessCollector(registry=None).collect())
        if measured is not None:
            yield self.families(measured.collect())
        for reading in readings:
            yield from self._reading(reading.group, reading.items)
        yield self._end

    def _reading(self, group: Group[ItemT], items: Sequence[ItemT]) -> Iterator[bytes]:
        labels = list[str]()
        for start in range(0, len(items), AT_ONCE):
            labels += [_labels(group, item) for item in items[start : start + AT_ONCE]]
            yield b""
        for metric in group.metrics:
            name = metric.name.removesuffix(_TOTAL)
            text = self.families([Family(name, metric.meaning, metric.kind)])
            for start in range(0, max(1, len(items)), AT_ONCE):
                some = slice(start, start + AT_ONCE)
                yield text + _samples(metric, labels[some], items[some])
                text = b""


class _Families(Collector):
    """A registry of these."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _samples(metric: Metric[ItemT], labels: Sequence[str], items: Sequence[ItemT]) -> bytes:
    name = metric.name + "_info" if metric.kind == "info" else metric.name
    lines = [
        f"{name}{labelled} {float(value)!r}\n"
        for labelled, item in zip(labels, items, strict=True)
        if (value := metric.value(item)) is not None
    ]
    return "".join(lines).encode()


def _labels(group: Group[ItemT], item: ItemT) -> str:
    values = group.values(item)
    if not values:
        return ""
    pairs = zip(group.labels, values, strict=True)
    return "{" + ",".join([f'{label}="{_escaped(value)}"' for label, value in pairs]) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
