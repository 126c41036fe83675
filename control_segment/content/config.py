# SPDX-License-Identifier: Apache-2.0
"""Content-aware virtual servers in the configuration: kinds, what persistence goes by, and the
rules that one virtual server can break for itself (docs/design/0012-content.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, Protocol, Self, TypeAlias

from pydantic import model_validator

from control_segment.content.rule_config import CookieName, ParameterName, RuleConfig
from control_segment.content.shadows import check_shadows
from control_segment.fields import Name, PersistenceSeconds, Section
from control_segment.parts import ServerPart
from control_segment.protocols.registry import PLUGINS
from control_segment.references import wrong

Kind: TypeAlias = Literal["plain", "http", "cookie", "ssl", "raw", "assisted", "hybrid"]
Application: TypeAlias = Literal["mysql", "redis"]

PLAIN: Final = "plain"
RULES_MAX: Final = 1024
APP_LIMIT_MAX: Final = 65535
APP_LIMIT: Final = 16384
"""Octets of a request or ClientHello at most, unless `app_limit` says otherwise (15.1)."""

HEADERS_MAX: Final = 512  # octets of the headers' names that a DFS is told (15.1)
PLUGIN_KINDS: Final = ("raw", "assisted", "hybrid")
"""What a client says is read by a plug-in of the CS (`control_segment.protocols`)."""
HASHES: Final = {"url": ("http",), "said": PLUGIN_KINDS}
"""For which kinds a virtual server can have each `hash`."""
CONDITIONS: Final = {
    "http": (
        "host", "path", "path_prefix", "path_regex", "method", "header", "query", "cookie",
    ),
    "ssl": ("server_name", "alpn"),
    **dict.fromkeys(PLUGIN_KINDS, ("said",)),
}  # fmt: skip
"""What rules of a virtual server of each kind can look at."""
COOKIE_KINDS: Final = ("cookie", "node_cookie")
_PERSISTENCE: Final = {
    PLAIN: ("source_address",),
    "http": ("source_address", *COOKIE_KINDS, "path_parameter"),
    "cookie": COOKIE_KINDS,
    "ssl": ("source_address", "ssl_session"),
    **dict.fromkeys(PLUGIN_KINDS, ("source_address",)),
}
"""By which persistence a virtual server of each kind can go."""


class PersistenceConfig(Section):
    """Clients come back to their node."""

    kind: Literal["source_address", "cookie", "node_cookie", "path_parameter", "ssl_session"]
    timeout_s: PersistenceSeconds = 300
    group: Name | None = None  # virtual servers of one group share what they remember
    cookie: CookieName | None = None  # of kinds `cookie` and `node_cookie`
    parameter: ParameterName | None = None  # of kind `path_parameter`

    @property
    def remembers(self) -> bool:
        """Whether it has a memory; otherwise what a client says names its node."""
        return self.kind != "node_cookie"

    @model_validator(mode="after")
    def _check(self) -> Self:
        by_cookie = self.kind in COOKIE_KINDS
        if by_cookie and self.cookie is None:
            raise wrong(f"persistence by {self.kind} needs the cookie's name; give it as cookie")
        if not by_cookie and self.cookie is not None:
            raise wrong(
                f"cookie is for the kinds {' and '.join(COOKIE_KINDS)}; remove it", "cookie"
            )
        if self.kind == "path_parameter" and self.parameter is None:
            raise wrong(
                "persistence by path_parameter needs its name; give it as parameter, for example"
                " jsessionid"
            )
        if self.kind != "path_parameter" and self.parameter is not None:
            raise wrong("parameter is for the kind path_parameter; remove it", "parameter")
        return self


class ContentPart(ServerPart, Protocol):
    """What a virtual server's own rules about content look at."""

    @property
    def kind(self) -> str: ...
    @property
    def next_hop(self) -> str | None: ...
    @property
    def translate_address(self) -> bool | None: ...
    @property
    def translate_port(self) -> bool | None: ...
    @property
    def rules(self) -> Sequence[RuleConfig]: ...
    @property
    def hash(self) -> str | None: ...
    @property
    def application(self) -> str | None: ...
    @property
    def app_limit(self) -> int: ...
    @property
    def persistence(self) -> PersistenceConfig | None: ...


def check_content(server: ContentPart) -> None:
    """Raise the first rule that a virtual server breaks for itself."""
    where = f"virtual server {server.name}"
    _check_persistence(server, where)
    _check_unread(server, where)
    if server.kind != PLAIN:
        _check_proxied(server, where)
    _check_rules(server, where)


def _check_unread(server: ContentPart, where: str) -> None:
    """What its kind does not read cannot decide."""
    if server.kind == PLAIN and server.app_limit:
        raise wrong(
            f"{where}: app_limit needs a kind that reads what clients say; give kind: http, or"
            " remove it",
            "app_limit",
        )
    _check_conditions(server, where)
    if server.hash is not None and server.kind not in HASHES[server.hash]:
        raise wrong(
            f"{where}: hash {server.hash} needs kind {' or '.join(HASHES[server.hash])}; this is"
            f" {server.kind}",
            "hash",
        )
    _check_application(server, where)
    if server.kind == "cookie" and server.persistence is None:
        raise wrong(
            f"{where}: kind cookie needs persistence of kind cookie or node_cookie, which names the"
            " cookie; add it",
            "kind",
        )


def _check_conditions(server: ContentPart, where: str) -> None:
    """Rules look at what the kind reads."""
    if server.rules and server.kind not in CONDITIONS:
        kinds = ", ".join(CONDITIONS)
        raise wrong(f"{where}: rules needs kind {kinds}; this is {server.kind}", "rules")
    for index, rule in enumerate(server.rules):
        for name in type(rule.match).model_fields:
            if getattr(rule.match, name) and name not in CONDITIONS[server.kind]:
                fitting = ", ".join(CONDITIONS[server.kind])
                raise wrong(
                    f"{where}: rule {rule.name}: {name} is not read by kind {server.kind}; its"
                    f" rules can have {fitting}",
                    "rules", index, "match", name,
                )  # fmt: skip
        known = PLUGINS[server.application].ATTRIBUTES if server.application else ()
        for name in rule.match.said:
            if name not in known:
                raise wrong(
                    f"{where}: rule {rule.name}: {server.application} says nothing that is named"
                    f" {name!r}; there are: {', '.join(known)}",
                    "rules", index, "match", "said", name,
                )  # fmt: skip


def _check_application(server: ContentPart, where: str) -> None:
    """Which plug-in reads."""
    is_read = server.kind in PLUGIN_KINDS
    if is_read and server.application is None:
        known = " or ".join(sorted(PLUGINS))
        raise wrong(f"{where}: kind {server.kind} needs application, which is {known}; add it")
    if not is_read and server.application is not None:
        raise wrong(
            f"{where}: application needs kind {', '.join(PLUGIN_KINDS)}; this is {server.kind}",
            "application",
        )
    if server.kind == "raw" and PLUGINS[server.application or ""].SPEAKS_FIRST:
        raise wrong(
            f"{where}: with {server.application} the server speaks first, which kind raw cannot"
            " wait for; give kind: hybrid",
            "kind",
        )


def _check_rules(server: ContentPart, where: str) -> None:
    names = ",".join(headers_wanted(server.rules, server.persistence))
    if len(names) > HEADERS_MAX:
        raise wrong(
            f"{where}: the headers that its rules name have {len(names)} letters together; a DFS"
            f" takes {HEADERS_MAX}: name fewer",
            "rules",
        )
    seen: set[str] = set()
    for index, rule in enumerate(server.rules):
        if rule.name in seen:
            raise wrong(f"{where}: rule {rule.name!r} is given twice", "rules", index, "name")
        seen.add(rule.name)
    check_shadows(where, server.rules)


def _check_persistence(server: ContentPart, where: str) -> None:
    if server.persistence is None:
        return
    fitting = _PERSISTENCE[server.kind]
    kind = server.persistence.kind
    if kind not in fitting:
        kinds = [known for known, fits in _PERSISTENCE.items() if kind in fits]
        raise wrong(
            f"{where}: persistence by {kind} needs kind {' or '.join(kinds)}, not {server.kind};"
            f" with {server.kind}, it can go by {' or '.join(fitting)}",
            "persistence", "kind",
        )  # fmt: skip


def _check_proxied(server: ContentPart, where: str) -> None:
    """What needs the DFS to be one end of two TCP connections."""
    need = f"kind {server.kind} needs"
    for field, is_right, sentence in (
        ("protocol", server.protocol == "tcp", "protocol tcp"),
        ("forward_mode", server.forward_mode == "nat", "forward_mode nat"),
        ("next_hop", server.next_hop is None, "the nodes' own routes: remove next_hop"),
        ("address", server.address != "*", "an address, not *"),
        ("port", server.port != "*", "a port, not *"),
        ("translate_address", server.translate_address is not False, "translate_address"),
        ("translate_port", server.translate_port is not False, "translate_port"),
    ):
        if not is_right:
            raise wrong(f"{where}: {need} {sentence}", field)


def headers_wanted(rules: Sequence[RuleConfig], persistence: PersistenceConfig | None) -> list[str]:
    """The names of headers, in lower case, that decisions look at, but for Host."""
    names = dict.fromkeys(_of_rules(rules))
    if persistence is not None and persistence.cookie is not None:
        names.setdefault("cookie")
    names.pop("host", None)
    return list(names)


def _of_rules(rules: Sequence[RuleConfig]) -> Iterator[str]:
    for rule in rules:
        yield from rule.match.header
        if rule.match.cookie:
            yield "cookie"
