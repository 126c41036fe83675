# SPDX-License-Identifier: Apache-2.0
"""Rules of content-aware virtual servers in the configuration (docs/design/0012-content.md)."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from control_segment.content.patterns import ANY_HOST, HOST_MAX, PATTERN_MAX, WILDCARD, compiled
from control_segment.fields import Name, Section
from control_segment.references import wrong
from packets.uri import normal_path

VALUES_MAX: Final = 256  # of one condition
ANY_VALUE: Final = "*"
_TOKEN: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"  # RFC 9110 5.6.2
_HOST_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._~[:]")


def _host(text: str) -> str:
    lower = text.lower()
    rest = lower.removeprefix(WILDCARD)
    if lower != ANY_HOST and (
        not rest
        or len(rest) > HOST_MAX
        or not _HOST_LETTERS.issuperset(rest)
        or rest.startswith(".")
        or rest.endswith(".")
        or (":" in rest and not rest.startswith("["))
    ):
        raise ValueError(
            f"{text!r} is no host; give a name without a port, like www.example.com or"
            " *.example.com, or *"
        )
    return lower


def _rule_name(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError(f"{text!r} cannot be a name; give printable text without outer blanks")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or "?" in text or not text.isprintable():
        raise ValueError(f"{text!r} is no path; give one that begins with / and has no query")
    normal = normal_path(text)
    if normal != text:
        raise ValueError(
            f"{text!r} is not how paths are compared (RFC 3986 6.2.2); write {normal!r}"
        )
    return text


def _expression(text: str) -> str:
    compiled(text)
    return text


RuleName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_rule_name)]
HostPattern = Annotated[str, Field(min_length=1, max_length=HOST_MAX + 2), AfterValidator(_host)]
UrlPath = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_path)]
Expression = Annotated[
    str, Field(min_length=1, max_length=PATTERN_MAX), AfterValidator(_expression)
]
Method = Annotated[str, Field(min_length=1, max_length=32, pattern=_TOKEN)]
HeaderName = Annotated[
    str, Field(min_length=1, max_length=64, pattern=_TOKEN), AfterValidator(str.lower)
]
CookieName = Annotated[str, Field(min_length=1, max_length=64, pattern=_TOKEN)]
ParameterName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x20]+$")]
Value = Annotated[str, Field(max_length=256)]
Protocol = Annotated[str, Field(min_length=1, max_length=255)]
AttributeName = Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]


class MatchConfig(Section):
    """Conditions, all of which must hold; a list holds if one of its entries does.

    A value of `*` holds for any value, if there is one.
    """

    host: Annotated[tuple[HostPattern, ...], Field(max_length=VALUES_MAX)] = ()
    path: Annotated[tuple[UrlPath, ...], Field(max_length=VALUES_MAX)] = ()
    path_prefix: Annotated[tuple[UrlPath, ...], Field(max_length=VALUES_MAX)] = ()
    path_regex: Expression | None = None
    method: Annotated[tuple[Method, ...], Field(max_length=VALUES_MAX)] = ()
    header: dict[HeaderName, Value] = Field(default_factory=dict, max_length=16)
    query: dict[ParameterName, Value] = Field(default_factory=dict, max_length=16)
    cookie: dict[CookieName, Value] = Field(default_factory=dict, max_length=16)
    # of kind ssl: what the ClientHello says (SNI, RFC 6066 3; ALPN, RFC 7301)
    server_name: Annotated[tuple[HostPattern, ...], Field(max_length=VALUES_MAX)] = ()
    alpn: Annotated[tuple[Protocol, ...], Field(max_length=VALUES_MAX)] = ()
    # of kinds raw, assisted and hybrid: by the names that the plug-in gives to what a client said;
    # a `*` at the end of a value stands for anything
    said: dict[AttributeName, Annotated[tuple[Value, ...], Field(min_length=1, max_length=256)]] = (
        Field(default_factory=dict, max_length=16)
    )

    @property
    def has_conditions(self) -> bool:
        """Whether it says anything."""
        return any(getattr(self, name) for name in type(self).model_fields)


class RuleConfig(Section):
    """What some requests are sent to, or that they are refused."""

    name: RuleName
    match: MatchConfig
    pool: Name | None = None
    fallback_pool: Name | None = None  # new sessions go there while no node of `pool` takes any
    refuse: bool = False  # the client gets a RST

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.match.has_conditions:
            raise wrong(
                f"rule {self.name}: it has no condition, so it would take every request; give one,"
                " or remove the rule and name its pool as the virtual server's",
                "match",
            )
        if self.refuse and self.pool is not None:
            raise wrong(f"rule {self.name}: give pool or refuse, not both", "pool")
        if self.fallback_pool is not None and self.fallback_pool == self.pool:
            raise wrong(
                f"rule {self.name}: fallback_pool is its pool {self.pool}; name another one",
                "fallback_pool",
            )
        if self.fallback_pool is not None and self.pool is None:
            raise wrong(
                f"rule {self.name}: fallback_pool is for rules with a pool; remove it",
                "fallback_pool",
            )
        if not self.refuse and self.pool is None:
            raise wrong(f"rule {self.name}: it has no pool; name one, or give refuse: true")
        return self
