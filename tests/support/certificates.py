# SPDX-License-Identifier: Apache-2.0
"""Certificates for servers of tests, which are their own authority."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def self_signed(certificate: Path, key: Path, *, name: str = "IP:127.0.0.1", days: int = 2) -> None:
    """Write a certificate for *name*, as subjectAltName has it, and its key; PEM."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", str(days), "-subj", "/CN=test", "-addext", f"subjectAltName={name}",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip


def server_context(folder: Path, *, name: str = "IP:127.0.0.1", days: int = 2) -> ssl.SSLContext:
    """A server's context; who connects verifies it with ca.pem in the folder."""
    certificate, key = folder / "ca.pem", folder / "key.pem"
    self_signed(certificate, key, name=name, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
