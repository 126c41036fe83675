# SPDX-License-Identifier: Apache-2.0
"""Which files a new deployment needs, and what is in them.  Pure: secrets are named here, and made
where they are written."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from csmb.constants import DFS_ID_MIN
from ssmb.constants import SSMB_PORT

API_PORT: Final = 8404
METRICS_PORTS: Final = {"cs": 9160, "dfs": 9161, "api": 9162}
RUN: Final = Path("/run/splitplane")
Secret = Literal["key", "token", "certificate", "certificate key"]


class CannotPlan(ValueError):
    """What is wanted contradicts itself; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the operator says."""

    folder: Path
    state: Path  # where the API's database is, in a folder of its own
    address: str  # at which other machines reach the API
    css: tuple[str, ...] = ()  # addresses; none: this machine's
    dfss: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    target: Literal["bpf", "memory"] = "bpf"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file."""

    path: Path
    of: Literal["api", "cs", "dfs"]  # whose process reads it
    segment: str = ""  # cs-1
    secret: Secret | None = None
    text: str = ""  # of one that has no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What belongs on another machine, and runs there."""

    address: str
    files: tuple[Path, ...]
    runs: tuple[str, ...]  # instances of units: splitplane-cs@cs-1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All of it."""

    files: tuple[File, ...]
    machines: tuple[Machine, ...]
    database: Path
    url: str  # of the API

    @property
    def api_file(self) -> Path:
        """api.yaml."""
        return next(file.path for file in self.files if file.path.name == "api.yaml")


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: Literal["cs", "dfs"]
    segment_id: int
    stem: str  # of its files
    address: str
    port: int
    text: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.segment_id}"

    @property
    def endpoint(self) -> str:
        return f"{{address: {_quoted(self.address)}, port: {self.port}}}"


def plan(wanted: Wanted) -> Plan:
    """What to write; CannotPlan."""
    css, dfss = wanted.css or (wanted.address,), wanted.dfss or (wanted.address,)
    _check(wanted, css, dfss)
    secure = not ipaddress.ip_address(wanted.address).is_loopback
    host = f"[{wanted.address}]" if ":" in wanted.address else wanted.address
    url = f"{'https' if secure else 'http'}://{host}:{API_PORT}"
    database = wanted.state / "api" / "api.db"
    ports = Counter[str]()
    all_dfss = [*_segments("dfs", DFS_ID_MIN, dfss, ports)]
    all_css = [*_segments("cs", 1, css, ports)]
    files = [File(path=wanted.folder / "api.yaml", of="api", text=_api(wanted, database, secure))]
    if secure:
        files += [
            File(path=wanted.folder / "api.crt", of="api", secret="certificate"),
            File(path=wanted.folder / "api.key", of="api", secret="certificate key"),
        ]
    texts = [(each, _cs(each, all_css, all_dfss, url, secure)) for each in all_css]
    texts += [(each, _dfs(each, wanted, url, secure)) for each in all_dfss]
    files += [
        File(path=wanted.folder / f"{kind}.key", of=kind, secret="key") for kind in ("cs", "dfs")
    ]
    if secure:  # the DFS's process may not read what belongs to the API's user
        files.append(File(path=wanted.folder / "dfs-api.crt", of="dfs", secret="certificate"))
    for segment, text in texts:
        about = {"of": segment.kind, "segment": segment.name}
        files += [
            File(path=wanted.folder / f"{segment.stem}.yaml", text=text, **about),  # type: ignore[arg-type]
            File(path=wanted.folder / f"{segment.stem}.token", secret="token", **about),  # type: ignore[arg-type]
        ]
    machines = tuple(_machines(wanted, [*all_css, *all_dfss], secure))
    return Plan(files=tuple(files), machines=machines, database=database, url=url)


def _check(wanted: Wanted, css: Sequence[str], dfss: Sequence[str]) -> None:
    for what, addresses in (("--cs", css), ("--dfs", dfss)):
        for address, times in Counter(addresses).items():
            if times > 1:
                raise CannotPlan(f"{what} {address} is given twice; each needs its own machine")
    if len({ipaddress.ip_address(each).version for each in (*css, *dfss)}) > 1:
        raise CannotPlan("--cs and --dfs: give addresses of one family, IPv4 or IPv6")
    others = {*css, *dfss} - {wanted.address}
    for address in (wanted.address, *sorted(others)):
        if others and ipaddress.ip_address(address).is_loopback:
            raise CannotPlan(
                f"{address} is this machine's alone: with several machines give --address, at which"
                " the others reach the API, and the addresses of all in --cs and --dfs"
            )
    if wanted.target == "bpf" and not (wanted.external and wanted.internal):
        raise CannotPlan(
            "give --external and --internal: the DFS's interfaces towards clients and towards"
            " nodes (the same one in both for a one-armed DFS)"
        )


def _segments(
    kind: Literal["cs", "dfs"], first: int, addresses: Sequence[str], ports: Counter[str]
) -> Iterator[_Segment]:
    for number, address in enumerate(addresses):
        stem = kind if len(addresses) == 1 else f"{kind}-{first + number}"
        yield _Segment(kind, first + number, stem, address, SSMB_PORT + ports[address])
        ports[address] += 1


def _machines(wanted: Wanted, segments: Sequence[_Segment], secure: bool) -> Iterator[Machine]:
    for address in dict.fromkeys(each.address for each in segments):
        here = [each for each in segments if each.address == address]
        if address == wanted.address:
            continue
        names = [f"{each.stem}.{ending}" for each in here for ending in ("yaml", "token")]
        kinds = dict.fromkeys(each.kind for each in here)
        names += [f"{kind}.key" for kind in kinds]
        if secure:
            names += ["api.crt" if kind == "cs" else "dfs-api.crt" for kind in kinds]
        yield Machine(
            address=address,
            files=tuple(wanted.folder / name for name in names),
            runs=tuple(f"splitplane-{each.kind}@{each.stem}" for each in here),
        )


def _quoted(address: str) -> str:
    return f'"{address}"' if ":" in address else address


def _metrics(kind: str) -> str:
    return (
        "\n# Where Prometheus reads: this machine only (docs/metrics.md).\n"
        f"metrics:\n  port: {METRICS_PORTS[kind]}\n"
    )


def _api(wanted: Wanted, database: Path, secure: bool) -> str:
    tls = "  tls:\n    certificate_file: api.crt\n    key_file: api.key\n" if secure else ""
    return (
        "# The API and its web page (docs/api.md).\n"
        f"listen:\n  address: {_quoted(wanted.address)}\n  port: {API_PORT}\n{tls}"
        f"database: sqlite:///{database}\n" + _metrics("api")
    )


def _link(segment: _Segment, url: str, secure: bool) -> str:
    certificate = "dfs-api.crt" if segment.kind == "dfs" else "api.crt"
    ca = f"  ca_file: {certificate}\n" if secure else ""
    return (
        "\n# The API, which this segment opens its link to.\n"
        f"api:\n  url: {url}\n  token_file: {segment.stem}.token\n{ca}"
    )


def _common(segment: _Segment) -> str:
    return (
        f"\nkey_file: {segment.kind}.key\n"
        f"admin_socket: {RUN / segment.stem / 'admin.sock'}\n"
        "# What outlives the process is in systemd's StateDirectory=; else give state_file.\n"
    )


def _cs(
    segment: _Segment, css: Sequence[_Segment], dfss: Sequence[_Segment], url: str, secure: bool
) -> str:
    lines = [
        "# A Control Segment; every field is explained in docs/examples/two-machines/cs.yaml.",
        f"segment_id: {segment.segment_id}",
    ]
    others = [each for each in css if each is not segment]
    if others:
        lines.append(f"active: {'true' if segment is css[0] else 'false'}  # at the start")
        lines.append("control_segments:")
        lines += [f"  - {{segment_id: {each.segment_id}, {each.endpoint[1:]}" for each in others]
    lines += [f"ssmb: {segment.endpoint}", "data_flow_segments:"]
    lines += [f"  - {each.endpoint}" for each in dfss]
    text = "\n".join(lines) + "\n"
    return text + _common(segment) + _link(segment, url, secure) + _metrics("cs")


def _dfs(segment: _Segment, wanted: Wanted, url: str, secure: bool) -> str:
    lines = [
        "# A Data Flow Segment; every field is explained in docs/examples/two-machines/dfs.yaml.",
        f"segment_id: {segment.segment_id}",
        f"target: {wanted.target}",
    ]
    if wanted.target == "bpf":
        lines.append(f"external: [{', '.join(wanted.external)}]  # towards clients")
        lines.append(f"internal: [{', '.join(wanted.internal)}]  # towards nodes")
    lines += [f"csmb: {segment.endpoint}", f"ssmb: {segment.endpoint}"]
    text = "\n".join(lines) + "\n"
    return text + _common(segment) + _link(segment, url, secure) + _metrics("dfs")
