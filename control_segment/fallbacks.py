# SPDX-License-Identifier: Apache-2.0
"""Which virtual servers and rules are at their fallback pool: what people are told when that
changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from admin.happened import Happened
from control_segment.pools import Pool
from control_segment.virtual_servers import VirtualServer


class _Watched:
    """A virtual server or rule with a fallback pool.  All are looked at whenever nodes change, so
    it is kept what that takes."""

    __slots__ = ("fallback", "has_fallen", "own", "rule", "server")

    def __init__(self, server: VirtualServer, rule: str | None, own: Pool, fallback: Pool) -> None:
        self.server = server
        self.rule = rule  # None: the virtual server's own pools
        self.own = own
        self.fallback = fallback
        self.has_fallen = False


class Fallbacks:
    """Of one CS; a look at 10,000 virtual servers takes about a millisecond."""

    def __init__(self, servers: Iterable[VirtualServer]) -> None:
        self._watched: dict[VirtualServer, list[_Watched]] = {}
        self._of: dict[Pool, dict[VirtualServer, None]] = {}  # those that a pool matters to
        self.changed(servers)

    def changed(self, servers: Iterable[VirtualServer]) -> None:
        """They are new, other or gone."""
        for server in servers:
            before = self._watched.pop(server, [])
            for pool in _pools(before):
                of = self._of.get(pool, {})
                of.pop(server, None)
                if not of:
                    self._of.pop(pool, None)
            watched = [] if server.removed else [*_watched(server)]
            if not watched:
                continue
            fallen = {each.rule for each in before if each.has_fallen}
            for each in watched:
                each.has_fallen = each.rule in fallen
            self._watched[server] = watched
            for pool in _pools(watched):
                self._of.setdefault(pool, {})[server] = None

    def look(self) -> list[Happened]:
        """What is other than at the last look."""
        return self._look(chain.from_iterable(self._watched.values()))

    def look_at(self, servers: Iterable[VirtualServer], pools: Iterable[Pool]) -> list[Happened]:
        """The same of some virtual servers, and of those that some pools matter to."""
        names = dict.fromkeys(servers)
        for pool in pools:
            names.update(self._of.get(pool, {}))
        return self._look(each for name in names for each in self._watched.get(name, ()))

    def _look(self, watched: Iterable[_Watched]) -> list[Happened]:
        found: list[Happened] = []
        for each in watched:
            # nodes may change before `changed` says what a reload has made of these
            if each.server.removed or each.own.removed or each.fallback.removed:
                continue
            has_fallen = not each.own.takes_sessions and each.fallback.takes_sessions
            if has_fallen is not each.has_fallen:
                each.has_fallen = has_fallen
                found.append(_happened(each))
        return found


def _watched(server: VirtualServer) -> Iterator[_Watched]:
    if server.fallback is not None:
        yield _Watched(server, None, server.own_pool, server.fallback)
    for rule in server.config.rules:
        if rule.pool is not None and rule.fallback_pool is not None:
            pools = server.rule_pools
            yield _Watched(server, rule.name, pools[rule.pool], pools[rule.fallback_pool])


def _pools(watched: Iterable[_Watched]) -> dict[Pool, None]:
    return dict.fromkeys(pool for each in watched for pool in (each.own, each.fallback))


def _happened(watched: _Watched) -> Happened:
    own, fallback = watched.own.name, watched.fallback.name
    name = watched.server.name
    where = f"virtual server {name}"
    of = {"virtual_server": name}
    if watched.rule is not None:
        where += f", rule {watched.rule}"
        of["rule"] = watched.rule
    if watched.has_fallen:
        what = (
            f"{where}: no node of pool {own} takes sessions: new ones go to fallback"
            f" pool {fallback}"
        )
        subject = {**of, "pool": fallback}
        return Happened("warning", "fallback_begun", what, subject)
    if watched.own.takes_sessions:
        what = f"{where}: new sessions go to pool {own} again"
        subject = {**of, "pool": own}
        return Happened("info", "fallback_over", what, subject)
    what = f"{where}: no node of fallback pool {fallback} takes sessions any more"
    subject = {**of, "pool": fallback}
    return Happened("error", "fallback_over", what, subject)
