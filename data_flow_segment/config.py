# SPDX-License-Identifier: Apache-2.0
"""The configuration of a DFS: what its YAML file may say.

The rest comes from the CSs over CSMB: virtual servers, times, limits.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from csmb.constants import CSMB_PORT, DFS_ID_MIN, SEGMENT_ID_MAX
from ssmb.constants import SSMB_PORT

INTERFACE_NAME_MAX = 15  # IFNAMSIZ less its terminating zero
FLOW_CAPACITY_MAX = 1 << 24  # 16 million; beyond, a map no longer fits common machines


def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None
    return text


def _interface(name: str) -> str:
    if not 0 < len(name) <= INTERFACE_NAME_MAX or "/" in name or name.split() != [name]:
        raise ValueError(f"{name!r} cannot be the name of an interface")
    return name


AddressText = Annotated[str, AfterValidator(_address)]
InterfaceName = Annotated[str, AfterValidator(_interface)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CsmbListener(_Section):
    """Where CSs connect to; TCP."""

    address: AddressText = "0.0.0.0"
    port: Port = CSMB_PORT


class SsmbSocket(_Section):
    """Where SSMB is sent from and taken; CSs are told this address, so it is never a wildcard."""

    address: AddressText
    port: Port = SSMB_PORT

    @model_validator(mode="after")
    def _is_reachable(self) -> SsmbSocket:
        if ipaddress.ip_address(self.address).is_unspecified:
            raise ValueError("ssmb.address is told to the CSs: name one address of this machine")
        return self


class DataFlowSegmentConfig(_Section):
    """One DFS."""

    segment_id: Annotated[int, Field(ge=DFS_ID_MIN, le=SEGMENT_ID_MAX)]
    target: Literal["bpf", "memory"] = "bpf"
    attach: Literal["auto", "xdp", "tc"] = "auto"
    external: tuple[InterfaceName, ...] = ()
    internal: tuple[InterfaceName, ...] = ()
    csmb: CsmbListener = CsmbListener()
    ssmb: SsmbSocket
    key_file: Path | None = None
    laboratory_no_authentication: bool = False
    admin_socket: Path | None = None
    flow_capacity: Annotated[int, Field(ge=1, le=FLOW_CAPACITY_MAX)] = 65536
    pin_path: Path = Path("/sys/fs/bpf/splitplane/dfs")

    @model_validator(mode="after")
    def _is_whole(self) -> DataFlowSegmentConfig:
        if self.target == "bpf" and not (self.external and self.internal):
            raise ValueError(
                "external and internal need at least one interface each"
                " (the same one in both for a one-armed DFS)"
            )
        if (self.key_file is None) == (not self.laboratory_no_authentication):
            raise ValueError(
                "give either key_file, or laboratory_no_authentication: true (never outside a lab)"
            )
        return self
