# SPDX-License-Identifier: Apache-2.0
"""What the live endpoints answer: the segments' own answers (`admin.answers`), and who says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from admin.answers import Attention, Counter, Flow, Messages, Node, VirtualServer

ModelT = TypeVar("ModelT")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFlow(Flow):
    """A flow, and the segment that says so."""

    segment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveNode(Node):
    """A node, and the CS that says so."""

    segment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveVirtualServer(VirtualServer):
    """A virtual server, and the CS that says so."""

    segment: str


class LiveMessages(BaseModel):
    """SSMB messages of one segment."""

    segment: str
    messages: Messages
    sent_per_second: dict[str, float] | None = Field(
        description="By the name of the message; null: asked for the first time."
    )
    received_per_second: dict[str, float] | None


class LiveCounters(BaseModel):
    """Counters of one DFS."""

    segment: str
    counters: dict[str, Counter]


class TraceStep(BaseModel):
    """Something that happened to a flow at one segment."""

    at: float | None = Field(description="Unix time, s, by the segment's machine.")
    ago_ms: int
    what: str


class SegmentTrace(BaseModel):
    """What one segment remembers of a flow, the oldest first."""

    segment: str
    entries: list[TraceStep]


class StoryStep(TraceStep):
    """The same, and the segment."""

    segment: str


class TraceModel(BaseModel):
    """What the segments remember of a flow."""

    items: list[SegmentTrace]
    story: list[StoryStep] = Field(description="All of it, by the clocks of their machines.")


class TotalsModel(BaseModel):
    """Sums over the active CSs and all DFSs; counts began with each segment's process."""

    flows: int = Field(description="In the tables of DFSs.")
    active: int = Field(description="Sessions that a DFS carries now.")
    virtual_servers: int
    nodes: int
    nodes_down: int = Field(description="That take no new sessions.")
    connections: int = Field(description="Sessions so far.")
    refused: int = Field(description="Flows so far.")
    packets_in: int = Field(description="To nodes, so far; it follows STATS, by the minute.")
    bytes_in: int
    packets_out: int
    bytes_out: int
    dropped: int = Field(description="Packets and messages that DFSs dropped for a bad reason.")
    messages: int = Field(description="SSMB messages of CSs, both ways.")


class OverviewSegment(BaseModel):
    """A segment in the picture."""

    name: str
    role: str
    segment_id: int
    group_id: int | None
    connected: bool
    group_role: str | None = Field(description="active, claiming, standby; of a CS.")
    role_epoch: int | None
    generation: int | None
    status: str
    flows: int | None


class Edge(BaseModel):
    """A CS and a DFS that are connected."""

    control_segment: str
    data_flow_segment: str
    ready: bool
    active: bool = Field(description="The CS is the one that the DFS asks.")
    messages_per_second: float | None = Field(
        description="Of the CS, both ways, shared out among its DFSs."
    )


class OverviewModel(BaseModel):
    """Everything, in sums."""

    at: float = Field(description="When it was so, Unix time, s.")
    attention: Attention = Field(description="What to look at, of all pools and nodes.")
    totals: TotalsModel
    per_second: dict[str, float] | None = Field(
        description="How fast the totals rise; null: asked for the first time."
    )
    segments: list[OverviewSegment]
    edges: list[Edge]


def said_by(model: Callable[..., ModelT], answer: Any, segment: str) -> ModelT:
    """A segment's answer, and its name."""
    own = {each.name: getattr(answer, each.name) for each in fields(answer)}
    return model(**own, segment=segment)


def as_json(content: object) -> Response:
    """A response, without another look at what segments answered."""
    return Response(to_json(content), media_type="application/json")
