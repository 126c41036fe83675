# SPDX-License-Identifier: Apache-2.0
"""A laboratory's API: it runs beside the segments, in the machine's own namespace, and its database
begins with what the CSs' files would say.

Segments reach it by a Unix socket, which needs no way between namespaces; people reach its page on
127.0.0.1.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from admin.errors import CommandError

PORT: Final = 8404
"""Of the page, if nobody has it."""
DESIRED: Final = ("settings", "monitors", "pools", "virtual_servers")
"""What a CS with an API gets from there, and does not have in its file."""
_DATABASE: Final = "sqlite:///api.db"
_WHO: Final = "laboratory"
_TIMEOUT_S: Final = 10.0


class LabApi:
    """Its files, its address, and the ways in."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """*port*: on 127.0.0.1; None: PORT if it is free, else another one."""
        self._folder = folder
        self._wanted_port = port
        self.port = 0
        self.link = ""  # the last one that was made
        self._admin_token = ""

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def command(self) -> list[str]:
        """That runs it."""
        return [sys.executable, "-m", "splitplane", "api", str(self._folder / "api.yaml")]

    def prepare(self, group_id: int, document: dict[str, Any], segments: Sequence[str]) -> None:
        """Write its file, a token for each segment, and *document* as generation 1."""
        from api.access.keeper import Keeper
        from api.access.roles import Role
        from api.composition import opened, realtime
        from api.desired.store import DesiredState

        self.port = self._wanted_port or _free_port()
        listen = {"address": "127.0.0.1", "port": self.port, "socket": str(self._socket)}
        file = {"listen": listen, "database": _DATABASE}
        (self._folder / "api.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
        with opened(_DATABASE, self._folder) as database:
            keeper = Keeper(database, realtime)
            for segment in segments:
                _, secret = keeper.add_token(segment, Role.SEGMENT, _WHO)
                token = self._folder / f"{segment}.token"
                token.touch(0o600)
                token.write_text(secret + "\n")
            _, self._admin_token = keeper.add_token(_WHO, Role.ADMIN, _WHO)
            DesiredState(database, realtime).apply(group_id, document, who=_WHO, how="import")

    @property
    def _socket(self) -> Path:
        return self._folder / "api.socket"  # what ends in .sock is a segment's admin socket

    def linked(self, segment: str, config: dict[str, Any]) -> dict[str, Any]:
        """A segment's file, with a link to this API in place of what comes from it."""
        own = {field: value for field, value in config.items() if field not in DESIRED}
        return {
            **own,
            "api": {"url": f"unix:{self._socket}", "token_file": f"{segment}.token"},
            **({"state_file": f"{segment}.state"} if segment != "dfs" else {}),
        }

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and answer, as an administrator; OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {self._admin_token}"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            octets = None if body is None else json.dumps(body)
            connection.request(method, path, octets, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        is_json = "json" in (answer.headers.get_content_type() or "")
        return answer.status, json.loads(text) if is_json and text else text

    def sign_in_link(self, role: str = "admin") -> str:
        """A link with which one person signs in at the page, once."""
        wanted = {"name": _WHO, "role": role}
        status, answer = self.request("POST", "/api/v1/sign-in-links", wanted)
        if status != 201:
            raise CommandError(f"the laboratory's API gives no sign-in link: {answer}")
        self.link = str(answer["url"])
        return self.link


def _free_port() -> int:
    for port in (PORT, 0):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    raise CommandError("no port of 127.0.0.1 is free for the API")
