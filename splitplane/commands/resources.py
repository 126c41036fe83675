# SPDX-License-Identifier: Apache-2.0
"""`splitplane add`, `remove` and `node`: single resources of the desired state, by the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from admin.errors import CommandError
from admin.limits import WEIGHT_MAX
from splitplane.api_client import (
    MERGE_PATCH,
    Answer,
    ApiClient,
    RefusedError,
    api_options,
    segment,
)
from splitplane.commands.arguments import METHOD
from splitplane.commands.desired import (
    apply_document,
    comment_option,
    dry_run_option,
    generation_of,
    group_option,
    show,
)

STATES: Final = ("enabled", "draining", "down")
_TRIES: Final = 10  # when others change the desired state at the same moment
node_option = click.option(
    "--node", "nodes", metavar="ADDRESS:PORT", multiple=True,
    help="A node of the pool; may be repeated. IPv6: [2001:db8::1]:80.",
)  # fmt: skip
method_option = click.option("--method", type=METHOD, help="How the pool's nodes are chosen.")


@click.group()
def add() -> None:
    """Add to the desired state."""


@add.command("virtual-server")
@click.argument("name")
@click.option("--address", required=True, help="Where clients connect to.")
@click.option("--port", required=True, metavar="PORT", help="1 to 65535, or any.")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True)
@node_option
@click.option("--pool", metavar="POOL", help="A pool that is there, instead of --node.")
@method_option
@group_option
@comment_option
@dry_run_option
@api_options
def add_virtual_server(
    api: ApiClient, name: str, address: str, port: str, protocol: str, nodes: tuple[str, ...],
    pool: str | None, method: str | None, group: int | None, comment: str | None, dry_run: bool,
) -> None:  # fmt: skip
    """Add the virtual server NAME, and with --node a pool of the same name.

    Both are one generation. CSs that are linked to the API put it in force at once.
    """
    if (pool is None) == (not nodes):
        raise click.UsageError("give --node, once for each node, or --pool")
    if pool is not None and method is not None:
        raise click.UsageError("--method is for a new pool; the pool of --pool has its own")
    server = {
        "name": name, "address": address, "port": int(port) if port.isdecimal() else port,
        "protocol": protocol, "pool": name if pool is None else pool,
    }  # fmt: skip
    wanted: dict[str, dict[str, Any]] = {"virtual_servers": server}
    if nodes:
        wanted = {"pools": _pool(name, nodes, method), **wanted}
    _add(api, wanted, 1 if group is None else group, comment, dry_run)


@add.command("pool")
@click.argument("name")
@node_option
@method_option
@group_option
@comment_option
@dry_run_option
@api_options
def add_pool(
    api: ApiClient, name: str, nodes: tuple[str, ...], method: str | None, group: int | None,
    comment: str | None, dry_run: bool,
) -> None:  # fmt: skip
    """Add the pool NAME."""
    wanted = {"pools": _pool(name, nodes, method)}
    _add(api, wanted, 1 if group is None else group, comment, dry_run)


@add.command("node")
@click.argument("pool")
@click.argument("endpoint", metavar="ADDRESS:PORT")
@click.option("--name", help="Its name in the pool.  [default: ADDRESS:PORT]")
@click.option("--weight", type=click.IntRange(0, WEIGHT_MAX))
@click.option("--state", type=click.Choice(STATES))
@comment_option
@dry_run_option
@api_options
def add_node(
    api: ApiClient, pool: str, endpoint: str, name: str | None, weight: int | None,
    state: str | None, comment: str | None, dry_run: bool,
) -> None:  # fmt: skip
    """Add a node to POOL."""
    body = {"name": name or endpoint, **_endpoint(endpoint), **_given(weight=weight, state=state)}
    _change(api, "POST", f"/pools/{segment(pool)}/nodes", body, comment, dry_run)


@click.group()
def remove() -> None:
    """Remove from the desired state."""


@remove.command("virtual-server")
@click.argument("name")
@comment_option
@dry_run_option
@api_options
def remove_virtual_server(api: ApiClient, name: str, comment: str | None, dry_run: bool) -> None:
    """Remove the virtual server NAME. Its pool stays."""
    _change(api, "DELETE", f"/virtual-servers/{segment(name)}", None, comment, dry_run)


@remove.command("pool")
@click.argument("name")
@comment_option
@dry_run_option
@api_options
def remove_pool(api: ApiClient, name: str, comment: str | None, dry_run: bool) -> None:
    """Remove the pool NAME, which no virtual server may use any more."""
    _change(api, "DELETE", f"/pools/{segment(name)}", None, comment, dry_run)


@remove.command("node")
@click.argument("pool")
@click.argument("name", metavar="NODE")
@comment_option
@dry_run_option
@api_options
def remove_node(api: ApiClient, pool: str, name: str, comment: str | None, dry_run: bool) -> None:
    """Remove NODE from POOL. Its TCP connections go on until they end."""
    path = f"/pools/{segment(pool)}/nodes/{segment(name)}"
    _change(api, "DELETE", path, None, comment, dry_run)


@click.command()
@click.argument("pool")
@click.argument("name", metavar="NODE")
@click.option("--state", type=click.Choice(STATES))
@click.option("--weight", type=click.IntRange(0, WEIGHT_MAX))
@comment_option
@dry_run_option
@api_options
def node(
    api: ApiClient, pool: str, name: str, state: str | None, weight: int | None,
    comment: str | None, dry_run: bool,
) -> None:  # fmt: skip
    """Change NODE of POOL in the desired state: it stays so.

    `splitplane set-node` changes it at the CSs of this machine, until their next reload.
    """
    changes = _given(state=state, weight=weight)
    if not changes:
        raise click.UsageError("give --state, --weight, or both")
    path = f"/pools/{segment(pool)}/nodes/{segment(name)}"
    _change(api, "PATCH", path, changes, comment, dry_run, content_type=MERGE_PATCH)


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _endpoint(text: str) -> dict[str, object]:
    """ADDRESS:PORT as fields; whether the address is one is the API's to say."""
    address, colon, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        colon = ""
    if not colon or not address or not port.isdecimal():
        raise click.UsageError(
            f"{text!r} is not ADDRESS:PORT, like 192.0.2.11:80 or [2001:db8::1]:80"
        )
    return {"address": address, "port": int(port)}


def _pool(name: str, nodes: Sequence[str], method: str | None) -> dict[str, Any]:
    members = [
        {"name": f"{name}-{number}", **_endpoint(text)} for number, text in enumerate(nodes, 1)
    ]
    return {"name": name, **_given(method=method), "nodes": members}


def _change(
    api: ApiClient, method: str, path: str, body: object, comment: str | None, dry_run: bool,
    **how: str,
) -> None:  # fmt: skip
    query = {"comment": comment, "dry_run": dry_run}
    try:
        answer: Answer = api.request(method, path, body, query=query, **how)
    except RefusedError as error:
        raise _refused(error, "") from None
    if dry_run:
        show(answer.data)
    else:
        click.echo(f"generation {generation_of(answer)} is the newest", err=True)


def _add(
    api: ApiClient, wanted: Mapping[str, dict[str, Any]], group: int, comment: str | None,
    dry_run: bool,
) -> None:  # fmt: skip
    """Add resources of several kinds, by the lists that they belong to, as one generation."""
    for tries in range(1, _TRIES + 1):
        known = api.request("GET", "/configuration", query={"group_id": group})
        document = known.data
        at = ""
        for kind, resource in wanted.items():
            there = document.setdefault(kind, [])
            what, name = kind.removesuffix("s").replace("_", " "), resource["name"]
            if any(each["name"] == name for each in there):
                raise CommandError(
                    f"there is a {what} {name!r} already; take another name, or change that one"
                    " (splitplane export, then splitplane apply)"
                )
            at = f"/{kind}/{len(there)}"
            there.append(resource)
        try:
            apply_document(
                api, document, group=group, comment=comment, dry_run=dry_run,
                if_match=known.headers["etag"],
            )  # fmt: skip
        except RefusedError as error:
            if error.status == 412 and tries < _TRIES:
                continue
            raise _refused(error, at) from None
        return


def _refused(error: RefusedError, at: str) -> CommandError:
    """What the API says is wrong, one line each; *at*: where the new resource is."""
    if not error.faults:
        return error
    lines = []
    for fault in error.faults:
        where = fault.pointer.removeprefix(at).strip("/").replace("/", ".")
        lines.append(f"{where}: {fault.detail}" if where else fault.detail)
    return CommandError("\n".join(lines))
