# SPDX-License-Identifier: Apache-2.0
"""Text from outside that every database can keep and compare."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def is_text(text: str) -> bool:
    """Whether it can be kept as UTF-8, in PostgreSQL too."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text))


def _text(text: str) -> str:
    if not is_text(text):
        raise ValueError("a NUL or half a surrogate pair is no text; remove it")
    return text


Text = Annotated[str, AfterValidator(_text)]
Search = Annotated[str, Field(max_length=200), AfterValidator(_text)]
"""A query parameter that is compared with texts."""
