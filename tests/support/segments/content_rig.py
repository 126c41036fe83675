# SPDX-License-Identifier: Apache-2.0
"""A CS with a content-aware virtual server, asked by a DFS that reads what clients say."""

from __future__ import annotations

from typing import Any, Final

from csmb.constants import Flag as CsmbFlag
from ssmb.addresses import to_text
from ssmb.constants import AppType, ErrorCode, Flag
from ssmb.messages import AppQuery, Reply
from support.requests import frame, request
from support.segments.dfs_double import CLIENT, CONFIG, SERVER, DfsDouble, Rig, config

APP_TYPES: Final = {
    "http": AppType.HTTP_REQUEST, "cookie": AppType.COOKIE, "ssl": AppType.SSL_SESSION_ID,
}  # fmt: skip
IMAGES: Final = {
    "name": "images",
    "nodes": [
        {"name": f"img{number}", "address": f"10.1.2.{number}", "port": 8080} for number in (1, 2)
    ],
}
RULES: Final[list[Any]] = [
    {"name": "images", "match": {"path_prefix": ["/img/"]}, "pool": "images"},
    {"name": "no admin", "match": {"path": ["/admin"]}, "refuse": True},
]


def content_config(pools: list[Any] | None = None, **changes: Any) -> Any:
    """The configuration of most tests, its first virtual server of kind http."""
    server = {**CONFIG["virtual_servers"][0], "kind": "http", **changes}
    return config(
        pools=[*(CONFIG["pools"] if pools is None else pools), IMAGES], virtual_servers=[server]
    )


class ContentRig(Rig):
    """Asks by APP_QUERY."""

    def __init__(self, configuration: Any = None, *dfss: DfsDouble, **more: Any) -> None:
        made = configuration or content_config(rules=RULES)
        doubles = dfss or (proxying(),)
        super().__init__(made, *doubles, **more)
        self.kind = made.virtual_servers[0].kind

    def ask(
        self,
        said: bytes | None = None,
        *,
        port: int = 40000,
        serial: int | None = None,
        client: bytes = CLIENT,
        parked: bool = False,
        flags: int = 0,
        error_code: int = 0,
        asked_at: int = 5,
        dfs: int = 0,
    ) -> Reply | None:
        """Ask about a connection whose client has said something; return the REPLY."""
        asking = self.dfss[dfs]
        if serial is None:
            asking.serial += 1
            serial = asking.serial
        octets = request() if said is None else said
        more = {"app_data": octets}
        if parked:
            flags |= Flag.PARKED
            more = {"frame": frame(octets, client, SERVER, (port, 80))}
        query = AppQuery(
            error_code, flags, serial, client, SERVER, port, 80, 6, 0, 0x18,
            int(APP_TYPES.get(self.kind, 3)), asked_at, **more,
        )  # fmt: skip
        replies = [each for each in asking.tell(self, query) if isinstance(each, Reply)]
        assert len(replies) <= 1
        return replies[0] if replies else None

    def node(self, said: bytes | None = None, **more: Any) -> str:
        """The name of the node that is chosen, or of the error."""
        reply = self.ask(said, **more)
        assert reply is not None
        if reply.error_code:
            return ErrorCode(reply.error_code).name
        assert reply.flags & Flag.PROXY_SERVER
        address = to_text(reply.node_ipaddr)
        return next(
            node.name for node in self.cs.model.every_node() if to_text(node.address) == address
        )


def proxying(**settings: Any) -> DfsDouble:
    """A DFS that makes clients' connections itself."""
    double = DfsDouble(**settings)
    flags = int(CsmbFlag.APP_PROXY | CsmbFlag.APP_NOTIFY_CAP)
    object.__setattr__(double.settings, "flags", flags)
    return double
