# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - a program finds the repository before it imports from it
"""Write hellos.json: what real clients, and the server that answered them, say first.

    python tests/vectors/capture_hellos.py

openssl, curl and Chromium are those of the machine; their versions are written down.  The server is
Python's ssl, between memory buffers, so that all octets pass through this script.
"""

from __future__ import annotations

import json
import shlex
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from support.certificates import server_context

NAME: Final = "www.example.com"
OPENSSL: Final = f"openssl s_client -connect 127.0.0.1:PORT -servername {NAME} -alpn h2,http/1.1"
CURL: Final = f"curl -ks --resolve {NAME}:PORT:127.0.0.1 https://{NAME}:PORT/"
CHROMIUM: Final = (
    "chromium --headless --no-sandbox --disable-gpu --no-proxy-server --ignore-certificate-errors"
    f" --user-data-dir=FOLDER/chromium --host-resolver-rules='MAP {NAME} 127.0.0.1'"
    f" --dump-dom https://{NAME}:PORT/"
)
PYTHON: Final = (
    "import socket, ssl; context = ssl._create_unverified_context();"
    " context.maximum_version = ssl.TLSVersion.{version};"
    f" context.wrap_socket(socket.create_connection(('127.0.0.1', PORT)), server_hostname='{NAME}')"
)
CLIENTS: Final = {
    "openssl, TLS 1.0": f"{OPENSSL} -tls1 -cipher DEFAULT@SECLEVEL=0",
    "openssl, TLS 1.2": f"{OPENSSL} -tls1_2 -no_ticket -sess_out FOLDER/session",
    "openssl, TLS 1.2, resumes": f"{OPENSSL} -tls1_2 -no_ticket -sess_in FOLDER/session",
    "openssl, TLS 1.2, ticket": f"{OPENSSL} -tls1_2",
    "openssl, TLS 1.3": OPENSSL,
    "openssl, no name": "openssl s_client -connect 127.0.0.1:PORT -noservername",
    "curl, TLS 1.2": f"{CURL} --tls-max 1.2",
    "curl": CURL,
    "python, TLS 1.2": PYTHON.format(version="TLSv1_2"),
    "python": PYTHON.format(version="TLSv1_3"),
    "chromium": CHROMIUM,
}


class Heard(NamedTuple):
    """What both sides of a connection sent until the other one answered."""

    client: bytes
    server: bytes
    offered: str  # as the server's OpenSSL understood it
    session_id: bytes
    version: str


def answer(context: ssl.SSLContext, client: socket.socket) -> Heard:
    """Serve one connection as far as its handshake."""
    names: list[str] = []
    context.sni_callback = lambda _, name, __: names.append(name or "")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    first = second = b""
    version = None
    try:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                said = outgoing.read()
                second = second or said
                client.sendall(said)
                octets = client.recv(65536)
                first += b"" if second else octets
                if not octets:
                    break
                incoming.write(octets)
        version = tls.version()
        said = outgoing.read()
        second = second or said
        client.sendall(said)
        tls.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        client.sendall(outgoing.read())
        incoming.write(client.recv(65536))
        tls.unwrap()  # or OpenSSL forgets the session
    except (OSError, ssl.SSLError) as error:  # who does not believe the certificate
        print(error, file=sys.stderr)
    session_id = tls.session.id if tls.session else b""
    return Heard(first, second, "".join(names), session_id, version or "")


def talk(context: ssl.SSLContext, command: list[str]) -> Heard:
    """What is said when a client runs."""
    heard: list[Heard] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve() -> None:
            client = listener.accept()[0]
            client.settimeout(5)
            with client:
                heard.append(answer(context, client))

        server = Thread(target=serve)
        server.start()
        port = str(listener.getsockname()[1])
        subprocess.run(
            [part.replace("PORT", port) for part in command],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        server.join()
    return heard[0]


def main() -> None:
    """Run every client."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        contexts = {
            tickets: server_context(Path(folder), name=f"DNS:{NAME}") for tickets in (False, True)
        }
        for tickets, context in contexts.items():
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.set_alpn_protocols(["http/1.1"])
            context.options |= 0 if tickets else ssl.OP_NO_TICKET
        for name, text in CLIENTS.items():
            text = text.replace("FOLDER", folder)
            command = (
                [sys.executable, "-c", text] if name.startswith("python") else shlex.split(text)
            )
            heard = talk(contexts["ticket" in name], command)
            found[name] = {
                "client": heard.client.hex(),
                "server": heard.server[:512].hex(),
                "server_name": heard.offered,
                "session_id": heard.session_id.hex(),
                "version": heard.version,
            }
            print(name, len(heard.client), heard.version, heard.session_id.hex(), heard.offered)
    versions = []
    for program in ("openssl version", "curl --version", "chromium --version"):
        done = subprocess.run(program.split(), capture_output=True, text=True, check=True)
        versions.append(" ".join(done.stdout.split()[:2]))
    path = Path(__file__).with_name("hellos.json")
    path.write_text(json.dumps({"clients": versions, "hellos": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
