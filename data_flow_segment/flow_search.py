# SPDX-License-Identifier: Apache-2.0
"""Which flows a person looks for: by any part of what a DFS knows of a flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from admin.arguments import Arguments
from data_flow_segment.targets.contract import FlowEntry
from ssmb.addresses import from_text
from ssmb.constants import PROTOCOLS, Flag
from ssmb.messages import Session

_End: TypeAlias = tuple[bytes, int | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is None may be anything."""

    client: _End | None
    vip: _End | None
    node: _End | None
    protocol: int | None

    def fits_pending(self, session: Session) -> bool:
        """Whether a flow without a node is one of them."""
        return self.node is None and self._fits_session(session)

    def fits(self, entry: FlowEntry) -> bool:
        """Whether an installed flow is one of them."""
        return self._fits_session(entry.signature.session) and _fits(
            self.node, entry.node_ipaddr, node_port_of(entry)
        )

    def _fits_session(self, session: Session) -> bool:
        return (
            self.protocol in (None, session.protocol)
            and _fits(self.client, session.src_ipaddr, session.src_port)
            and _fits(self.vip, session.dst_ipaddr, session.dst_port)
        )


def wanted_flows(arguments: Arguments) -> Wanted:
    """What the arguments of `flows` say; ValueError."""
    return Wanted(
        _end(arguments, "client"),
        _end(arguments, "vip"),
        _end(arguments, "node"),
        arguments.choice("protocol", PROTOCOLS),
    )


def node_port_of(entry: FlowEntry) -> int:
    """That packets to the node have."""
    is_own = entry.flags & Flag.TRANSLATE_PORT
    return entry.node_port if is_own else entry.signature.dst_port


def _end(arguments: Arguments, name: str) -> _End | None:
    end = arguments.address_or_endpoint(name)
    return None if end is None else (from_text(end[0]), end[1])


def _fits(wanted: _End | None, address: bytes, port: int) -> bool:
    return wanted is None or (wanted[0] == address and wanted[1] in (None, port))
