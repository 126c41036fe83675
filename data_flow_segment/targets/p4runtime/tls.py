# SPDX-License-Identifier: Apache-2.0
"""TLS with a switch: what the agent shows and checks, and why a switch hangs up without a word.

gRPC says only "Socket closed" when a client forgets TLS, or when the switch wants another
certificate.  One handshake by hand tells the two from a server of something else.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import grpc

from data_flow_segment.targets.contract import TargetError
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions, TlsOptions

HANDSHAKE_S: Final = 3.0
VERDICT_S: Final = 1.0
"""In TLS 1.3 a server judges the client's certificate after the handshake."""

_HTTP2: Final = ["h2"]


def credentials(options: TlsOptions) -> grpc.ChannelCredentials:
    """For gRPC, from files that are read now; TargetError names the one that is wrong."""
    _context(options)  # gRPC would only say that it cannot make a handshake
    return grpc.ssl_channel_credentials(
        root_certificates=_octets(options.ca_file),
        private_key=_octets(options.key_file),
        certificate_chain=_octets(options.certificate_file),
    )


def channel_options(options: TlsOptions) -> tuple[tuple[str, str], ...]:
    """What else the channel has to know."""
    if options.server_name is None:
        return ()
    return (("grpc.ssl_target_name_override", options.server_name),)


async def why_it_hangs_up(options: P4RuntimeOptions) -> str | None:
    """What is wrong with the encryption, with what to do; None if it is something else."""
    if options.tls is None:
        if await _shake_hands(options, None) is None:
            return None
        return "the switch expects TLS: set p4runtime.tls"
    if not await _shake_hands(options, options.tls):
        return None
    if options.tls.certificate_file is None:
        return "the switch wants a certificate of the agent: set p4runtime.tls.certificate_file"
    return (
        f"the switch does not accept the certificate in {options.tls.certificate_file}: correct"
        " p4runtime.tls.certificate_file, or what the switch trusts"
    )


async def _shake_hands(options: P4RuntimeOptions, tls: TlsOptions | None) -> bool | None:
    """Whether the switch refused what it was shown; None if it speaks no TLS."""
    context = _context(tls or TlsOptions())
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # gRPC has judged that
    context.set_alpn_protocols(_HTTP2)
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            reader, writer = await _connected(options.address, context)
    except ssl.SSLError as error:
        return True if "ALERT" in (error.reason or "") else None
    except (OSError, TimeoutError):
        return None
    try:
        async with asyncio.timeout(VERDICT_S):
            # one that is content begins with HTTP/2's settings; gRPC hangs up without an alert
            return not await reader.read(1)
    except ssl.SSLError:
        return True
    except (OSError, TimeoutError):
        return False
    finally:
        writer.transport.abort()  # gRPC does not answer the end of TLS: close() would wait 30 s


async def _connected(
    address: str, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        return await asyncio.open_unix_connection(path, ssl=context, server_hostname="")
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)


def _context(options: TlsOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise _unusable("ca_file", options.ca_file, error) from None
    if options.certificate_file is not None:
        assert options.key_file is not None  # the configuration's model has seen to it
        _octets(options.key_file)  # to name the one that is missing
        try:
            context.load_cert_chain(options.certificate_file, options.key_file)
        except OSError as error:
            raise _unusable("certificate_file", options.certificate_file, error) from None
    return context


def _octets(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise _unusable("key_file", path, error) from None


def _unusable(field: str, path: Path | None, error: OSError) -> TargetError:
    why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return TargetError(
        f"p4runtime.tls.{field}: {path} cannot be used ({why}): give a PEM file that this user may"
        " read, and a key that belongs to the certificate"
    )
