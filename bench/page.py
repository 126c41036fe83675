# SPDX-License-Identifier: Apache-2.0
"""What the web page costs with a large configuration: at the browser, the API and the CS.

    python bench/page.py [--servers 10000] [--nodes 10] [--rate 200] [--seconds 15]

An API (SQLite), a CS that follows it and headless Chromium (Debian's), each a process of its own;
this script plays the DFS and asks about new flows at a fixed rate while the page is open.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

from link import Rig, beside, document, put, wait_for
from playwright.sync_api import Page, sync_playwright
from reload import Dfs, cpu_s, show

VIEWS = {  # and a piece of text that is there as soon as the view is of use
    "": "Live picture", "virtual-servers": "server-0", "pools": "pool-0", "events": "Events",
    "segments": "cs-1", "generations": "Generations", "flows": "Flows", "metrics": "Metrics",
}  # fmt: skip
PATIENCE_MS = 60_000
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def look(page: Page, url: str, servers: int) -> None:
    """Open every view once, and find, open and compare something."""
    for view, text in VIEWS.items():
        started = time.monotonic()
        page.goto(f"{url}/#/{view}")
        if view:
            page.get_by_role("main").get_by_text(text, exact=False).first.wait_for()
        else:
            page.locator("svg.picture").wait_for()
        print(
            f"  view {view or 'overview'}: {(time.monotonic() - started) * 1000:.0f} ms", flush=True
        )
    last = servers - 1
    page.goto(f"{url}/#/virtual-servers")
    page.get_by_role("link", name="server-0", exact=True).wait_for()
    started = time.monotonic()
    page.get_by_label("Find virtual servers").fill(f"server-{last}")
    row = page.get_by_role("row").filter(
        has=page.get_by_role("link", name=f"server-{last}", exact=True)
    )
    row.wait_for()
    print(f"  found the last virtual server: {(time.monotonic() - started) * 1000:.0f} ms")
    page.wait_for_function(
        "name => [...document.querySelectorAll('tr')].some(row => row.textContent.includes(name)"
        " && /\\d/.test(row.cells[5].textContent))", arg=f"server-{last}",
    )  # fmt: skip
    print(f"  with its live counts: {(time.monotonic() - started) * 1000:.0f} ms", flush=True)
    started = time.monotonic()
    page.goto(f"{url}/#/pools/pool-{last}")
    page.get_by_text(f"node-{last}-0").first.wait_for()
    print(f"  one pool: {(time.monotonic() - started) * 1000:.0f} ms", flush=True)
    started = time.monotonic()
    page.goto(f"{url}/#/generations/1")
    page.locator("pre.difference").first.wait_for()
    print(f"  what the first generation changed: {(time.monotonic() - started) * 1000:.0f} ms,"
          f" {page.locator('pre.difference').count()} resources drawn", flush=True)  # fmt: skip


class Asking:
    """The DFS, in a thread: it asks at a rate from begin to end."""

    def __init__(self, dfs: Dfs, rate: float) -> None:
        self._dfs, self._over = dfs, threading.Event()
        self._thread = threading.Thread(target=dfs.run, args=(self._over.is_set, rate))

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def quietly(rig: Rig, dfs: Dfs, what: str) -> None:
    """What is spent while nobody does anything."""
    time.sleep(3)
    before = {name: cpu_s(process.pid) for name, process in rig.processes.items()}
    dfs.latencies.clear()
    time.sleep(rig.chosen.seconds)
    spent = ", ".join(
        f"{name} {(cpu_s(process.pid) - before[name]) / rig.chosen.seconds * 100:.0f} %"
        for name, process in rig.processes.items()
    )
    show(f"{what} ({spent} of a core)", dfs.latencies)


def browse(rig: Rig, dfs: Dfs, url: str) -> None:
    link = rig.client.request("POST", "/sign-in-links", {"name": "bench", "role": "admin"}).data[
        "url"
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[*ARGUMENTS, "--enable-precise-memory-info"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url + "/" + link[link.index("#") :])
        page.get_by_role("button", name="Sign out").wait_for()
        dfs.latencies.clear()
        look(page, url, rig.chosen.servers)
        show("while the page goes through its views", dfs.latencies)
        print(
            f"heap of the page: {page.evaluate('performance.memory.usedJSHeapSize') / 1e6:.0f} MB"
        )
        for view in ("", "virtual-servers", f"pools/pool-{rig.chosen.servers - 1}"):
            page.goto(f"{url}/#/{view}")
            quietly(rig, dfs, f"with one page open at {view or 'the overview'}")
        print(
            f"heap of the page: {page.evaluate('performance.memory.usedJSHeapSize') / 1e6:.0f} MB"
        )
        browser.close()


def measure(rig: Rig) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (rig.folder / "api.yaml").write_text(
        f"listen: {{address: 127.0.0.1, port: {port}, socket: api.sock}}\ndatabase: sqlite:///api.db\n"
    )
    rig.start("api")
    while True:
        try:
            rig.client.get("/segments")
            break
        except Exception:
            time.sleep(0.05)
    put(rig.client, "/configuration", document(rig.chosen, 1))
    rig.start("cs")
    dfs = Dfs(rig.listener, rig.cs_port, rig.chosen.servers)
    beside(dfs, 0, lambda: wait_for(rig, 1))
    dfs.run(lambda: dfs.changes >= rig.chosen.servers or (dfs.is_listed and dfs.is_synced))
    with Asking(dfs, rig.chosen.rate):
        quietly(rig, dfs, "without a page")
        browse(rig, dfs, f"http://127.0.0.1:{port}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    with tempfile.TemporaryDirectory() as folder, Rig(parser.parse_args(), Path(folder)) as rig:
        measure(rig)


if __name__ == "__main__":
    main()
