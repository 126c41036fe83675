# SPDX-License-Identifier: Apache-2.0
"""From a change at a real API to a real CS that follows it, and back to whoever is told by mail."""

from __future__ import annotations

import asyncio
from pathlib import Path

from admin.alerts.alerts import Alerts
from admin.alerts.config import AlertConfig
from splitplane.alerting import of_api
from support.alert_sinks import HOST, MailSink
from support.api.linked import POOL, SERVER, api, cs, until
from support.ports import free_port

SORRY = {"name": "sorry", "nodes": [{"name": "s1", "address": "10.1.1.9", "port": 8080}]}
OUTLIERS = {"failures": 3, "max_ejected_percent": 50}


def test_a_fallback_that_begins_at_a_cs_is_mailed_by_the_api(tmp_path: Path) -> None:
    async def story() -> None:
        async with MailSink() as sink, api(tmp_path) as at:
            email = {
                "host": HOST, "port": sink.port, "tls": "none", "from": "lb@example.net",
                "to": ["ops@example.net"],
            }  # fmt: skip
            alert = AlertConfig.model_validate(
                {"name": "ops", "batch_s": 0, "kinds": ["fallback_begun"], "email": email}
            )
            await at.put("pools/sorry", SORRY)
            first, second = POOL["nodes"]
            web = {**POOL, "minimum_active": 1, "outliers": OUTLIERS}
            await at.put("pools/web", {**web, "nodes": [{**first, "priority": 5}, second]})
            await at.put("virtual-servers/www", {**SERVER, "fallback_pool": "sorry"})
            config = {
                "ssmb": {"address": HOST, "port": free_port()},
                "data_flow_segments": [{"address": HOST, "port": free_port()}],
            }
            async with (
                of_api(Alerts([alert], tmp_path), at.state.events),
                cs(tmp_path, config) as control,
            ):
                await until(lambda: at.status_of("cs-1") == "in_force")
                pool = control.runtime.segment.model.pools["web"]
                assert pool.nodes["web2"].in_reserve
                assert pool.outliers is not None
                down = [{**node, "state": "down"} for node in POOL["nodes"]]
                await at.put("pools/web", {**web, "nodes": down})
                await until(lambda: sink.mails)
            (mail,) = sink.mails
            assert mail.message["Subject"] == (
                "[splitplane] virtual server www: no node of pool web takes sessions: new ones go"
                " to fallback pool sorry"
            )
            assert "fallback_begun: cs-1: " in mail.message.get_content()
            kept = await at.get("events", kind="fallback_begun")
            assert kept["total"] == 1

    asyncio.run(story())
