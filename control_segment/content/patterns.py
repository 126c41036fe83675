# SPDX-License-Identifier: Apache-2.0
"""The texts that rules compare with: hosts, paths, regular expressions.

Regular expressions are RE2's (the library `google-re2`, BSD): its time is linear in the text,
whatever the expression, and its memory is bounded.  Python's `re` takes exponential time for some,
such as `(a+)+$`, and whoever writes the paths are strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol

import re2

ANY_HOST: Final = "*"
WILDCARD: Final = "*."
HOST_MAX: Final = 253  # RFC 1035 2.3.4, without the last dot
PATTERN_MAX: Final = 256
_MEMORY: Final = 1 << 18  # octets of an expression's automaton at most; then RE2 goes on without


class Pattern(Protocol):
    """A compiled expression."""

    def search(self, text: bytes) -> object | None:
        """What it matches in the text; None: nothing."""


@lru_cache(maxsize=4096)  # rules of all virtual servers: a reload compiles none again
def compiled(expression: str) -> Pattern:
    """Return the compiled expression; ValueError: it is none, or has what takes more than linear
    time (look-around, references back)."""
    options = re2.Options()
    options.max_mem, options.log_errors = _MEMORY, False
    try:
        pattern: Pattern = re2.compile(expression.encode(), options)
    except re2.error as error:
        said = error.args[0] if error.args else "it cannot be compiled"
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise ValueError(
            f"{expression!r} is no regular expression of RE2: {text}; see"
            " github.com/google/re2/wiki/Syntax, which has no look-around and no references back"
        ) from None
    return pattern


def host_matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return what says whether a host (lower case, no port; empty: the client names none) is one of
    the patterns': `a.b`, `*.b` (any number of labels in front), `*` (any host)."""
    exact = frozenset(patterns)
    ends = tuple(each[1:] for each in patterns if each.startswith(ANY_HOST))

    def matches(host: str) -> bool:
        # At least one character stands for the asterisk
        return host != "" and (host in exact or host[1:].endswith(ends))

    return matches


def covers_host(wide: str, narrow: str) -> bool:
    """Whether every host of a pattern is another one's too."""
    if wide in (narrow, ANY_HOST):
        return True
    if not wide.startswith(WILDCARD) or narrow == ANY_HOST:
        return False
    if narrow.startswith(WILDCARD):
        return narrow.endswith(wide[1:])
    return narrow[1:].endswith(wide[1:])
