# SPDX-License-Identifier: Apache-2.0
"""Whether a node answers an HTTP request as expected; HTTPS too."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

import h11

from control_segment.health.config import HttpSection, MonitorConfig, TlsSection
from control_segment.health.machine import Observed
from control_segment.health.targets import Target
from control_segment.runtime.probes.tls import open_tls

BODY_MAX: Final = 16 * 1024  # octets that are searched
_READ: Final = 16 * 1024
_AGENT: Final = "splitplane"


async def probe(target: Target, monitor: MonitorConfig, secrets: Mapping[str, str]) -> Observed:
    """Ask once; OSError says why there is no answer.  *secrets*: headers that nobody may see."""
    section = monitor.http or HttpSection()
    try:
        connection, request = _asking(target, section, secrets)
    except h11.LocalProtocolError as error:
        # Its words may contain the header
        why = "its secret_headers and headers make no valid request" if secrets else str(error)
        return Observed(None, why, warning=why)
    if monitor.kind == "https":
        reader, writer = await open_tls(target, monitor.tls or TlsSection())
    else:
        reader, writer = await asyncio.open_connection(target.address, target.port)
    try:
        writer.write(request)
        return await _answer(reader, connection, section)
    except h11.RemoteProtocolError as error:
        # Its words may contain what the node says, which may be what it was told
        why = "" if secrets else f": {error}"
        return Observed(False, f"what it answers is no HTTP{why}")
    finally:
        writer.transport.abort()


def _asking(
    target: Target, section: HttpSection, secrets: Mapping[str, str]
) -> tuple[h11.Connection, bytes]:
    """A connection on which the request has been sent, and the octets of that."""
    host = f"[{target.address}]" if ":" in target.address else target.address
    headers = {
        "host": section.host or f"{host}:{target.port}",
        "user-agent": _AGENT,
        "connection": "close",
    } | {name.lower(): text for name, text in {**section.headers, **secrets}.items()}
    connection = h11.Connection(our_role=h11.CLIENT)
    request = h11.Request(method=section.method, target=section.path, headers=list(headers.items()))
    octets = connection.send(request) or b""
    return connection, octets + (connection.send(h11.EndOfMessage()) or b"")


async def _answer(
    reader: asyncio.StreamReader, connection: h11.Connection, section: HttpSection
) -> Observed:
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Response):
            if not _is_expected(event.status_code, section):
                return Observed(False, f"it answers status {event.status_code}")
            if section.expect_body is None:
                return Observed(True, "")
        elif isinstance(event, h11.Data):
            body += event.data[: BODY_MAX - len(body)]
            if len(body) >= BODY_MAX:
                return _searched(body, section)
        elif not isinstance(event, h11.InformationalResponse):  # the end of the answer
            return _searched(body, section)


def _is_expected(status: int, section: HttpSection) -> bool:
    for text in section.expect_status:
        first, _, last = text.partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False


def _searched(body: bytes, section: HttpSection) -> Observed:
    assert section.expect_body is not None
    if re.search(section.expect_body.encode(), body) is None:
        return Observed(False, "the expected text is not in the answer")
    return Observed(True, "")
