# SPDX-License-Identifier: Apache-2.0
"""The endpoint over real connections on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest

from admin.errors import AddressError
from admin.metrics import cs
from admin.metrics.collecting import Count
from admin.metrics.endpoint import CONNECTIONS_MAX, PATH, Collect, MetricsEndpoint
from admin.metrics.exposition import AT_ONCE
from admin.metrics.tables import AnyReading, Reading
from support.ports import free_port


async def collect() -> list[AnyReading]:
    return [Reading(cs.SENT, [Count("REPLY", 7)])]


async def fail() -> list[AnyReading]:
    raise ValueError("the Control Segment is not running yet")


def served(
    story: Callable[[str, httpx.AsyncClient], Awaitable[None]], collect: Collect = collect
) -> None:
    """Run *story* with the endpoint's URL and a client."""

    async def main() -> None:
        port = free_port()
        async with MetricsEndpoint("127.0.0.1", port, collect), httpx.AsyncClient() as client:
            await story(f"http://127.0.0.1:{port}", client)

    asyncio.run(main())


def test_a_scrape_gets_the_format_that_it_asks_for_over_one_connection() -> None:
    async def story(url: str, client: httpx.AsyncClient) -> None:
        for accept, content_type in (
            ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
            ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text"),
        ):
            async with client.stream("GET", url + PATH, headers={"Accept": accept}) as answer:
                await answer.aread()
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith(content_type)
                assert 'splitplane_cs_messages_sent_total{type="REPLY"} 7.0\n' in answer.text
                ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))

    ports = set[object]()
    served(story)
    assert len(ports) == 1


def test_other_requests_are_refused_in_words() -> None:
    async def story(url: str, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{url}/")
        assert (answer.status_code, answer.text) == (
            404,
            "there is nothing here; metrics are at /metrics\n",
        )
        answer = await client.post(url + PATH, content=b"x" * 100_000)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        answer = await client.head(url + PATH)
        assert (answer.status_code, answer.content) == (200, b"")

    served(story)


def test_what_cannot_be_collected_now_is_a_503_with_the_reason() -> None:
    async def story(url: str, client: httpx.AsyncClient) -> None:
        answer = await client.get(url + PATH)
        assert answer.status_code == 503
        assert answer.text == "the Control Segment is not running yet\n"

    served(story, fail)


@pytest.mark.parametrize("octets", [b"\x16\x03\x01 not http\r\n\r\n", b"GET " + b"x" * 40_000])
def test_what_is_no_http_is_refused_and_the_endpoint_goes_on(octets: bytes) -> None:
    async def story(url: str, client: httpx.AsyncClient) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        writer.write(octets)
        assert (await reader.read()).startswith(b"HTTP/1.1 4")
        writer.close()
        await writer.wait_closed()
        assert (await client.get(url + PATH)).status_code == 200

    served(story)


def test_more_connections_than_it_serves_are_closed_at_once() -> None:
    async def story(url: str, client: httpx.AsyncClient) -> None:
        port = httpx.URL(url).port
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        for _, other in streams:
            other.close()
            await other.wait_closed()

    served(story)


def test_others_get_their_turn_during_a_scrape() -> None:
    rounds = 0

    async def large() -> list[AnyReading]:
        return [Reading(cs.SENT, [Count(str(number), 1) for number in range(20 * AT_ONCE)])]

    async def count_turns() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async def story(url: str, client: httpx.AsyncClient) -> None:
        async with asyncio.TaskGroup() as tasks:
            counting = tasks.create_task(count_turns())
            async with client.stream("GET", url + PATH) as answer:
                begun = rounds  # the endpoint has written its first piece
                await answer.aread()
            counting.cancel()
        assert rounds - begun >= 20

    served(story, large)


def test_a_port_in_use_and_an_address_of_another_machine_are_named() -> None:
    async def listen(address: str, port: int) -> None:
        async with MetricsEndpoint(address, port, collect):
            pass

    with socket.socket() as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(AddressError, match=rf"^metrics: 127.0.0.1 port {port}: .* another"):
            asyncio.run(listen("127.0.0.1", port))
    with pytest.raises(AddressError, match="use an address of this machine"):
        asyncio.run(listen("192.0.2.1", port))
