# SPDX-License-Identifier: Apache-2.0
"""`splitplane rule try`: what a request would match, before clients find out."""

from __future__ import annotations

import ipaddress
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from admin.errors import CommandError
from splitplane.api_client import ApiClient, api_options
from splitplane.config import load

if TYPE_CHECKING:
    from control_segment.config import GroupConfig
    from control_segment.rule_trying import Tried

REQUEST_MAX: Final = 1 << 16  # octets; no virtual server reads more


@click.group()
def rule() -> None:
    """Look at the rules of virtual servers that read what clients say."""


@rule.command("try")
@click.argument("virtual_server")
@click.argument("request_line", required=False)
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'",
              help="A header of the request; Host, too. May be repeated.")  # fmt: skip
@click.option("--server-name", default="", help="SNI of a TLS client, of kind ssl.")
@click.option("--alpn", multiple=True, help="A protocol that it offers. May be repeated.")
@click.option("--said", multiple=True, metavar="NAME=VALUE",
              help="What a plug-in reads: key=user:7, for example. May be repeated.")  # fmt: skip
@click.option("--client", default="192.0.2.1", show_default=True, help="The client's address.")
@click.option("--config", type=click.Path(path_type=Path),
              help="Of this cs.yaml, instead of the API's desired state.")  # fmt: skip
@click.option("--group", type=click.IntRange(0, 65535), default=1, show_default=True,
              help="The group of CSs, at the API.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@api_options
def try_(
    api: ApiClient, virtual_server: str, request_line: str | None, headers: tuple[str, ...],
    server_name: str, alpn: tuple[str, ...], said: tuple[str, ...], client: str,
    config: Path | None, group: int, as_json: bool,
) -> None:  # fmt: skip
    """Print which rule of VIRTUAL_SERVER takes a request, why those before it do not, and which
    pool and node it comes to.

    REQUEST_LINE is like 'GET /img/x HTTP/1.1', or a path alone. Without it, a whole request is read
    from standard input. For kind ssl give --server-name and --alpn instead, for kinds whose
    protocol a plug-in reads --said. Nothing is sent to anybody.

    What persistence remembers, and how busy nodes are, only a running CS knows.
    """
    from control_segment.rule_trying import Words, try_words
    from ssmb.addresses import octets_of

    try:
        address = octets_of(ipaddress.ip_address(client))
    except ValueError:
        raise click.BadParameter(f"{client!r} is no IPv4 or IPv6 address") from None
    words = Words(server_name=server_name, alpn=alpn, said=_pairs(said))
    if words == Words():
        words = words._replace(request=_request(request_line, headers))
    elif request_line is not None or headers:
        raise click.UsageError("give a request, or --server-name and --alpn, or --said")
    of = _configuration(api, config, group)
    try:
        tried = try_words(of, virtual_server, words, address)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if as_json:
        passed = [each._asdict() for each in tried.passed]
        click.echo(json.dumps(tried._asdict() | {"passed": passed}, indent=2))
    else:
        _print(tried)


def _configuration(api: ApiClient, config: Path | None, group: int) -> GroupConfig:
    from control_segment.config import ControlSegmentConfig, GroupConfig

    if config is not None:
        return load(config, ControlSegmentConfig)
    return GroupConfig.model_validate(api.get("/configuration", group_id=group))


def _pairs(said: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for each in said:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.BadParameter(f"{each!r} is not NAME=VALUE", param_hint="--said")
        found[name] = value
    return found


def _request(request_line: str | None, headers: tuple[str, ...]) -> bytes:
    """The octets that a client would send."""
    if request_line is None:
        if headers:
            raise click.UsageError("-H needs REQUEST_LINE; a whole request has its own headers")
        return sys.stdin.buffer.read(REQUEST_MAX)
    from control_segment.rule_trying import octets_of_request

    try:
        return octets_of_request(request_line, headers)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _print(tried: Tried) -> None:
    click.echo(f"request: {tried.request}")
    for passed in tried.passed:
        click.echo(f"  rule {passed.rule}: {passed.why}")
    click.echo("  no rule matches" if tried.rule is None else f"  rule {tried.rule}: matches")
    if tried.pool is None:
        click.echo(tried.how)
        return
    click.echo(f"pool: {tried.pool}")
    click.echo(f"node: {tried.how if tried.node is None else f'{tried.node}, {tried.how}'}")
