# SPDX-License-Identifier: Apache-2.0
"""A bad network on purpose: SSMB datagrams dropped, duplicated and reordered, for tests.

    SPLITPLANE_IMPAIR="drop=0.05,duplicate=0.05,reorder=0.05,seed=1" splitplane dfs dfs.yaml

Each word except for `seed` gives the share of datagrams, in both directions, that it affects; one
that is left out has no effect.  The same seed makes the same choices again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from admin.errors import ConfigError

VARIABLE: Final = "SPLITPLANE_IMPAIR"
_SHARES: Final = ("drop", "duplicate", "reorder")
_EXAMPLE: Final = "drop=0.05,duplicate=0.05,reorder=0.05,seed=1"
# long enough that datagrams sent meanwhile overtake, shorter than the first repeat of a QUERY
_REORDER_S: Final = (0.001, 0.02)
_SEED_MAX: Final = 1 << 32

DatagramFilter: TypeAlias = Callable[[Literal["in", "out"], bytes], list[tuple[float, bytes]]]


class Impairment(NamedTuple):
    """How bad the network is."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    seed: int = 1

    def filter(self) -> DatagramFilter:
        """What a runtime asks for each datagram: [(delay in seconds, octets)]."""
        chance = random.Random(self.seed)

        def impaired(_: Literal["in", "out"], octets: bytes) -> list[tuple[float, bytes]]:
            if chance.random() < self.drop:
                return []
            copies = 2 if chance.random() < self.duplicate else 1
            return [(self._delay_s(chance), octets) for _ in range(copies)]

        return impaired

    def _delay_s(self, chance: random.Random) -> float:
        return chance.uniform(*_REORDER_S) if chance.random() < self.reorder else 0.0


def from_environment(environment: Mapping[str, str] = os.environ) -> Impairment | None:
    """What the variable asks for; None where it is not set; ConfigError for a bad value."""
    text = environment.get(VARIABLE, "")
    return parse(text) if text else None


def parse(text: str) -> Impairment:
    """Read the variable's value; ConfigError with one line that names what is wrong."""
    words: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name not in (*_SHARES, "seed"):
            raise _wrong(f"{part.strip()!r} does not set one of {', '.join(_SHARES)}, seed")
        if name in words:
            raise _wrong(f"{name} is given twice")
        words[name] = value
    seed = _seed(words.pop("seed", "1"))
    return Impairment(seed=seed, **{name: _share(name, value) for name, value in words.items()})


def _share(name: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        raise _wrong(f"{name}={value} is not a number") from None
    if not 0 <= share <= 1:  # also refuses "nan"
        raise _wrong(f"{name}={value} is not between 0 and 1")
    return share


def _seed(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or len(value) > 10 or int(value) >= _SEED_MAX:
        raise _wrong(f"seed={value} is not a whole number below {_SEED_MAX}")
    return int(value)


def _wrong(what: str) -> ConfigError:
    return ConfigError([f"{VARIABLE}: {what}; a valid example: {_EXAMPLE}"])
