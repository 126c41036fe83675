# SPDX-License-Identifier: Apache-2.0
"""What was found on a host.  Nothing here says what is good; None: it cannot be known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["api", "cs", "dfs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface."""

    mtu: int
    is_up: bool
    addresses: tuple[str, ...] = ()
    rp_filter: int | None = None  # that holds: the higher one of `all` and its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine, whatever runs on it."""

    kernel: str  # 6.1.0-21-amd64
    is_root: bool
    capabilities: int  # of this process, as bits
    has_btf: bool
    has_bpffs: bool
    libbpf: str = ""  # why it cannot be used; empty: it can
    bpf_refused: str = ""  # what the kernel said to a map; empty: it made one
    has_program: bool = True  # the compiled one of this release
    as_python: tuple[str, ...] = ()  # what could be machine code, and why it is not
    lockdown: str = ""  # none, integrity, confidentiality
    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    ip_forward: bool | None = None
    ipv6_forwarding: bool | None = None
    rmem_max: int | None = None
    memory_available: int | None = None  # octets
    clock_is_synchronised: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A file that a configuration names, read as its process would."""

    what: str
    path: Path
    problem: str = ""  # in words, with what to do


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An address and port that a process would bind."""

    what: str
    address: str
    port: int
    protocol: Literal["tcp", "udp"]
    error: str = ""  # EADDRINUSE ...; empty: it is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Another process to which a TCP connection was tried."""

    what: str
    target: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dfs:
    """What only a DFS's file says."""

    in_kernel: bool
    external: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    flow_capacity: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """A configuration file, and what it asks of this host."""

    path: Path
    kind: Kind | None  # None: of nothing that is known
    problems: tuple[str, ...] = ()  # why it does not load
    is_running: bool = False  # its process answers: what it needs, it has
    written_by_others: bool = False  # users other than the owner may change it
    files: tuple[Read, ...] = ()
    ports: tuple[Port, ...] = ()
    reached: tuple[Reached, ...] = ()
    ssmb_address: str = ""
    laboratory: bool = False
    dfs: Dfs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it."""

    folder: Path
    host: Host
    configured: tuple[Configured, ...] = ()
