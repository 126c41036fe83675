# SPDX-License-Identifier: Apache-2.0
"""One rule, compiled: its conditions, each with what it says when it does not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from control_segment.content.patterns import WILDCARD, Pattern, compiled, host_matcher
from control_segment.content.rule_config import ANY_VALUE, MatchConfig, RuleConfig
from packets.http import RequestHead
from packets.tls import ClientHello

_About: TypeAlias = tuple[str, str]  # a kind of value, and whose it is: a header's name
_SHOWN_MAX: Final = 60  # octets of what a client said, in what people read


class Condition(Protocol):
    """One condition of a rule."""

    def holds(self, request: Any) -> bool:
        """Whether what a client said fulfils it: a RequestHead, a ClientHello, or what a plug-in
        has read, by the kind of the virtual server."""

    def failing(self, request: Any) -> str:
        """Why it does not, for people."""


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "...")


class _Host:
    __slots__ = ("_matches",)

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._matches = host_matcher(patterns)

    def holds(self, request: RequestHead) -> bool:
        return self._matches(request.host)

    def failing(self, request: RequestHead) -> str:
        if not request.host:
            return "the request names no host"
        return f"host {_shown(request.host)} is none of its hosts"


class _Path:
    __slots__ = ("_paths",)

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = frozenset(paths)

    def holds(self, request: RequestHead) -> bool:
        return request.path in self._paths

    def failing(self, request: RequestHead) -> str:
        return f"path {_shown(request.path)} is none of its paths"


class _Prefix:
    __slots__ = ("_prefixes",)

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._prefixes = prefixes

    def holds(self, request: RequestHead) -> bool:
        return request.path.startswith(self._prefixes)

    def failing(self, request: RequestHead) -> str:
        return f"path {_shown(request.path)} begins with none of its path_prefix"


class _Expression:
    __slots__ = ("_expression", "_pattern")

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._pattern: Pattern = compiled(expression)

    def holds(self, request: RequestHead) -> bool:
        return self._pattern.search(request.path.encode()) is not None

    def failing(self, request: RequestHead) -> str:
        return f"path {_shown(request.path)} does not match {self._expression!r}"


class _Method:
    __slots__ = ("_methods",)

    def __init__(self, methods: tuple[str, ...]) -> None:
        self._methods = frozenset(methods)

    def holds(self, request: RequestHead) -> bool:
        return request.method in self._methods

    def failing(self, request: RequestHead) -> str:
        return f"method {_shown(request.method)} is not {' or '.join(sorted(self._methods))}"


@dataclass(frozen=True, slots=True)
class _Value:
    """Of a header, a field of the query or a cookie."""

    what: str
    name: str
    wanted: str

    def found(self, request: RequestHead) -> str | None:
        return value_of(request, self.what, self.name)

    def holds(self, request: RequestHead) -> bool:
        value = self.found(request)
        return value is not None and self.wanted in (value, ANY_VALUE)

    def failing(self, request: RequestHead) -> str:
        """Without the value, which may be a secret."""
        if self.found(request) is None:
            return f"it has no {self.what} {self.name}"
        return f"{self.what} {self.name} has another value"


class _ServerName:
    __slots__ = ("_matches",)

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._matches = host_matcher(patterns)

    def holds(self, request: ClientHello) -> bool:
        return self._matches(request.server_name)

    def failing(self, request: ClientHello) -> str:
        if not request.server_name:
            return "the client names no server"
        return f"server name {_shown(request.server_name)} is none of its server_name"


class _Alpn:
    __slots__ = ("_protocols",)

    def __init__(self, protocols: tuple[str, ...]) -> None:
        self._protocols = frozenset(protocols)

    def holds(self, request: ClientHello) -> bool:
        return not self._protocols.isdisjoint(request.alpn)

    def failing(self, request: ClientHello) -> str:
        if not request.alpn:
            return "the client offers no protocol by ALPN"
        return f"ALPN {_shown(' '.join(request.alpn))} has none of its protocols"


class _Said:
    """One value that a plug-in has read."""

    __slots__ = ("_begins", "_exact", "_name")

    def __init__(self, name: str, values: tuple[str, ...]) -> None:
        self._name = name
        self._exact = frozenset(values)
        self._begins = tuple(it[:-1] for it in values if it.endswith(ANY_VALUE))

    def holds(self, request: Mapping[str, str]) -> bool:
        value = request.get(self._name)
        return value is not None and (value in self._exact or value.startswith(self._begins))

    def failing(self, request: Mapping[str, str]) -> str:
        if self._name not in request:
            return f"the client said no {self._name}"
        return f"{self._name} {_shown(request[self._name])} is none of its values"


def value_of(request: RequestHead, what: str, name: str) -> str | None:
    """The value of a `header`, a field of the `query` or a `cookie`; None: there is none."""
    if what == "header":
        return request.header(name)
    values = request.query_parameters if what == "query" else request.cookies
    return values.get(name)


def conditions_of(match: MatchConfig) -> Iterator[tuple[_About, Condition]]:
    """Yield what must hold, and what it is about; what is quickly looked at first."""
    if match.method:
        yield ("method", ""), _Method(match.method)
    if match.host:
        yield ("host", ""), _Host(match.host)
    if match.path:
        yield ("path", ""), _Path(match.path)
    if match.path_prefix:
        yield ("prefix", ""), _Prefix(match.path_prefix)
    for what in ("header", "query", "cookie"):
        for name, value in getattr(match, what).items():
            yield (what, name), _Value(what, name, value)
    if match.path_regex is not None:
        yield ("expression", ""), _Expression(match.path_regex)
    yield from _of_other_kinds(match)


def _of_other_kinds(match: MatchConfig) -> Iterator[tuple[_About, Condition]]:
    """Yield those about what is no request."""
    if match.server_name:
        yield ("server_name", ""), _ServerName(match.server_name)
    if match.alpn:
        yield ("alpn", ""), _Alpn(match.alpn)
    for name, values in match.said.items():
        yield ("said", name), _Said(name, values)


class Rule:
    """A rule in force, and how often it decided."""

    __slots__ = ("_about", "_holding", "conditions", "config", "matched", "place", "words")

    def __init__(self, config: RuleConfig, place: int) -> None:
        self.config = config
        self.place = place  # in the order of the configuration
        self.words = f", by rule {config.name}"  # for people, behind what comes of it
        self._about = dict(conditions_of(config.match))
        self.conditions = tuple(self._about.values())
        self._holding = tuple(condition.holds for condition in self.conditions)
        self.matched = 0  # requests that it decided

    def filed_under(self, kind: str, name: str) -> None:
        """Whoever asks whether it `holds` has found it by a value, so that condition holds."""
        self._holding = tuple(
            condition.holds for about, condition in self._about.items() if about != (kind, name)
        )

    @property
    def name(self) -> str:
        """As configured."""
        return self.config.name

    def holds(self, request: Any) -> bool:
        """Whether all conditions do, except for the one that the rule is filed under."""
        for holds in self._holding:  # all() with a generator takes three times as long
            if not holds(request):
                break
        else:
            return True
        return False

    def why_not(self, request: Any) -> str:
        """The first condition that does not hold, for people; empty: all do."""
        for condition in self.conditions:
            if not condition.holds(request):
                return condition.failing(request)
        return ""


def host_suffixes(host: str) -> list[str]:
    """The patterns `*.` that a host may be of, the longest first."""
    found = []
    at = host.find(".", 1)  # at least one character stands for the asterisk
    while at >= 0:
        found.append(WILDCARD[:1] + host[at:])
        at = host.find(".", at + 1)
    return found
