# SPDX-License-Identifier: Apache-2.0
"""Messages of alerts, counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry

from admin.alerts.alerts import OUTCOMES, Count
from admin.metrics.instruments import Instrument

MESSAGES: Final = Instrument(
    "splitplane_api_alert_messages_total",
    "counter",
    "each of `alerts`, and outcome",
    ("alert", "outcome"),
    "Messages that were `sent`, that `failed` once and are tried again, and that were `given_up`.",
)


def counting(names: Iterable[str], registry: CollectorRegistry) -> Count:
    """What counts them; *names*: of the alerts, which begin at 0."""
    counter = MESSAGES.counter(registry)
    for name in names:
        for outcome in OUTCOMES:
            counter.labels(name, outcome)

    def count(name: str, outcome: str) -> None:
        counter.labels(name, outcome).inc()

    return count
