# SPDX-License-Identifier: Apache-2.0
"""TLS to nodes: what is verified, and what a certificate says."""

from __future__ import annotations

import asyncio
import ssl
import time
from functools import lru_cache

from control_segment.health.certificates import judge, valid_until
from control_segment.health.config import CertificateSection, MonitorConfig, TlsSection
from control_segment.health.machine import Observed
from control_segment.health.targets import Target


@lru_cache(maxsize=64)
def _context(verify: bool, checks_name: bool, ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.check_hostname = verify and checks_name
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    return context


def context_of(section: TlsSection) -> ssl.SSLContext:
    """What a monitor's connections are made with; OSError: its `ca_file` cannot be read."""
    return _context(section.verify, section.server_name is not None, section.ca_file)


async def open_tls(
    target: Target, section: TlsSection
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect; OSError says why not (ssl.SSLError is one)."""
    return await asyncio.open_connection(
        target.address, target.port, ssl=context_of(section),
        # Without a name there is no SNI; asyncio wants to be told so
        server_hostname=section.server_name or "",
    )  # fmt: skip


async def probe(target: Target, monitor: MonitorConfig) -> Observed:
    """Look at a node's certificate; OSError says why it could not be had."""
    section = monitor.certificate or CertificateSection()
    _, writer = await open_tls(target, monitor.tls or TlsSection())
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        octets = tls.getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if octets is None:
        return Observed(False, "it shows no certificate")
    try:
        until = valid_until(octets)
    except ValueError as error:
        return Observed(False, str(error))
    return judge(until - time.clock_gettime(time.CLOCK_REALTIME), section)
