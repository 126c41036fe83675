# SPDX-License-Identifier: Apache-2.0
"""What a process measures itself, as things happen: the library keeps it until a scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import accumulate
from types import TracebackType
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from admin.distribution import DECISION_BOUNDS_S, Distribution

# or each has a series more, of when it began: process_start_time_seconds
disable_created_metrics()  # type: ignore[no-untyped-call]

DELAY_INTERVAL_S: Final = 0.05
_DELAYS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Instrument(NamedTuple):
    """One of them."""

    name: str
    kind: Literal["counter", "histogram"]
    of: str
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()  # of a histogram's buckets

    def counter(self, registry: CollectorRegistry) -> Counter:
        """To be counted with, in a process."""
        return Counter(self.name, self.meaning, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """To be measured with, in a process."""
        return Histogram(
            self.name, self.meaning, self.labels, registry=registry, buckets=self.bounds
        )


def delay(component: str) -> Instrument:
    """Of the event loop."""
    return Instrument(
        f"splitplane_{component}_loop_delay_seconds",
        "histogram",
        "the process",
        (),
        "How late the event loop did what was due, looked at 20 times a second: for about so long"
        " a datagram or request waits before it is handled.",
        _DELAYS_S,
    )


DECISIONS: Final = Instrument(
    "splitplane_cs_decision_seconds",
    "histogram",
    "the CS",
    (),
    "How long it took to answer a QUERY, from when it was read until its REPLY was ready; those"
    " that were read together took equally long. The wait before is the delay of the event loop.",
    DECISION_BOUNDS_S,
)


class Distributed(Collector):
    """Exposes a distribution that a component keeps by itself."""

    def __init__(self, instrument: Instrument, distribution: Distribution) -> None:
        self._instrument = instrument
        self._distribution = distribution

    def collect(self) -> Iterable[HistogramMetricFamily]:
        of = self._distribution
        bounds = [*map(floatToGoString, of.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(of.counts), strict=True))
        yield HistogramMetricFamily(
            self._instrument.name, self._instrument.meaning, buckets=buckets, sum_value=of.total
        )


class LoopDelay:
    """Measures it between `__aenter__` and `__aexit__`."""

    def __init__(self, component: str, registry: CollectorRegistry) -> None:
        self._histogram = delay(component).histogram(registry)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> LoopDelay:
        self._wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(DELAY_INTERVAL_S, self._due)

    def _due(self) -> None:
        assert self._timer is not None
        now = asyncio.get_running_loop().time()
        self._histogram.observe(max(0.0, now - self._timer.when()))
        self._wait()
