# SPDX-License-Identifier: Apache-2.0
"""What the API says of the desired state and of its links."""

from __future__ import annotations

from typing import Final, NamedTuple

from starlette.concurrency import run_in_threadpool

from admin.metrics.collecting import build_info
from admin.metrics.tables import AnyGroup, AnyReading, Group, Metric, Reading, unlabelled
from api.desired.resources import Kind
from api.segments.hub import Linked
from api.state import ApiState


class Held(NamedTuple):
    """How many resources of a kind there are."""

    kind: str
    number: int


BUILD: Final = build_info("api")
GENERATION: Final[Group[int]] = unlabelled(
    "the API",
    Metric(
        "splitplane_api_generation", "gauge",
        "The newest generation; 0: nothing was ever configured.", lambda number: number,
    ),
)  # fmt: skip
RESOURCES: Final[Group[Held]] = Group(
    "each kind of resource",
    ("kind",),
    lambda it: (it.kind,),
    (
        Metric(
            "splitplane_api_resources", "gauge",
            "Resources of the desired state, over all groups.", lambda it: it.number,
        ),
    ),
)  # fmt: skip
SEGMENT: Final[Group[Linked]] = Group(
    "each segment that is or was linked",
    ("segment",),
    lambda it: (it.name,),
    (
        Metric(
            "splitplane_api_segment_linked", "gauge",
            "1: it is linked now; 0: it was, since the API began.", lambda it: it.connected,
        ),
        Metric(
            "splitplane_api_segment_generation", "gauge",
            "The generation in force at a CS; none: none of the API.", lambda it: it.generation,
        ),
        Metric(
            "splitplane_api_segment_refuses", "gauge",
            "1: a CS refuses the newest generation that it was sent; the API shows the reason.",
            lambda it: it.refused is not None,
        ),
    ),
)  # fmt: skip
GROUPS: Final[tuple[AnyGroup, ...]] = (BUILD, GENERATION, RESOURCES, SEGMENT)
"""All, in the order of docs/metrics.md."""


async def collect(release: str, state: ApiState) -> list[AnyReading]:
    """Everything there is now."""
    held = await run_in_threadpool(_held, state)
    return [
        Reading(BUILD, [release]),
        Reading(GENERATION, [state.desired.generation]),
        Reading(RESOURCES, held),
        Reading(SEGMENT, state.hub.segments()),
    ]


def _held(state: ApiState) -> list[Held]:
    return [Held(kind.value, len(state.desired.all_of(kind))) for kind in Kind]
