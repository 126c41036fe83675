# SPDX-License-Identifier: Apache-2.0
"""A drill against a deployment that is already there: the operator's own commands make the failure.

docs/examples/drill/drill.yaml is an example, docs/operations.md explains it.  `splitplane.config`
reads the file.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from admin.errors import CommandError
from splitplane.drill.recording import Plan
from splitplane.drill.roles import active_at, are_redundant, status_of
from splitplane.drill.runner import TimedStep

COMMAND_TIMEOUT_S: Final = 60.0
Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoadSection(_Section):
    """Where the load goes, and where it comes from."""

    addresses: Annotated[tuple[str, ...], Field(min_length=1)]
    http_port: Annotated[Port, Field(ge=1)] = 80
    stream_port: Port = 0
    udp_port: Port = 0
    # words before the command that starts the load, one list for each client:
    # ["ip", "netns", "exec", "client1"]; by itself it runs here
    clients: tuple[tuple[str, ...], ...] = ((),)


class ScenarioSection(_Section):
    """A failure, by commands of the shell; each is to return soon."""

    title: str = ""
    fail: str
    repair: str = ""
    outage_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    active: Literal["another", "same", "either"] = "another"


class OperatorsFile(_Section):
    """The file for --config."""

    load: LoadSection
    sockets: dict[str, Path] = {}  # name -> admin socket on this machine
    scenarios: Annotated[dict[str, ScenarioSection], Field(min_length=1)]


class OperatorsDeployment:
    """It, as a drill uses it."""

    def __init__(self, file: OperatorsFile) -> None:
        self._file = file

    def sockets(self) -> Mapping[str, Path]:
        """Those of the file."""
        return self._file.sockets

    def inside(self, command: list[str]) -> list[list[str]]:
        """Once for each client of the file."""
        return [[*words, *command] for words in self._file.load.clients]

    def active(self) -> str | None:
        """By the first DFS that answers; None: no socket of a DFS is in the file."""
        for path in self._file.sockets.values():
            status = status_of(path)
            if status is not None and status["role"] == "dfs":
                return active_at(status)
        return None

    def is_ready(self) -> bool:
        """By the segments whose sockets are in the file."""
        return are_redundant(self._file.sockets)

    def choose_victim(self) -> None:
        """The operator's own command has to."""

    def plan(self, **choices: Any) -> Plan:
        """What the load of one client is."""
        section = self._file.load
        return Plan(
            addresses=section.addresses,
            http_port=section.http_port,
            stream_port=section.stream_port,
            udp_port=section.udp_port,
            **choices,
        )


def steps(section: ScenarioSection, outage_s: float) -> list[TimedStep]:
    """The commands of a scenario."""
    made = [TimedStep(0.0, section.fail, _shell(section.fail))]
    if section.repair:
        made.append(TimedStep(outage_s, section.repair, _shell(section.repair)))
    return made


def _shell(command: str) -> Callable[[], None]:
    def run() -> None:
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise CommandError(f"it has not ended within {COMMAND_TIMEOUT_S:g} s") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip())[-500:]
            raise CommandError(f"it ended with {done.returncode}: {said}")

    return run
