# SPDX-License-Identifier: Apache-2.0
"""What a request would match, and why the rules before it do not: `splitplane rule try`, and the
API's `POST /api/v1/rules/try`.

The same rules and nodes as a CS's, made from a configuration alone: what persistence remembers, how
busy nodes are and what monitors have found only a running CS knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

from control_segment.config import PoolConfig, VirtualServerConfig
from control_segment.content.config import PLUGIN_KINDS
from control_segment.content.content import Content, Wanted
from control_segment.content.said import MORE, HttpReader, Said, Unreadable
from control_segment.pools import Pool
from control_segment.protocols.registry import PLUGINS
from control_segment.references import listed
from packets.http import RequestHead
from packets.tls import ClientHello


class Passed(NamedTuple):
    """A rule that does not take the request."""

    rule: str
    why: str


class Tried(NamedTuple):
    """What a request comes to."""

    request: str  # what rules see: method, host and path; a server name; what a plug-in reads
    passed: tuple[Passed, ...]  # in their order
    rule: str | None  # that takes it; None: none does
    pool: str | None  # None: the request is refused
    node: str | None  # None: which one depends on more than the request
    how: str  # how the node is found


class Configured(Protocol):
    """What a request is tried with."""

    @property
    def virtual_servers(self) -> Sequence[VirtualServerConfig]: ...
    @property
    def pools(self) -> Sequence[PoolConfig]: ...


def octets_of_request(request_line: str, headers: Sequence[str]) -> bytes:
    """What a client would send: *request_line* `GET /img/x HTTP/1.1`, or a path alone, and header
    lines `Host: example.com`.  Raises ValueError: no client can send that."""
    words = request_line.split(" ")
    if len(words) == 1:
        words.insert(0, "GET")
    if len(words) == 2:
        words.append("HTTP/1.1")
    lines = [" ".join(words), *headers, "", ""]
    try:
        return "\r\n".join(lines).encode("latin-1")
    except UnicodeEncodeError as error:
        wrong = error.object[error.start]
        raise ValueError(
            f"{wrong!r} cannot stand in a request as it is: write {quote(wrong)}, as clients do"
        ) from None


class Words(NamedTuple):
    """What a client says first; of these, what the virtual server's kind reads."""

    request: bytes | None = None  # of kinds http and cookie: a whole one
    server_name: str = ""  # of kind ssl: SNI
    alpn: tuple[str, ...] = ()  # likewise
    said: Mapping[str, str] = {}  # of kinds raw, assisted and hybrid: what the plug-in reads


def try_words(group: Configured, name: str, words: Words, client: bytes) -> Tried:
    """Return what a virtual server makes of what a client says (`client`: its address).

    Raises ValueError: there is no such virtual server, it reads nothing, or something else.
    """
    server = _server(group, name)
    said, shown = _READ[server.kind](server, words)
    content = Content(server)
    wanted, subject = content.wanted(said, client), said.subject
    place = len(content.rules.in_order) if wanted.rule is None else wanted.rule.place
    before = content.rules.in_order[:place]
    passed = tuple(Passed(rule.name, rule.why_not(subject or {})) for rule in before)
    rule = None if wanted.rule is None else wanted.rule.name
    if wanted.rule is not None and wanted.rule.config.refuse:
        return Tried(shown, passed, rule, None, None, "refused: the client gets a RST")
    pool, fallback = server.pool, server.fallback_pool
    if wanted.rule is not None and wanted.rule.config.pool is not None:
        pool, fallback = wanted.rule.config.pool, wanted.rule.config.fallback_pool
    node, how = _node(group, pool, fallback, wanted)
    return Tried(shown, passed, rule, pool, node, how)


def _server(group: Configured, name: str) -> VirtualServerConfig:
    for server in group.virtual_servers:
        if server.name == name:
            if server.kind not in _READ:
                raise ValueError(
                    f"virtual server {name} is of kind {server.kind}, which reads nothing; name"
                    f" one of kind {', '.join(_READ)}"
                )
            return server
    names = listed(server.name for server in group.virtual_servers)
    raise ValueError(f"there is no virtual server {name!r}; there are: {names}")


def _request(server: VirtualServerConfig, words: Words) -> tuple[Said, str]:
    if words.request is None:
        raise ValueError(f"virtual server {server.name} of kind {server.kind} reads a request")
    said = HttpReader(server.app_limit).payload(words.request)
    if isinstance(said, Unreadable):
        raise ValueError(f"the request cannot be read: {said.why}")
    if said is MORE or not isinstance(said, Said) or said.head is None:
        raise ValueError("the request is not whole: it has no empty line behind its headers")
    shown = _shown(said.head)
    if server.kind == "cookie" and server.persistence is not None:
        said = Said(cookie=said.head.cookies.get(server.persistence.cookie or ""))
    return said, shown


def _hello(server: VirtualServerConfig, words: Words) -> tuple[Said, str]:
    if words.request is not None or words.said:
        raise ValueError(
            f"virtual server {server.name} of kind {server.kind} reads a TLS client's server name"
            " and ALPN; give these"
        )
    server_name = words.server_name.lower().removesuffix(".")
    offered = f", ALPN {' '.join(words.alpn)}" if words.alpn else ""
    hello = ClientHello(server_name=server_name, alpn=words.alpn)
    return Said(hello=hello), f"TLS {server_name or '(no server name)'}{offered}"


def _attributes(server: VirtualServerConfig, words: Words) -> tuple[Said, str]:
    known = PLUGINS[server.application or ""].ATTRIBUTES
    wrong = [name for name in words.said if name not in known]
    if words.request is not None or wrong or not words.said:
        raise ValueError(
            f"virtual server {server.name} of application {server.application} reads what has a"
            f" name: {', '.join(known)}; give these"
        )
    return Said(attributes=dict(words.said)), " ".join(f"{k}={v}" for k, v in words.said.items())


_READ: Final = {
    "http": _request,
    "cookie": _request,
    "ssl": _hello,
    **dict.fromkeys(PLUGIN_KINDS, _attributes),
}
"""What a client of each kind of virtual server says, and how it is shown."""


def _shown(head: RequestHead) -> str:
    return f"{head.method} {head.host or '(no host)'} {head.path}"


def _node(
    group: Configured, name: str, fallback: str | None, wanted: Wanted
) -> tuple[str | None, str]:
    config = next((pool for pool in group.pools if pool.name == name), None)
    if config is None:
        raise ValueError(f"there is no pool {name!r}")
    pool = Pool(config)
    for node_name in wanted.names:
        node = pool.nodes.get(node_name)
        if node is not None and node.takes_new_sessions:
            return node.name, f"by the node's name in {wanted.by}"
    unless = ", unless persistence remembers another one" if wanted.known_as else ""
    if wanted.hashed is not None:
        node = pool.hashed(wanted.hashed, 0.0)
        if node is not None:
            return node.name, f"by a hash of {wanted.by}{unless}"
    if not pool.takes_sessions:
        more = "" if fallback is None else f", so it would be one of fallback pool {fallback}"
        return None, f"no node of pool {name} takes new connections{more}"
    return None, f"by the method {pool.method_name}{unless}"
