# SPDX-License-Identifier: Apache-2.0
"""What bench/compare.py measured, and how it shows it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

REFERENCES = {"routing": "routing", "nftables": "nftables", "haproxy": "HAProxy"}
IN_KERNEL = ("routing", "nftables")
ASLEEP_P99_US = 5000
ASLEEP_MEDIAN_US = 1000
FOREIGN_SHARE = 0.05  # of the processor time; more of it is worth a word


@dataclass(frozen=True, slots=True)
class Figures:
    """One middle in one round; None: not measured, or there is no such thing."""

    connections_per_s: float  # a new connection each (Connection: close)
    failed: int  # of them
    setup_us: float  # median time of connect(), one at a time
    setup_p99_us: float
    processor_us: float  # per connection, of all parts and the kernel, less foreign processes
    foreign_share: float  # of the processors' time during the connections, 0 to 1
    idle_share: float
    agent_us: float | None = None  # per connection, of processor_us
    cs_us: float | None = None
    standby_us: float | None = None  # the standby CS
    proxy_us: float | None = None  # the same of a proxy's processes
    softirq_us: float | None = None  # of the whole machine, foreigners' share included
    gbit_per_s: float | None = None  # one TCP stream, client to server
    gbit_per_s_down: float | None = None  # one TCP stream, server to client
    packets_per_s: float | None = None  # UDP of 64 octets, received


def slept(name: str, figures: Figures) -> bool:
    """Whether both processors went to sleep between packets, so that their waking up was measured.

    Some virtual machines do that with what forwards in the kernel: few set-ups in a hundred take
    about 15 ms then, and the rate halves.  Where others keep the processors busy, these do not sleep,
    and packets wait for them; a middle with a process of its own is never excused."""
    return (
        name in IN_KERNEL
        and figures.setup_us < ASLEEP_MEDIAN_US
        and figures.setup_p99_us > ASLEEP_P99_US
        and figures.foreign_share <= FOREIGN_SHARE
    )


def medians(name: str, rounds: Sequence[Figures]) -> dict[str, float | None]:
    """By field; rounds in which the processors slept are left out, unless all are such."""
    awake = [it for it in rounds if not slept(name, it)] or rounds
    found: dict[str, float | None] = {}
    for field in fields(awake[0]) if awake else ():
        values = [value for it in awake if (value := getattr(it, field.name)) is not None]
        found[field.name] = statistics.median(values) if values else None
    return found


COLUMNS: Mapping[str, tuple[str, str]] = {
    "Gbit/s up": ("gbit_per_s", ".1f"),
    "Gbit/s down": ("gbit_per_s_down", ".1f"),
    "UDP packets/s": ("packets_per_s", ",.0f"),
    "new connections/s": ("connections_per_s", ",.0f"),
    **{f"of {label}": (f"connections_per_s/{name}", ".2f") for name, label in REFERENCES.items()},
    "set-up median us": ("setup_us", ",.0f"),
    "99th us": ("setup_p99_us", ",.0f"),
    "processor us per connection": ("processor_us", ".1f"),
    "of routing's": ("processor_us/routing", ".2f"),
    "agent us": ("agent_us", ".1f"),
    "CS us": ("cs_us", ".1f"),
    "standby CS us": ("standby_us", ".1f"),
}
"""What a table shows: the heading, and the field of Figures with its format; field/name is the ratio to
what that middle has."""


def table(
    results: Mapping[str, Sequence[Figures]],
    left_out: Mapping[str, str],
    columns: Mapping[str, tuple[str, str]] = COLUMNS,
) -> list[str]:
    """Lines in Markdown: medians, and the ratios of medians."""
    rows = {name: medians(name, rounds) for name, rounds in results.items()}
    shown = {
        label: (field, form)
        for label, (field, form) in columns.items()
        if any(_value(rows, row, field) is not None for row in rows.values())
    }
    lines = [
        f"| device under test | {' | '.join(shown)} |",
        f"| --- |{' ---: |' * len(shown)}",
    ]
    for name, row in rows.items():
        cells = [_cell(_value(rows, row, field), form) for field, form in shown.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in left_out:
        lines.append(f"| {name} |{' - |' * len(shown)}")
    return lines


def _value(
    rows: Mapping[str, Mapping[str, float | None]], row: Mapping[str, float | None], field: str
) -> float | None:
    name, _, reference = field.partition("/")
    value = row[name]
    if not reference or value is None:
        return value
    other = rows.get(reference, {}).get(name)
    return value / other if other else None


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def notes(results: Mapping[str, Sequence[Figures]], left_out: Mapping[str, str]) -> list[str]:
    """What a reader of the table must know."""
    lines = [f"{name} has no figures here: {why}." for name, why in left_out.items()]
    for name, rounds in results.items():
        asleep = sum(slept(name, it) for it in rounds)
        if asleep:
            what = "they count, there are no others" if asleep == len(rounds) else "left out"
            lines.append(
                f"{name}: both processors slept between packets in {asleep} of {len(rounds)}"
                f" rounds (99th percentile of the set-up above {ASLEEP_P99_US / 1000:.0f} ms); {what}."
            )
        failed = sum(it.failed for it in rounds)
        if failed:
            lines.append(f"{name}: {failed} connections failed.")
    foreign = max((it.foreign_share for rounds in results.values() for it in rounds), default=0.0)
    if foreign > FOREIGN_SHARE:
        lines.append(
            f"Other processes took up to {foreign:.0%} of the processors' time: indicative only."
        )
    return lines
