# SPDX-License-Identifier: Apache-2.0
"""The arguments of an admin command.  ValueError says which one is wrong, and what is expected."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

ValueT = TypeVar("ValueT")


class Endpoint(NamedTuple):
    """An address as text, and a port."""

    address: str
    port: int


class Arguments:
    """What came with a command; an argument that is absent or null is None."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """A text that must be there."""
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} is missing")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text that may be there."""
        return None if self._values.get(name) is None else self.text(name)

    def texts(self, name: str) -> list[str]:
        """A list of texts that must be there, at least one."""
        value = self._values.get(name)
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name} is missing: a list of at least one")
        if not all(isinstance(item, str) and item for item in value):
            raise ValueError(f"{name}: expected a list of texts")
        return value

    def optional_texts(self, name: str) -> list[str] | None:
        """A list of texts that may be there."""
        return None if self._values.get(name) is None else self.texts(name)

    def whole_number(self, name: str, least: int, most: int | None = None) -> int | None:
        """A number within these bounds."""
        value = self._values.get(name)
        if value is None:
            return None
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and least <= value
            and (most is None or value <= most)
        ):
            return value
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: expected a whole number {bounds}, not {value!r}")

    def choice(self, name: str, known: Mapping[str, ValueT]) -> ValueT | None:
        """What one of the *known* names stands for."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in known:
            *others, last = known
            raise ValueError(f"{name}: expected {', '.join(others)} or {last}, not {value!r}")
        return known[value]

    def endpoint(self, name: str) -> Endpoint | None:
        """An address with a port."""
        value = self._values.get(name)
        found = None if value is None else _endpoint(str(value))
        if found is None and value is not None:
            raise ValueError(
                f"{name}: expected address:port, like 10.0.0.1:80 or [fd00::1]:80, not {value!r}"
            )
        return found

    def address_or_endpoint(self, name: str) -> tuple[str, int | None] | None:
        """An address, with a port or without one."""
        value = self._values.get(name)
        if value is None:
            return None
        address = _address(str(value))
        if address is not None:
            return address, None
        found = _endpoint(str(value))
        if found is None:
            raise ValueError(
                f"{name}: expected an address or address:port, like 10.0.0.1, 10.0.0.1:80 or"
                f" [fd00::1]:80, not {value!r}"
            )
        return found


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def _endpoint(text: str) -> Endpoint | None:
    host, _, port = text.rpartition(":")
    address = _address(host)
    if address is None or (":" in address) != host.startswith("["):
        return None  # without its brackets an IPv6 address may end anywhere
    if not (port.isascii() and port.isdecimal()) or int(port) > 0xFFFF:
        return None
    return Endpoint(address, int(port))
