# SPDX-License-Identifier: Apache-2.0
"""Rules that can never match, because an earlier one takes every request that they would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from control_segment.content.conditions import host_suffixes
from control_segment.content.patterns import WILDCARD, compiled, covers_host
from control_segment.content.rule_config import ANY_VALUE, MatchConfig, RuleConfig
from control_segment.references import wrong

_VALUES: Final = ("header", "query", "cookie")
_Said: TypeAlias = Mapping[str, tuple[str, ...]]


def check_shadows(where: str, rules: Sequence[RuleConfig]) -> None:
    """Raise for the first such rule, with the name of the one that takes its requests."""
    earlier = _Earlier()
    for index, rule in enumerate(rules):
        for other in earlier.that_may_cover(rule.match):
            if covers(other.match, rule.match):
                raise wrong(
                    f"{where}: rule {rule.name} can never match: rule {other.name} above it takes"
                    " every request that it would; move it up, or remove it",
                    "rules", index, "match",
                )  # fmt: skip
        earlier.add(rule)


def covers(wide: MatchConfig, narrow: MatchConfig) -> bool:
    """Whether *wide* holds for every request for which *narrow* does, as far as that follows from
    their values (not from what two regular expressions have in common)."""
    return (
        _covers_paths(wide, narrow)
        and _covers_hosts(wide.host, narrow.host)
        and _covers_hosts(wide.server_name, narrow.server_name)
        and (not wide.alpn or (bool(narrow.alpn) and set(narrow.alpn) <= set(wide.alpn)))
        and _covers_said(wide.said, narrow.said)
        and (not wide.method or (bool(narrow.method) and set(narrow.method) <= set(wide.method)))
        and all(
            name in theirs and value in (theirs[name], ANY_VALUE)
            for ours, theirs in ((getattr(wide, it), getattr(narrow, it)) for it in _VALUES)
            for name, value in ours.items()
        )
    )


def _covers_hosts(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    if not wide:
        return True
    return bool(narrow) and all(any(covers_host(one, host) for one in wide) for host in narrow)


def _covers_said(wide: _Said, narrow: _Said) -> bool:
    return all(
        name in narrow and all(_covers_value(values, value) for value in narrow[name])
        for name, values in wide.items()
    )


def _covers_value(wide: Sequence[str], value: str) -> bool:
    """Whether what a value stands for, perhaps any that begins so, is all in others."""
    begins = tuple(each[:-1] for each in wide if each.endswith(ANY_VALUE))
    return value in wide or value.removesuffix(ANY_VALUE).startswith(begins)


def _covers_paths(wide: MatchConfig, narrow: MatchConfig) -> bool:
    if wide.path and not (narrow.path and set(narrow.path) <= set(wide.path)):
        return False
    if wide.path_prefix:
        begins = [paths for paths in (narrow.path, narrow.path_prefix) if paths]
        if not any(all(path.startswith(wide.path_prefix) for path in paths) for paths in begins):
            return False
    if wide.path_regex is None or wide.path_regex == narrow.path_regex:
        return True
    pattern = compiled(wide.path_regex)
    return bool(narrow.path) and all(pattern.search(path.encode()) for path in narrow.path)


class _Earlier:
    """Rules by a value that whatever they cover must have, where the fewest others are: so few are
    looked at."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[RuleConfig]] = {}
        self._by_prefix: dict[str, list[RuleConfig]] = {}
        self._by_host: dict[str, list[RuleConfig]] = {}
        self._others: list[RuleConfig] = []

    def add(self, rule: RuleConfig) -> None:
        match = rule.match
        choices = [
            [filed.setdefault(value, []) for value in dict.fromkeys(values)]
            for values, filed in (
                (match.path, self._by_path),
                (match.path_prefix, self._by_prefix),
                (match.host or match.server_name, self._by_host),
            )
            if values
        ]
        for filed in min(choices, key=lambda all_: max(map(len, all_)), default=[self._others]):
            filed.append(rule)

    def that_may_cover(self, match: MatchConfig) -> Iterator[RuleConfig]:
        yield from self._others
        for path in match.path[:1]:
            yield from self._by_path.get(path, ())
        for paths in (match.path, match.path_prefix):
            for path in paths[:1] if self._by_prefix else ():
                for end in range(1, len(path) + 1):
                    yield from self._by_prefix.get(path[:end], ())
        hosts = match.host or match.server_name  # no rule has both
        for host in hosts[:1] if self._by_host else ():
            rest = host.removeprefix(WILDCARD)
            patterns = (host, "*", *host_suffixes(host if rest == host else f"x.{rest}"))
            for pattern in dict.fromkeys(patterns):
                yield from self._by_host.get(pattern, ())
