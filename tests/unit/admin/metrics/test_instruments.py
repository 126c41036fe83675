# SPDX-License-Identifier: Apache-2.0
"""The delay of the event loop is measured while it runs."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from admin.distribution import Distribution
from admin.metrics.instruments import DECISIONS, DELAY_INTERVAL_S, Distributed, LoopDelay
from support.segments.both import until


def test_a_loop_that_is_held_up_is_seen() -> None:
    registry = CollectorRegistry()

    def value(suffix: str, **labels: str) -> float:
        return registry.get_sample_value(f"splitplane_cs_loop_delay_seconds{suffix}", labels) or 0

    async def main() -> None:
        async with LoopDelay("cs", registry):
            end = time.monotonic() + DELAY_INTERVAL_S + 0.3
            while time.monotonic() < end:  # what must not happen in a segment
                pass
            await until(lambda: value("_count") > 0)

    asyncio.run(main())
    assert value("_sum") >= 0.3
    assert value("_bucket", le="0.2") < value("_bucket", le="+Inf")


def test_a_distribution_is_exposed_as_a_histogram() -> None:
    registry, of = CollectorRegistry(), Distribution((0.001, 0.01))
    registry.register(Distributed(DECISIONS, of))
    of.add(0.001, 3)
    of.add(0.002, 2)
    of.add(5.0, 1)

    def value(suffix: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"splitplane_cs_decision_seconds{suffix}", labels)

    assert [value("_bucket", le=bound) for bound in ("0.001", "0.01", "+Inf")] == [3, 5, 6]
    assert value("_count") == 6
    assert value("_sum") == 3 * 0.001 + 2 * 0.002 + 5.0
