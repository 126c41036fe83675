# SPDX-License-Identifier: Apache-2.0
"""The configuration of a DFS: what its YAML file may say.

The rest comes from the CSs over CSMB: virtual servers, times, limits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from admin.answers import METRICS_SERIES_MAX
from admin.link.config import ApiLinkConfig
from csmb.constants import CSMB_PORT, DFS_ID_MIN, SEGMENT_ID_MAX
from data_flow_segment.config.p4runtime import FLOW_CAPACITY_MAX as P4RUNTIME_FLOW_CAPACITY_MAX
from data_flow_segment.config.p4runtime import P4RuntimeSection
from data_flow_segment.config.values import (
    AnnouncedAddress,
    FilePath,
    InterfaceName,
    ListeningAddress,
    Port,
    Section,
    Truth,
    Whole,
)
from data_flow_segment.targets.contract import HALF_OPEN_TIMEOUT_S
from data_flow_segment.targets.registry import TARGETS
from ssmb.constants import SSMB_PORT

FLOW_CAPACITY_MAX = 1 << 24  # 16 million; beyond, a map no longer fits common machines
HALF_OPEN_TIMEOUT_MAX_S = 240  # what RFC 5382 5 asks for; longer only helps who floods

# fields that mean nothing to a switch, and what to do instead
_SIDE: Final = (
    "not used by target p4runtime; set it on the port in p4runtime.interfaces, remove it here"
)
_OF_THE_KERNEL: Final = {
    "external": _SIDE,
    "internal": _SIDE,
    "attach": "not used by target p4runtime, which attaches nothing to this machine; remove it",
    "pin_path": "not used by target p4runtime, whose flows are in the switch; remove it",
}


def _target(name: str) -> str:
    if name not in TARGETS:
        raise ValueError(f"there is no target {name!r}; there are: {', '.join(TARGETS)}")
    return name


TargetName = Annotated[str, AfterValidator(_target)]


class CsmbListener(Section):
    """Where CSs connect to; TCP."""

    address: ListeningAddress = "0.0.0.0"
    port: Port = CSMB_PORT


class MulticastLinks(Section):
    """How the multicast groups of the CSs are joined, which they name (11.2)."""

    interfaces: tuple[InterfaceName, ...] = ()  # none: the one with the SSMB address
    ttl: Annotated[Whole, Field(ge=1, le=255)] = 1

    @model_validator(mode="after")
    def _are_different(self) -> MulticastLinks:
        for name in self.interfaces:
            if self.interfaces.count(name) > 1:
                raise _error("interfaces", f"{name} is given twice; give each interface once")
        return self


class SsmbSocket(Section):
    """Where SSMB is sent from and received; it is announced to the CSs, so it is never a
    wildcard."""

    address: AnnouncedAddress
    port: Port = SSMB_PORT
    multicast: MulticastLinks = MulticastLinks()


class MetricsListener(Section):
    """Where Prometheus reads; whoever reaches it may."""

    address: ListeningAddress = "127.0.0.1"
    port: Port
    series_max: Annotated[Whole, Field(ge=0)] = METRICS_SERIES_MAX


class VirtualAddresses(Section):
    """What those get who send to a virtual address what no virtual server takes."""

    echo: Truth = True
    unserved: Literal["refuse", "drop"] = "refuse"


class DataFlowSegmentConfig(Section):
    """One DFS."""

    segment_id: Annotated[Whole, Field(ge=DFS_ID_MIN, le=SEGMENT_ID_MAX)]
    target: TargetName = "bpf"
    attach: Literal["auto", "xdp", "tc"] = "auto"
    ask: Literal["auto", "agent"] = "auto"
    external: tuple[InterfaceName, ...] = ()
    internal: tuple[InterfaceName, ...] = ()
    csmb: CsmbListener = CsmbListener()
    ssmb: SsmbSocket
    key_file: FilePath | None = None
    laboratory_no_authentication: bool = False
    admin_socket: FilePath | None = None
    state_file: FilePath | None = None  # None: in $STATE_DIRECTORY, or no file
    metrics: MetricsListener | None = None  # None: it has none
    flow_capacity: Annotated[Whole, Field(ge=1, le=FLOW_CAPACITY_MAX)] = 65536
    half_open_timeout_s: Annotated[Whole, Field(ge=1, le=HALF_OPEN_TIMEOUT_MAX_S)] = (
        HALF_OPEN_TIMEOUT_S
    )
    pin_path: FilePath = Path("/sys/fs/bpf/splitplane/dfs")
    api: ApiLinkConfig | None = None
    virtual_addresses: VirtualAddresses = VirtualAddresses()
    p4runtime: P4RuntimeSection | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> DataFlowSegmentConfig:
        if TARGETS[self.target].in_kernel and not (self.external and self.internal):
            raise ValueError(
                "external and internal need at least one interface each"
                " (the same one in both for a one-armed DFS)"
            )
        self._fits_its_target()
        if (self.key_file is None) == (not self.laboratory_no_authentication):
            raise ValueError(
                "give either key_file, or laboratory_no_authentication: true (never outside a lab)"
            )
        return self

    def _fits_its_target(self) -> None:
        section = TARGETS[self.target].section
        for name, other in TARGETS.items():
            if other.section not in (None, section) and getattr(self, other.section) is not None:
                raise _error(
                    other.section,
                    f"not used by target {self.target}; set target: {name}, or remove it",
                )
        if section is None:
            return
        if getattr(self, section) is None:
            raise ValueError(f"target {self.target} needs the section {section}; add it")
        for field in _OF_THE_KERNEL:
            if field in self.model_fields_set:
                raise _error(field, _OF_THE_KERNEL[field])
        if self.flow_capacity > P4RUNTIME_FLOW_CAPACITY_MAX:
            raise _error(
                "flow_capacity",
                f"{self.flow_capacity} is more than the P4 program has room for; give at most"
                f" {P4RUNTIME_FLOW_CAPACITY_MAX}",
            )


def _error(field: str, sentence: str) -> PydanticCustomError:
    """An error that is reported at that field, not at the whole file."""
    return PydanticCustomError("target", "{said}", {"at": (field,), "said": sentence})
