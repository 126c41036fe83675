# SPDX-License-Identifier: Apache-2.0
"""What a YAML scalar is: text, number, truth value or nothing.

Unquoted words are read as YAML 1.2 does and as people mean them: by YAML 1.1 `name: no` is a truth
value, `port: 1:30` is 90, `port: 010` is 8 and `name: 2026-01-01` is a date.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

DIGITS_MAX: Final = 100
TAG: Final = "tag:yaml.org,2002:"
NOT_TEXT: Final = frozenset("~nNtTfF+-.0123456789")
"""What everything but text begins with; so do some words."""

_NULL: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS: Final = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_WHOLE: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,), "float": (float, int), "bool": (bool,), "null": (type(None),),
}  # fmt: skip


class WrongScalar(Exception):
    """It can have no value; the text says why."""


def scalar(event: yaml.ScalarEvent) -> object:
    """The value of a scalar, or WrongScalar."""
    text: str = event.value
    if event.tag is None or event.tag == "!":
        return _plain(text) if event.implicit[0] else text
    kind = event.tag.removeprefix(TAG)
    if kind == "str":
        return text
    if kind not in _TYPES:
        raise WrongScalar(forbidden(event.tag))
    value = _plain(text)
    if type(value) not in _TYPES[kind]:
        raise WrongScalar(f"{text[:40]!r} is no !!{kind}; write the value without the tag")
    return value


def forbidden(tag: str) -> str:
    """The sentence about a tag that no configuration may have."""
    shown = "!!" + tag.removeprefix(TAG) if tag.startswith(TAG) else tag
    return f"the tag {shown[:40]} is not allowed; write the value without it"


def _plain(text: str) -> object:
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _WHOLE.fullmatch(text):
        if len(text) > DIGITS_MAX:
            raise WrongScalar(f"a number of {len(text)} digits; give a smaller one")
        return int(text)
    if _FLOAT.fullmatch(text):
        word = text.lower()
        return float(word.replace(".", "") if word[-1] in "fn" else word)
    return text
