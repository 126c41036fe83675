# SPDX-License-Identifier: Apache-2.0
"""What a request would match, before clients find out, and what plug-ins there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from api.access.access import Viewer
from api.desired.bodies import faults, refused
from api.desired.resources import Kind
from api.errors import Fault
from api.http.bodies import JsonBody
from api.http.documented import READ, body, refusals
from api.http.pages import Page
from api.http.texts import Text
from api.live.models import as_json
from api.state import ApiState, State
from api.virtual_servers.endpoints import VirtualServer
from control_segment.config import PoolConfig, VirtualServerConfig
from control_segment.content.config import PLUGIN_KINDS
from control_segment.fields import HopAddress, Name
from control_segment.protocols.registry import PLUGINS
from control_segment.rule_trying import Words, octets_of_request, try_words
from ssmb.addresses import from_text

router = APIRouter(prefix="/api/v1", tags=["virtual servers"])

EXAMPLE: Final[dict[str, Any]] = {
    "virtual_server": "shop",
    "request_line": "GET /img/x HTTP/1.1",
    "headers": ["Host: shop.example.com"],
    "instead": {
        "address": "192.0.2.80", "port": 80, "protocol": "tcp", "kind": "http", "pool": "web",
        "rules": [{"name": "no images", "match": {"path_prefix": ["/img/"]}, "refuse": True}],
    },
}  # fmt: skip
_LINE_MAX: Final = 16384  # octets of a header line, or of a request line
_HEADERS_MAX: Final = 100
_ALPN_MAX: Final = 100
_SAID_MAX: Final = 16
_INSTEAD: Final = "/instead"


class Trial(BaseModel):
    """What a client would say; it is sent to nobody. Give what the virtual server's kind reads."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": EXAMPLE})

    virtual_server: Name
    request_line: Annotated[Text, Field(min_length=1, max_length=_LINE_MAX)] | None = Field(
        default=None,
        description="Of kinds http and cookie: like `GET /img/x HTTP/1.1`, or a path alone.",
    )
    headers: list[Annotated[Text, Field(max_length=_LINE_MAX)]] = Field(
        default=[], max_length=_HEADERS_MAX, description="Lines like `Host: shop.example.com`."
    )
    server_name: Annotated[Text, Field(max_length=255)] = Field(
        default="", description="Of kind ssl: what the client names (SNI)."
    )
    alpn: list[Annotated[Text, Field(min_length=1, max_length=255)]] = Field(
        default=[], max_length=_ALPN_MAX, description="Of kind ssl: what it offers."
    )
    said: dict[str, Annotated[Text, Field(max_length=256)]] = Field(
        default={},
        max_length=_SAID_MAX,
        description="Of kinds raw, assisted and hybrid: what the plug-in reads, by its names.",
    )
    client: HopAddress = Field(default="192.0.2.1", description="The client's address.")
    instead: dict[str, Any] | None = Field(
        default=None,
        description="A virtual server that is tried in place of what has the name, which need not"
        " be there: what would be if it were saved. Fields as of a virtual server.",
    )


class PassedModel(BaseModel):
    """A rule that does not take the request."""

    rule: str
    why: str


class TriedModel(BaseModel):
    """What a request comes to."""

    request: str = Field(description="What rules see: method, host and path, for example.")
    passed: list[PassedModel] = Field(description="The rules before, in their order.")
    rule: str | None = Field(description="That takes it; null: none does.")
    pool: str | None = Field(description="Null: the request is refused.")
    node: str | None = Field(description="Null: which one depends on more than the request.")
    how: str = Field(description="How the node is found.")


class ApplicationModel(BaseModel):
    """A plug-in of the CSs, by the name that `application` of a virtual server has."""

    name: str
    kinds: list[str] = Field(description="Of virtual servers that it can be for.")
    hashed: str = Field(description="What `hash: said` goes by.")
    attributes: list[str] = Field(description="What rules can look at (`said`).")


class _Configured(NamedTuple):
    virtual_servers: Sequence[VirtualServerConfig]
    pools: Sequence[PoolConfig]


@router.post(
    "/rules/try",
    summary="Try rules",
    response_model=TriedModel,
    responses=refusals(*READ, 400, 404, 413, 415),
    openapi_extra=body("Trial", EXAMPLE),
)
def try_rules(state: State, caller: Viewer, request: Request, given: JsonBody) -> Response:
    """Which rule of a virtual server takes a request, why those before it do not, and which pool
    and node it comes to. Nothing is sent, and nothing changes. What persistence remembers, and how
    busy nodes are, only a running CS knows."""
    request.state.unchanged = True  # no entry of the audit log
    try:
        trial = Trial.model_validate(given)
    except ValidationError as error:
        raise refused(faults(error, given, Trial)) from None
    words = Words(None, trial.server_name, tuple(trial.alpn), trial.said)
    configured, client = _configured(state, trial), from_text(trial.client)
    try:
        if trial.request_line is not None:
            words = words._replace(request=octets_of_request(trial.request_line, trial.headers))
        tried = try_words(configured, trial.virtual_server, words, client)
    except ValueError as error:
        raise refused([Fault("/request_line", str(error))]) from None
    passed = [PassedModel(rule=each.rule, why=each.why) for each in tried.passed]
    return as_json(TriedModel(**{**tried._asdict(), "passed": passed}))


def _configured(state: ApiState, trial: Trial) -> _Configured:
    """The one virtual server, and the pools of its group; Problem 404, 422."""
    if trial.instead is None:
        held = state.desired.get((Kind.VIRTUAL_SERVER, trial.virtual_server))
        server, group_id = held.model, held.group_id
    else:
        wanted = {"name": trial.virtual_server, **trial.instead}
        try:
            server = VirtualServer.model_validate(wanted)
        except ValidationError as error:
            raise refused(_within(faults(error, wanted, VirtualServer))) from None
        group_id = server.group_id
        if server.name != trial.virtual_server:
            raise refused([Fault(f"{_INSTEAD}/name", f"give {trial.virtual_server}, or leave it")])
    assert isinstance(server, VirtualServerConfig)
    pools = [held.model for held in state.desired.all_of(Kind.POOL, group_id)]
    found = _Configured([server], [pool for pool in pools if isinstance(pool, PoolConfig)])
    _check_pools(server, {pool.name for pool in found.pools})
    return found


def _check_pools(server: VirtualServerConfig, names: set[str]) -> None:
    """What is saved names only pools that there are."""
    wrong = [
        Fault("/".join((_INSTEAD, *map(str, place))), f"there is no pool {name!r}")
        for name, place in server.pool_places
        if name not in names
    ]
    if wrong:
        raise refused(wrong)


def _within(found: list[Fault]) -> list[Fault]:
    return [Fault(f"{_INSTEAD}{each.pointer}", each.detail) for each in found]


@router.get(
    "/applications",
    summary="Plug-ins",
    response_model=Page[ApplicationModel],
    responses=refusals(*READ),
)
def list_applications(caller: Viewer) -> Response:
    """What virtual servers of the kinds raw, assisted and hybrid can have as `application`."""
    items = [
        ApplicationModel(
            name=name,
            kinds=[it for it in PLUGIN_KINDS if it != "raw" or not plugin.SPEAKS_FIRST],
            hashed=plugin.HASHED,
            attributes=list(plugin.ATTRIBUTES),
        )
        for name, plugin in sorted(PLUGINS.items())
    ]
    return as_json({"items": items, "next": None, "total": len(items)})
