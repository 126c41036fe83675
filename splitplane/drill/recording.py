# SPDX-License-Identifier: Apache-2.0
"""What a load is asked to do, and what it saw: values, as JSON lines.

All times are seconds on the machine's monotonic clock (CLOCK_MONOTONIC), so recordings of several
processes of one machine compare, and no clock jump moves them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

Outcome: TypeAlias = Literal["ok", "broken", "wrong"]
FlowKind: TypeAlias = Literal["download", "upload", "idle", "udp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one load process does.  A port that is 0: no load of that kind."""

    addresses: tuple[str, ...]  # of the virtual server, IPv4 or IPv6; used in turn
    http_port: int = 80
    stream_port: int = 0  # where nodes speak first
    udp_port: int = 0
    seconds: float = 20.0  # how long new connections are opened
    failure_s: float = 5.0  # after the start; by then everything long is under way
    rate: float = 50.0  # new connections per second, evenly spaced
    request_octets: int = 2_000
    timeout_s: float = 10.0  # of a new connection with its request, from when it was due
    downloads: int = 8
    uploads: int = 4
    upload_rate: int = 20_000  # octets per second of each
    idle: int = 8
    udp_flows: int = 8
    udp_rate: float = 20.0  # datagrams per second of each flow

    def __post_init__(self) -> None:
        """A plan that cannot be carried out is a ValueError."""
        if not self.addresses:
            raise ValueError("the load needs an address")
        if not 0 < self.failure_s < self.seconds:
            raise ValueError(
                f"the failure is planned at {self.failure_s} s; it must come within the"
                f" {self.seconds} s of the load"
            )
        if self.rate <= 0 or self.upload_rate <= 0 or self.udp_rate <= 0 or self.timeout_s <= 0:
            raise ValueError("rates and the time limit of the load must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The load has begun: everything in the plan counts from here."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """Every long flow has begun and has been answered."""

    at_s: float
    flows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A new connection with one request, whether it succeeded or not."""

    due_s: float  # when it was to begin
    begun_s: float  # when it did: the difference is the load generator's own lag
    connected_s: float | None  # None: never
    ended_s: float  # the last octet, or the failure
    address: str
    server: str = ""
    outcome: Outcome = "ok"
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongFlow:
    """A flow that was there before the failure, from its beginning to its end."""

    flow: FlowKind
    number: int
    address: str
    began_s: float
    ended_s: float
    server: str = ""
    octets: int = 0  # that came and were right; of an upload: that the node's checksum covers
    datagrams: int = 0  # UDP: sent
    # the longest wait for the other end, and when it began: between two parts of a download, for
    # room to send, for the answer to a datagram, for the answer after the pause of an idle one
    slowest_s: float = 0.0
    slowest_at_s: float = 0.0
    outcome: Outcome = "ok"
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many octets all long flows together had received."""

    at_s: float
    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The load has ended, and everything is in the recording."""

    at_s: float


Event: TypeAlias = Started | UnderWay | Attempt | LongFlow | Progress | Ended
_KINDS: Final[dict[str, type[Event]]] = {
    "started": Started,
    "under_way": UnderWay,
    "attempt": Attempt,
    "long_flow": LongFlow,
    "progress": Progress,
    "ended": Ended,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def to_line(event: Event) -> str:
    """One line of JSON, without the line feed."""
    return json.dumps({"event": _NAMES[type(event)], **asdict(event)}, separators=(",", ":"))


def from_line(line: str) -> Event:
    """The event of such a line, or ValueError."""
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("event")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event of a load: {line[:80]!r}") from error


def plan_to_json(plan: Plan) -> str:
    """For the command line of a load."""
    return json.dumps(asdict(plan), separators=(",", ":"))


def plan_from_json(text: str) -> Plan:
    """The plan, or ValueError."""
    try:
        fields: dict[str, Any] = json.loads(text)
        return Plan(**{**fields, "addresses": tuple(fields["addresses"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a plan of a load: {error}") from error


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that one or several load processes saw."""

    started_s: float  # the latest of their starts
    under_way_s: float | None  # None: at least one never had all its long flows
    ended_s: float | None  # None: at least one process was killed
    attempts: tuple[Attempt, ...]  # by due_s
    flows: tuple[LongFlow, ...]
    progress: tuple[tuple[Progress, ...], ...]  # one for each process

    @classmethod
    def of(cls, *logs: Iterable[Event]) -> Recording:
        """Put the logs of load processes together, one argument each."""
        parts = [tuple(log) for log in logs]

        def latest(kind: type[Started | UnderWay | Ended]) -> float | None:
            times = [
                next((event.at_s for event in part if isinstance(event, kind)), None)
                for part in parts
            ]
            known = [time for time in times if time is not None]
            return max(known) if known and len(known) == len(times) else None

        every = [event for part in parts for event in part]
        attempts = [event for event in every if isinstance(event, Attempt)]
        return cls(
            started_s=latest(Started) or 0.0,
            under_way_s=latest(UnderWay),
            ended_s=latest(Ended),
            attempts=tuple(sorted(attempts, key=lambda attempt: attempt.due_s)),
            flows=tuple(event for event in every if isinstance(event, LongFlow)),
            progress=tuple(
                tuple(event for event in part if isinstance(event, Progress)) for part in parts
            ),
        )

    @classmethod
    def read(cls, *files: Path) -> Recording:
        """Put the files together that load processes wrote; ValueError names a bad line.

        The last line of a process that was killed may be half there: it is left out.
        """
        return cls.of(*(_events(file) for file in files))


def _events(file: Path) -> list[Event]:
    lines = file.read_text().split("\n")
    return [from_line(line) for line in lines[:-1] if line]
