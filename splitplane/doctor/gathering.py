# SPDX-License-Identifier: Apache-2.0
"""Looks at a host, and changes nothing there: ports are bound for a moment, a BPF map is made and
given back, connections are opened and closed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from admin.answers import HELLO
from admin.client import ask
from admin.errors import CommandError, ConfigError
from admin.link.config import ApiLinkConfig
from admin.link.token import read_token
from api.config import ApiConfig
from control_segment.config import ControlSegmentConfig
from csmb.constants import CS_ID_MAX
from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.targets.registry import TARGETS
from splitplane import compiled, machine
from splitplane.config import first_level, load
from splitplane.doctor.facts import Configured, Dfs, Facts, Host, Interface, Kind, Port, Reached
from splitplane.doctor.facts import Read as ReadFile
from splitplane.keys import read_key

REACH_S: Final = 2.0
POSTGRESQL_PORT: Final = 5432
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_OCTETS: Final = 512  # more than struct timex has
_ARRAY: Final = 2  # BPF_MAP_TYPE_ARRAY
_MODELS: Final[dict[Kind, type[Any]]] = {
    "api": ApiConfig,
    "cs": ControlSegmentConfig,
    "dfs": DataFlowSegmentConfig,
}


def gather(folder: Path, paths: Sequence[Path] = ()) -> Facts:
    """Of the files that are given, or of all in the folder."""
    found = paths or sorted(folder.glob("*.yaml"))
    return Facts(folder=folder, host=host(), configured=tuple(configured(path) for path in found))


# --- the host --------------------------------------------------------------------------------


def host() -> Host:
    """This machine."""
    libbpf, refused = _bpf()
    return Host(
        kernel=os.uname().release,
        is_root=os.geteuid() == 0,
        capabilities=_capabilities(),
        has_btf=machine.KERNEL_BTF.exists(),
        has_bpffs=machine.is_bpffs(machine.BPFFS),
        libbpf=libbpf,
        bpf_refused=refused,
        has_program=_has_program(),
        as_python=_as_python(),
        lockdown=_lockdown(),
        interfaces=_interfaces(),
        ip_forward=_switch("net/ipv4/ip_forward"),
        ipv6_forwarding=_switch("net/ipv6/conf/all/forwarding"),
        rmem_max=_number("net/core/rmem_max"),
        memory_available=_memory(),
        clock_is_synchronised=_clock(),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(name: str) -> int | None:
    text = _text(Path("/proc/sys") / name).strip()
    return int(text) if text.isdecimal() else None


def _switch(name: str) -> bool | None:
    number = _number(name)
    return None if number is None else number != 0


def _capabilities() -> int:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(Path("/proc/self/status")), re.MULTILINE)
    return int(found[1], 16) if found else 0


def _lockdown() -> str:
    found = re.search(r"\[(\w+)\]", _text(Path("/sys/kernel/security/lockdown")))
    return found[1] if found else ""


def _memory() -> int | None:
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", _text(Path("/proc/meminfo")), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _clock() -> bool | None:
    """By the kernel's word, which every NTP client sets."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_OCTETS))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _bpf() -> tuple[str, str]:
    """Why libbpf cannot be used, and what the kernel says to a map; empty: nothing is wrong."""
    from data_flow_segment.targets.bpf.libbpf import library
    from data_flow_segment.targets.contract import TargetError

    try:
        library()
    except TargetError as error:
        return str(error), ""
    made = ctypes.CDLL("libbpf.so.1").bpf_map_create(_ARRAY, b"doctor", 4, 4, 1, None)
    if made < 0:
        return "", os.strerror(-made)
    os.close(made)
    return "", ""


def _has_program() -> bool:
    from data_flow_segment.targets.bpf.options import ARTIFACT

    return ARTIFACT.exists()


def _as_python() -> tuple[str, ...]:
    from control_segment.runtime.native import ARTIFACT as DATAGRAMS
    from data_flow_segment.targets.bpf.native_reports import ARTIFACT as REPORTS

    modules = compiled.fitting()
    missing = [path.name for path in (DATAGRAMS, REPORTS) if not path.exists()]
    why = [f"{modules} (make compiled)"] if isinstance(modules, str) else []
    return (*why, *(f"{name} is not there (make bpf)" for name in missing))


def _interfaces() -> dict[str, Interface]:
    try:
        done = subprocess.run(
            ["ip", "-json", "address"], capture_output=True, text=True, check=True, timeout=10
        )
        listed = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):  # no iproute2
        return {
            name: Interface(mtu=int(_text(Path(f"/sys/class/net/{name}/mtu")) or 0), is_up=True)
            for _, name in socket.if_nameindex()
        }
    general = _number("net/ipv4/conf/all/rp_filter") or 0
    return {
        each["ifname"]: Interface(
            mtu=each["mtu"],
            is_up="UP" in each["flags"],
            addresses=tuple(it["local"] for it in each["addr_info"] if "local" in it),
            rp_filter=max(general, _number(f"net/ipv4/conf/{each['ifname']}/rp_filter") or 0),
        )
        for each in listed
        if "ifname" in each
    }


# --- one configuration -----------------------------------------------------------------------


def configured(path: Path) -> Configured:
    """One file, and what it asks of this host."""
    try:
        kind = _kind_of(first_level(path))
    except ConfigError as error:
        return Configured(path=path, kind="cs", problems=error.problems)
    if kind is None:
        return Configured(path=path, kind=None)
    try:
        settings: Any = load(path, _MODELS[kind])
    except ConfigError as error:
        return Configured(path=path, kind=kind, problems=error.problems)
    look: Callable[[Path, Any], Configured] = _of_api if kind == "api" else _of_segment
    return look(path, settings)


def _kind_of(fields: dict[object, object]) -> Kind | None:
    segment_id = fields.get("segment_id")
    if "ssmb" in fields or "data_flow_segments" in fields or "csmb" in fields:
        is_cs = isinstance(segment_id, int) and segment_id <= CS_ID_MAX
        return "cs" if is_cs or "data_flow_segments" in fields else "dfs"
    return "api" if "listen" in fields or "database" in fields else None


def _of_api(path: Path, settings: ApiConfig) -> Configured:
    listen, tls = settings.listen, settings.listen.tls
    targets = list[tuple[str, str, int]]()
    files = [] if tls is None else [_tls(path, settings)]
    server = urlsplit(settings.database)
    if server.scheme.startswith("sqlite"):
        files.append(_database(path.parent / settings.database.partition(":///")[2]))
    elif server.hostname:
        targets.append(("database", server.hostname, server.port or POSTGRESQL_PORT))
    ports = []
    if listen.address is not None:
        ports.append(_port("listen", listen.address, listen.port, "tcp"))
    ports += _metrics_port(settings)
    # nobody else has its metrics' or its own port in its configuration
    is_running = any(port.error == "EADDRINUSE" for port in ports) and _answers(settings)
    return Configured(
        path=path,
        kind="api",
        is_running=is_running,
        written_by_others=_is_written_by_others(path),
        files=tuple(files),
        ports=tuple(ports),
        reached=tuple(_reach(targets)),
    )


def _database(path: Path) -> ReadFile:
    """SQLite's: it and what is beside it are written."""
    folder = path.parent
    written = path if path.exists() else folder
    problem = ""
    if not folder.is_dir():
        problem = f"database: there is no folder {folder}; create it, for the user of the API alone"
    elif not os.access(folder, os.W_OK | os.X_OK) or not os.access(written, os.W_OK):
        problem = f"database: {written} cannot be written; give it to the user of the API"
    return ReadFile(what="database", path=path, problem=problem)


def _answers(settings: ApiConfig) -> bool:
    """Whether an API is there: it speaks HTTP, and has this path."""
    import http.client
    import ssl

    address, port = settings.listen.address, settings.listen.port
    if address is None:
        return False
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    connection: http.client.HTTPConnection
    if settings.listen.tls is None:
        connection = http.client.HTTPConnection(at, port, timeout=REACH_S)
    else:  # whoever it is: it is on this machine
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(at, port, timeout=REACH_S, context=context)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _tls(path: Path, settings: ApiConfig) -> ReadFile:
    from api.serve import tls_context

    tls = settings.listen.tls
    assert tls is not None
    return _read(
        "certificate", path.parent / tls.certificate_file, lambda _: tls_context(tls, path.parent)
    )


def _of_segment(path: Path, settings: ControlSegmentConfig | DataFlowSegmentConfig) -> Configured:
    socket_path = settings.admin_socket
    folder, ssmb = path.parent, settings.ssmb
    files = []
    if settings.key_file is not None:
        files.append(_read("key", folder / settings.key_file, read_key))
    if settings.api is not None:
        files.append(_read("token", folder / settings.api.token_file, read_token))
        if settings.api.ca_file is not None:
            files.append(_read("certificate", folder / settings.api.ca_file, _certificate))
    ports = [_port("ssmb", ssmb.address, ssmb.port, "udp"), *_metrics_port(settings)]
    targets = _api_target(settings.api)
    dfs = None
    if isinstance(settings, DataFlowSegmentConfig):
        ports.insert(0, _port("csmb", settings.csmb.address, settings.csmb.port, "tcp"))
        dfs = Dfs(
            in_kernel=TARGETS[settings.target].in_kernel,
            external=settings.external,
            internal=settings.internal,
            flow_capacity=settings.flow_capacity,
        )
    else:
        targets += [("DFS", each.address, each.port) for each in settings.data_flow_segments]
    return Configured(
        path=path,
        kind="cs" if dfs is None else "dfs",
        is_running=socket_path is not None and _is_served(folder / socket_path),
        written_by_others=_is_written_by_others(path),
        files=tuple(files),
        ports=tuple(ports),
        reached=tuple(_reach(targets)),
        ssmb_address=ssmb.address.partition("%")[0],
        laboratory=settings.laboratory_no_authentication,
        dfs=dfs,
    )


def _is_served(path: Path) -> bool:
    try:
        return bool(ask(path, HELLO))
    except CommandError:
        return False


def _is_written_by_others(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return bool(path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return False


def _read(what: str, path: Path, read: Callable[[Path], object]) -> ReadFile:
    try:
        read(path)
    except CommandError as error:
        return ReadFile(what=what, path=path, problem=str(error))
    return ReadFile(what=what, path=path)


def _certificate(path: Path) -> None:
    import ssl

    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise ConfigError([f"{path}: no certificate in PEM; give one"]) from None
    except OSError as error:
        raise ConfigError(
            [f"{path}: cannot be read ({error.strerror}); give a file that this user may read"]
        ) from None


def _metrics_port(settings: Any) -> list[Port]:
    metrics = settings.metrics
    return [] if metrics is None else [_port("metrics", metrics.address, metrics.port, "tcp")]


def _port(what: str, address: str, port: int, protocol: Literal["tcp", "udp"]) -> Port:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    error = ""
    with socket.socket(family, kind) as probe:
        if protocol == "tcp":  # as the processes do; connections that are over do not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            if protocol == "tcp":
                probe.listen()
        except OSError as refused:
            error = errno.errorcode.get(refused.errno or 0, str(refused))
    return Port(what=what, address=address, port=port, protocol=protocol, error=error)


def _api_target(link: ApiLinkConfig | None) -> list[tuple[str, str, int]]:
    if link is None or link.socket is not None:
        return []
    parts = urlsplit(link.url)
    return [("API", parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))]


def _reach(targets: list[tuple[str, str, int]]) -> Iterator[Reached]:
    if not targets:
        return
    with ThreadPoolExecutor(min(len(targets), 32)) as pool:
        errors = pool.map(lambda target: _connect(target[1], target[2]), targets)
    for (what, address, port), error in zip(targets, errors, strict=True):
        yield Reached(what=what, target=f"{address} port {port}", error=error)


def _connect(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), REACH_S):
            return ""
    except TimeoutError:
        return f"no answer in {REACH_S:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
