# SPDX-License-Identifier: Apache-2.0
"""What a virtual server's configuration makes of what a client says: a rule, and by what the node
is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from control_segment.content.conditions import Rule
from control_segment.content.config import PLAIN, PLUGIN_KINDS, ContentPart, PersistenceConfig
from control_segment.content.rules import Rules
from control_segment.content.said import (
    CookieReader,
    HttpReader,
    NoReader,
    Reader,
    Reading,
    Said,
    SslReader,
    Unreadable,
    tcp_payload,
)
from control_segment.protocols.registry import PLUGINS

_KEY_SIZE: Final = 16  # as an IPv6 address, which the tables of persistence have as well
_NO_SEGMENT: Final = Unreadable("no TCP segment")
_DOTS_MAX: Final = 8  # in a cookie's value, behind which a node's name is looked for


class Wanted(NamedTuple):
    """By what the node of a new session is chosen, in this order."""

    rule: Rule | None  # None: no rule holds
    names: tuple[str, ...]  # of nodes, of which the first that the pool has is meant
    known_as: tuple[bytes, ...]  # by which persistence may remember it
    remember_as: bytes | None  # by which it is to be remembered; None: it is not
    hashed: bytes | None  # from which it follows, otherwise
    by: str  # for people: what `names` and `hashed` are
    by_rules_alone: bool = False  # nothing but the pool follows from what the client says


class Content:
    """One virtual server's, compiled once for each configuration."""

    __slots__ = (
        "_by_rules",
        "_hash",
        "_hashed",
        "_persistence",
        "_reader",
        "kind",
        "rules",
        "unmatched",
        "unreadable",
    )

    def __init__(self, config: ContentPart, before: Content | None = None) -> None:
        """*before*: whose counts go on."""
        self.kind = config.kind
        earlier = None if before is None else before.rules
        is_same = earlier is not None and earlier.are_of(config.rules)
        self.rules: Rules = earlier if is_same and earlier else Rules(config.rules, earlier)
        self.unmatched: int = 0 if before is None else before.unmatched  # requests without a rule
        self.unreadable: int = 0 if before is None else before.unreadable  # what was no request
        self._persistence = config.persistence
        self._hash = config.hash
        self._hashed = ""  # the attribute that is
        if config.hash == "said":
            self._hashed = PLUGINS[config.application or ""].HASHED
        self._reader = _reader(config)
        # What is wanted where nothing but rules counts, by them
        self._by_rules: dict[Rule | None, Wanted] | None = None
        if not (config.persistence or config.hash):
            self._by_rules = {}

    def read_data(self, octets: bytes) -> Said | Unreadable:
        """What a client said, of the data of an APP_QUERY."""
        return self._reader.data(octets)

    def read_frame(self, frame: bytes) -> Reading:
        """The same of its frame."""
        payload = tcp_payload(frame)
        return _NO_SEGMENT if payload is None else self._reader.payload(payload)

    def wanted(self, said: Said, client: bytes) -> Wanted:
        """What follows from it; *client*: the address, 16 octets."""
        head, rule = said.head, None
        if self.rules.in_order:
            subject = said.subject if head is None else head
            rule = None if subject is None else self.rules.first(subject)
        if self._by_rules is not None:
            wanted = self._by_rules.get(rule)
            if wanted is None:
                wanted = self._by_rules[rule] = Wanted(rule, (), (), None, None, "", True)
            return wanted
        url = None
        if self._hash is not None and head is not None:
            url = f"{head.path}?{head.query}".encode()
        wanted = Wanted(rule, (), (), None, url, "its URL")
        if self._hashed in said.attributes:
            hashed = said.attributes[self._hashed].encode()
            wanted = wanted._replace(hashed=hashed, by=f"its {self._hashed}")
        persistence = self._persistence
        if persistence is None:
            return wanted
        return _PERSISTENCE[persistence.kind](wanted, persistence, said, client)

    def count(self, rule: Rule | None) -> None:
        """A request was decided by a rule, or by none."""
        if rule is None:
            self.unmatched += 1
        else:
            rule.matched += 1


def session_key(session_id: bytes) -> bytes:
    """What persistence knows a TLS session by."""
    return _digest("session", session_id)


def _reader(config: ContentPart) -> Reader:
    if config.kind in PLUGIN_KINDS:
        return NoReader()
    if config.kind == "ssl":
        return SslReader(config.app_limit, reads_all=bool(config.rules))
    cookie = None if config.persistence is None else config.persistence.cookie
    if config.kind == "cookie" and cookie is not None:
        return CookieReader(cookie, config.app_limit)
    return HttpReader(config.app_limit)


def _digest(what: str, value: bytes) -> bytes:
    return blake2b(value, digest_size=_KEY_SIZE, person=what.encode()).digest()


def _by_source(wanted: Wanted, persistence: PersistenceConfig, said: Said, client: bytes) -> Wanted:
    return wanted._replace(known_as=(client,), remember_as=client)


def _by_cookie(wanted: Wanted, persistence: PersistenceConfig, said: Said, client: bytes) -> Wanted:
    """A value that is not known yet is most likely what the node of this client's latest request
    without one has given it: no answer passes the CS."""
    return _by_value(wanted, _cookie(persistence, said), client, f"cookie {persistence.cookie}")


def _by_value(wanted: Wanted, value: str | None, client: bytes, by: str) -> Wanted:
    if not value:
        return wanted._replace(remember_as=client)
    key = _digest("value", value.encode())
    return wanted._replace(known_as=(key, client), remember_as=key, hashed=key, by=by)


def _by_node_cookie(
    wanted: Wanted, persistence: PersistenceConfig, said: Said, client: bytes
) -> Wanted:
    value = (_cookie(persistence, said) or "").strip('"')
    return wanted._replace(names=tuple(_node_names(value)), by=f"cookie {persistence.cookie}")


def _by_parameter(
    wanted: Wanted, persistence: PersistenceConfig, said: Said, client: bytes
) -> Wanted:
    """J2EE's `;jsessionid=ID.node`, and the same without a node's name."""
    name, head = persistence.parameter or "", said.head
    value = None if head is None else head.path_parameters.get(name)
    by = f"path parameter {name}"
    wanted = _by_value(wanted, value, client, by)
    return wanted._replace(names=tuple(_node_names(value or "")))


def _by_session(
    wanted: Wanted, persistence: PersistenceConfig, said: Said, client: bytes
) -> Wanted:
    """Only a session that a node has made is remembered (15.5), and here again."""
    if not said.session_id:
        return wanted
    return wanted._replace(known_as=(session_key(said.session_id),))


def _cookie(persistence: PersistenceConfig, said: Said) -> str | None:
    if said.head is None:
        return said.cookie
    return said.head.cookies.get(persistence.cookie or "")


def _node_names(value: str) -> Iterator[str]:
    """Yield what may be a node's name in a value: all of it, what is before a tilde, and what is
    behind a dot.  So HAProxy writes it (`insert`, `prefix`), and Tomcat (`jvmRoute`)."""
    yield value
    if "~" in value:
        yield value.partition("~")[0]
    rest = value
    for _ in range(_DOTS_MAX):
        _, dot, rest = rest.partition(".")
        if not dot:
            return
        yield rest


_PERSISTENCE: Final = {
    "source_address": _by_source,
    "cookie": _by_cookie,
    "node_cookie": _by_node_cookie,
    "path_parameter": _by_parameter,
    "ssl_session": _by_session,
}


def content_of(config: ContentPart, before: Content | None) -> Content | None:
    """Return a virtual server's, None if it is a plain one."""
    return None if config.kind == PLAIN else Content(config, before)
