# SPDX-License-Identifier: Apache-2.0
"""The rules of a virtual server, compiled: the first one that holds decides.

A request stands for whatever a client says first (`Condition`).

A thousand rules cost no thousand comparisons: each is filed under one of its conditions, by
value, and a request is compared only with the rules that are filed under a value that it has:
its path, the beginnings of its path, its host, the wildcards that its host fits.  A rule is filed
where the fewest others are.  One without such a condition is filed under its method, a header, a
field of the query or a cookie, and one with nothing but a regular expression is always looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypeAlias

from control_segment.content.conditions import Rule, host_suffixes, value_of
from control_segment.content.patterns import ANY_HOST, HOST_MAX
from control_segment.content.rule_config import ANY_VALUE, MatchConfig, RuleConfig

# What a rule may be filed under: a kind of value, and the value
_Entry: TypeAlias = tuple[str, str]
_FIRST: Final = ("path", "host", "server_name", "prefix")  # what tells rules apart best
_VALUES: Final = ("query", "header", "cookie")
_HOSTS_KEPT: Final = 256  # of one virtual server; anybody may ask for hosts that there are not
_Finder: TypeAlias = Callable[[Any], Sequence[Rule]]


class Rules:
    """Finds the rule of a request."""

    __slots__ = ("_always", "_by", "_filed", "_lengths", "_named", "in_order")

    def __init__(self, configs: Sequence[RuleConfig], before: Rules | None = None) -> None:
        """*before*: whose counts go on, for rules of the same names."""
        earlier: tuple[Rule, ...] = () if before is None else before.in_order
        counts = {rule.name: rule.matched for rule in earlier}
        self.in_order: tuple[Rule, ...] = tuple(
            Rule(config, place) for place, config in enumerate(configs)
        )
        for rule in self.in_order:
            rule.matched = counts.get(rule.name, 0)
        self._always: list[Rule] = []
        self._by: dict[str, dict[str, list[Rule]]] = {}
        self._file()
        self._lengths = sorted({len(value) for value in self._by.get("prefix", ())})
        # names of headers and so on that rules are filed under
        self._named = sorted(
            {(kind, each.partition("\0")[0]) for kind in _VALUES for each in self._by.get(kind, ())}
        )
        self._filed = tuple(self._finder(kind, by_value) for kind, by_value in self._by.items())

    def are_of(self, configs: Sequence[RuleConfig]) -> bool:
        """Whether they are what these say."""
        return [rule.config for rule in self.in_order] == list(configs)

    def first(self, request: Any) -> Rule | None:
        """Return the first rule that holds; None: none does."""
        candidates: Sequence[Rule] = self._always
        for find in self._filed:
            found = find(request)
            if found:
                candidates = [*candidates, *found] if candidates else found
        if len(candidates) > 1:
            candidates = sorted(candidates, key=_place)
        for rule in candidates:
            if rule.holds(request):
                return rule
        return None

    def _finder(self, kind: str, by_value: dict[str, list[Rule]]) -> _Finder:
        """Return what finds the rules that are filed under a value of a request."""

        def filed(values: Sequence[str]) -> list[Rule]:
            return [rule for value in values for rule in by_value.get(value, ())]

        if kind in ("host", "server_name"):
            return _of_hosts(kind, lambda host: filed((host, ANY_HOST, *host_suffixes(host))))
        return lambda request: filed(self._values(kind, request))

    def _values(self, kind: str, request: Any) -> Sequence[str]:
        if kind == "path":
            return (request.path,)
        if kind == "said":
            return [f"{name}\0{value}" for name, value in request.items()]
        if kind == "prefix":
            path = request.path
            return [path[:length] for length in self._lengths if length <= len(path)]
        if kind == "method":
            return (request.method,)
        values: list[str] = []
        for what, name in self._named:
            value = value_of(request, what, name) if what == kind else None
            if value is not None:
                values += dict.fromkeys((f"{name}\0{ANY_VALUE}", f"{name}\0{value}"))
        return values

    def _file(self) -> None:
        choices = [list(_choices(rule.config.match)) for rule in self.in_order]
        counts = Counter(entry for each in choices for entries in each for entry in set(entries))
        for rule, each in zip(self.in_order, choices, strict=True):
            if not each:
                self._always.append(rule)
                continue
            best = min(each, key=lambda entries: max(counts[entry] for entry in entries))
            for kind, value in set(best):
                self._by.setdefault(kind, {}).setdefault(value, []).append(rule)
            kind, value = best[0]  # all are of one kind and name
            name, has_name, _ = value.partition("\0")
            rule.filed_under(kind, name if has_name else "")


def _of_hosts(kind: str, search: Callable[[str], Sequence[Rule]]) -> _Finder:
    """What finds the rules of a request's host; of those that were asked for lately, at once."""
    known = lru_cache(maxsize=_HOSTS_KEPT)(search)
    host_of = attrgetter(kind)

    def find(request: Any) -> Sequence[Rule]:
        host: str = host_of(request)
        if not host:
            return ()
        return known(host) if len(host) <= HOST_MAX else search(host)

    return find


def _place(rule: Rule) -> int:
    return rule.place


def _choices(match: MatchConfig) -> Iterator[list[_Entry]]:
    """What a rule may be filed under; where a condition has several values, under all of them."""
    values = {
        "path": match.path,
        "host": match.host,
        "server_name": match.server_name,
        "prefix": match.path_prefix,
    }
    found = False
    for kind in _FIRST:
        if values[kind]:
            found = True
            yield [(kind, value) for value in values[kind]]
    if found:
        return
    for kind in _VALUES:
        for name, value in getattr(match, kind).items():
            found = True
            yield [(kind, f"{name}\0{value}")]
    for name, wanted in match.said.items():
        if not any(value.endswith(ANY_VALUE) for value in wanted):
            found = True
            yield [("said", f"{name}\0{value}") for value in wanted]
    if not found and match.method:
        yield [("method", method) for method in match.method]
