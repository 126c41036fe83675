# SPDX-License-Identifier: Apache-2.0
"""What a P4Runtime target is given at its start.

P4Runtime has no question for a switch's ports, addresses and routes: here they are a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_flow_segment.targets.contract import HALF_OPEN_TIMEOUT_S
from data_flow_segment.targets.interfaces import Interface, Route


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How the connection to a switch is encrypted; every file is PEM."""

    ca_file: Path | None = None
    """Whose certificates are accepted; None: the machine's own certificate authorities."""

    certificate_file: Path | None = None
    key_file: Path | None = None
    """What the agent shows to a switch that wants to know it; both or neither."""

    server_name: str | None = None
    """The name in the switch's certificate, if it is not that of the address."""


@dataclass(frozen=True, slots=True)
class ProgramOptions:
    """A compiled program that is not the one for BMv2."""

    p4info_file: Path
    device_config_file: Path | None
    """What the switch's own compiler made; None: the switch has it already, and it is never
    replaced."""

    agent_port: int
    """The port by which packets come from the agent and go to it; the program knows it too."""


@dataclass(frozen=True, slots=True)
class P4RuntimeOptions:
    """One switch, and what this agent is to it."""

    address: str
    """``HOST:PORT`` or ``unix:/path`` of the switch's gRPC server."""

    interfaces: tuple[Interface, ...]
    """The switch's ports that this DFS uses; `number` is the port."""

    routes: tuple[Route, ...] = ()
    """Connected networks too; the longest prefix wins."""

    neighbours: Mapping[bytes, bytes] = field(default_factory=dict)
    """Address to MAC, permanent; all others are asked for."""

    device_id: int = 1
    election_id: int = 1
    """Of the agents of one switch the one with the highest is primary; the others stand by."""

    replace_program: bool = False
    """Whether the program may be installed where this agent has not seen it before: on a switch
    that reports none, or in place of another one and its state."""

    tls: TlsOptions | None = None
    """None: plain text."""

    program: ProgramOptions | None = None
    """None: splitplane's own for BMv2."""

    flow_capacity: int = 65536
    """Flows at most, no more than the program has room for."""

    half_open_timeout_s: int = HALF_OPEN_TIMEOUT_S
    """For how long a flow whose handshake is not done waits for its client."""
