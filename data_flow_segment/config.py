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
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address; give one") from None
    return text


def _file(path: Path) -> Path:
    if path == Path() or not str(path).isprintable():
        raise ValueError(f"{str(path)!r} cannot be the path of a file; give one")
    return path


def _interface(name: str) -> str:
    if not 0 < len(name) <= INTERFACE_NAME_MAX or "/" in name or name.split() != [name]:
        raise ValueError(f"{name!r} cannot be the name of an interface")
    return name


AddressText = Annotated[str, AfterValidator(_address)]
InterfaceName = Annotated[str, AfterValidator(_interface)]
FilePath = Annotated[Path, AfterValidator(_file)]
# strict: YAML's `true` is no 1, and text in quotes no number
Whole = Annotated[int, Field(strict=True)]
Port = Annotated[Whole, Field(ge=1, le=65535)]


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
        address = ipaddress.ip_address(self.address)
        if address.is_unspecified or address.is_multicast:
            raise ValueError("ssmb.address is told to the CSs: name one address of this machine")
        return self


class DataFlowSegmentConfig(_Section):
    """One DFS."""

    segment_id: Annotated[Whole, Field(ge=DFS_ID_MIN, le=SEGMENT_ID_MAX)]
    target: Literal["bpf", "memory"] = "bpf"
    attach: Literal["auto", "xdp", "tc"] = "auto"
    external: tuple[InterfaceName, ...] = ()
    internal: tuple[InterfaceName, ...] = ()
    csmb: CsmbListener = CsmbListener()
    ssmb: SsmbSocket
    key_file: FilePath | None = None
    laboratory_no_authentication: bool = False
    admin_socket: FilePath | None = None
    flow_capacity: Annotated[Whole, Field(ge=1, le=FLOW_CAPACITY_MAX)] = 65536
    pin_path: FilePath = Path("/sys/fs/bpf/splitplane/dfs")

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
