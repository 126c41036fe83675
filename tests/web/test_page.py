# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, over a laboratory with real traffic."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from admin.answers import CS_STATUS, NODES
from splitplane.lab import Lab
from splitplane.lab.api import LabApi
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import SERVER_HTTP_PORT, VIRTUAL_ADDRESS
from support.browser import TIMEOUT_MS, Signed, under_load

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

IMAGES: Final = Path(__file__).parents[2] / "docs/images"
VIEWS: Final = (
    "", "virtual-servers", "virtual-servers/www", "virtual-servers/+new", "virtual-servers/site",
    "virtual-servers/site/edit", "pools", "pools/web",
    "pools/+new", "monitors", "monitors/+new", "flows", "events", "generations", "generations/1",
    "segments", "settings/1", "metrics", "tokens", "audit",
)  # fmt: skip
expect.set_options(timeout=TIMEOUT_MS)


def heading(page: Page, name: str) -> None:
    """Wait for a view."""
    expect(page.get_by_role("heading", name=name, level=1, exact=True)).to_be_visible()


def said(page: Page, text: str) -> None:
    """Wait for a message about what was done."""
    expect(page.get_by_role("status").filter(has_text=text)).to_be_visible()


def answers_of(lab: Lab, port: int) -> str:
    """The server that answers at a port, or "" if none does."""
    try:
        return lab.get("client1", "/name", port=port, timeout_s=2).body.decode()
    except OSError:
        return ""


def state_of(lab: Lab, cs: str) -> str:
    """What a CS is in its group."""
    return lab.admin(cs, CS_STATUS).group_role


def active_cs(lab: Lab) -> tuple[str, str]:
    """The active CS and the other one, once there is one."""
    wait_for("an active CS", lambda: "active" in (state_of(lab, "cs1"), state_of(lab, "cs2")), 60)
    return ("cs1", "cs2") if state_of(lab, "cs1") == "active" else ("cs2", "cs1")


# --- what one does with it ----------------------------------------------------------------------


def test_from_nothing_to_traffic_on_a_new_virtual_server(lab: Lab, signed: Signed) -> None:
    page = signed("pools")
    page.get_by_role("link", name="Add a pool").click()
    page.get_by_label("Name", exact=True).fill("shop")
    page.get_by_role("button", name="Add the pool").click()
    heading(page, "Pool shop")
    page.get_by_role("button", name="Add a node").click()
    node = page.get_by_role("dialog")
    node.get_by_label("Name", exact=True).fill("server2")
    node.get_by_label("Address", exact=True).fill(lab.host("server2").address)
    node.get_by_label("Port", exact=True).fill(str(SERVER_HTTP_PORT))
    node.get_by_role("button", name="Add the node").click()
    said(page, "Added the node shop/server2.")
    page.get_by_role("link", name="Virtual servers", exact=True).click()
    page.get_by_role("link", name="Add a virtual server").click()
    page.get_by_label("Name", exact=True).fill("shop")
    page.get_by_label("Address", exact=True).fill(VIRTUAL_ADDRESS)
    page.get_by_label("Port", exact=True).fill("8081")
    page.get_by_label("Pool", exact=True).select_option("shop")
    page.get_by_role("button", name="Add the virtual server").click()
    heading(page, "Virtual server shop")
    wait_for("traffic on it", lambda: answers_of(lab, 8081) == "server2", 60)
    expect(page.locator(".tile", has_text="Total")).to_contain_text(re.compile(r"Total[1-9]"))
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    said(page, "Removed the virtual server shop.")
    wait_for("no traffic on it", lambda: answers_of(lab, 8081) == "", 60)
    page.goto(f"{page.url.partition('#')[0]}#/pools/shop")
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    said(page, "Removed the pool shop.")


def add_rule(page: Page, name: str, condition: str) -> Locator:
    """A rule with a condition whose value is typed next."""
    page.get_by_role("button", name="Add a rule").click()
    expect(page.get_by_label("Name of the rule").last).to_be_focused()
    page.keyboard.type(name)
    rule = page.get_by_role("listitem", name=f"Rule {name}", exact=True)
    rule.get_by_label("Add a condition").select_option(condition)
    return rule


def test_a_newcomer_makes_rules_and_sees_them_decide(lab: Lab, api: LabApi, signed: Signed) -> None:
    page = signed("virtual-servers/+new")
    page.get_by_label("Name", exact=True).fill("rules")
    page.get_by_label("Address", exact=True).fill(VIRTUAL_ADDRESS)
    page.get_by_label("Port", exact=True).fill("8082")
    expect(page.get_by_role("button", name="Add a rule")).to_have_count(0)
    page.get_by_label("Kind", exact=True).select_option("http")
    page.get_by_label("Pool", exact=True).select_option("web")
    add_rule(page, "closed", "path_prefix").get_by_label("What happens").select_option("refuse")
    page.get_by_label("Path begins with", exact=True).fill("/slow")
    beta = add_rule(page, "beta", "query")
    beta.get_by_label("Query, name").fill("beta")
    beta.get_by_label("Pool of the rule").select_option("beta")
    page.get_by_role("button", name="Move Rule beta up").click()
    expect(page.get_by_role("button", name="Move Rule beta down")).to_be_focused()
    page.get_by_label("Request", exact=True).fill("GET /slow")
    page.get_by_role("button", name="Try it").click()
    tried = page.get_by_role("group", name="Try a request")
    expect(tried).to_contain_text("beta it has no query beta")
    expect(tried).to_contain_text("the client gets a RST")
    page.get_by_role("button", name="Add the virtual server").click()
    heading(page, "Virtual server rules")
    wait_for("traffic on it", lambda: answers_of(lab, 8082) != "", 60)
    for _ in range(3):
        assert lab.get("client1", "/name?beta=1", port=8082).body == b"server2"
    with pytest.raises(OSError, match="reset"):
        lab.get("client1", "/slow", port=8082)
    for name, count in (("beta", 3), ("closed", 1), ("no rule matches", "[1-9]")):
        row = page.get_by_role("row").filter(has_text=name)
        expect(row.get_by_role("cell").nth(3)).to_have_text(re.compile(f"^{count}"))
    assert api.request("DELETE", "/api/v1/virtual-servers/rules")[0] == 204


def test_a_node_that_dies_is_seen_to_come_back(lab: Lab, api: LabApi, signed: Signed) -> None:
    page = signed("monitors/+new")
    page.get_by_label("Name", exact=True).fill("alive")
    page.get_by_label("Interval (ms)").fill("100")
    page.get_by_label("Timeout (ms)").fill("1000")
    page.get_by_label("Fall").fill("1")
    page.get_by_label("Rise").fill("1")
    page.get_by_label("Port", exact=True).fill(str(SERVER_HTTP_PORT))
    page.get_by_role("button", name="Add the monitor").click()
    heading(page, "Monitors")
    page.goto(f"{api.url}#/pools/echo/edit")
    page.get_by_label("alive").check()
    page.get_by_role("button", name="Save").click()
    node = page.get_by_role("row").filter(has_text="server2")
    expect(node).to_contain_text("up")
    lab.process("server2").kill9()
    expect(node).to_contain_text("down")
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_label("Alarms")).to_contain_text("The node echo/server2 fails its monitors.")
    lab.start_server("server2")
    expect(page.get_by_label("Alarms")).to_contain_text("All is well")
    assert api.request("PATCH", "/api/v1/pools/echo", {"monitors": None})[0] == 200
    page.get_by_role("link", name="Monitors").click()
    page.get_by_role("button", name="Remove alive").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    said(page, "Removed the monitor alive.")


def test_a_node_that_is_drained_gets_no_new_connections(lab: Lab, signed: Signed) -> None:
    page = signed("pools/web")
    page.get_by_role("button", name="Drain server1").click()
    said(page, "web/server1 is draining")
    drained = page.get_by_role("row").filter(has_text="server1")
    expect(drained).to_contain_text("draining")
    cs, _ = active_cs(lab)

    def state() -> str:
        nodes = lab.admin(cs, NODES)
        return next(it.state for it in nodes if (it.pool, it.name) == ("web", "server1"))

    wait_for("the CS to know", lambda: state() == "draining", 60)
    assert {answers_of(lab, 80) for _ in range(6)} == {"server2"}
    page.get_by_role("button", name="Enable server1").click()
    wait_for("the node to serve again", lambda: answers_of(lab, 80) == "server1", 60)


def test_a_failover_is_followed(lab: Lab, signed: Signed) -> None:
    active, standby = active_cs(lab)
    names = {name: f"cs-{name.removeprefix('cs')}" for name in (active, standby)}
    page = signed("segments")
    expect(page.get_by_role("article", name=names[active])).to_contain_text("active")
    expect(page.get_by_role("article", name=names[standby])).to_contain_text("standby")
    lab.cs(active).kill9()
    expect(page.get_by_role("article", name=names[active])).to_contain_text("not connected")
    expect(page.get_by_role("article", name=names[standby])).to_contain_text("active")
    page.goto(page.url.replace("segments", ""))
    expect(page.get_by_label("Alarms")).to_contain_text(f"{names[active]} has no link to the API.")
    lab.start_cs(active)
    expect(page.get_by_label("Alarms")).to_contain_text("All is well")
    page.goto(f"{page.url}segments")
    page.get_by_role("button", name=f"Switch over to {names[active]}").click()
    page.get_by_role("dialog").get_by_role("button", name="Switch over").click()
    said(page, f"{names[active]} is the active CS of group 1.")
    expect(page.get_by_role("article", name=names[active])).to_contain_text("active")


def test_a_change_is_rolled_back_after_its_difference_was_shown(
    lab: Lab, api: LabApi, signed: Signed
) -> None:
    before = api.request("GET", "/api/v1/pools/echo")[1]["nodes"]
    page = signed("pools/echo")
    weight = page.get_by_label("Weight of server2", exact=True)
    weight.fill("7")
    weight.press("Enter")
    said(page, "echo/server2 has the weight 7.")
    newest = page.get_by_role("banner").get_by_role("link", name="generation")
    number = int((newest.text_content() or "").removeprefix("generation "))
    page.goto(f"{api.url}#/generations/{number}")
    expect(page.locator("ins")).to_have_text("+     weight: 7")
    page.goto(f"{api.url}#/generations")
    page.get_by_role("button", name=f"Roll back to generation {number - 1}", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("del")).to_have_text("-     weight: 7")
    dialog.get_by_role("button", name=f"Roll back to {number - 1}").click()
    said(page, f"The state is that of generation {number - 1} again.")
    assert api.request("GET", "/api/v1/pools/echo")[1]["nodes"] == before


def test_flows_are_found_traced_and_reaped(lab: Lab, signed: Signed) -> None:
    with lab.connect("client1") as connection:
        connection.get("/name")
        client = ":".join(map(str, connection.local_address))
        page = signed("flows")
        page.get_by_label("Client").fill(client)
        flow = page.get_by_role("row").filter(has_text=client)
        expect(flow).to_contain_text("www")
        flow.get_by_role("button", name="Trace").click()
        expect(page.get_by_role("dialog")).to_contain_text("node server")
        page.keyboard.press("Escape")
        flow.get_by_role("button", name="Reap").click()
        page.get_by_role("dialog").get_by_role("button", name="Reap").click()
        said(page, "is being reaped")


def test_the_overview_and_the_plots_show_the_traffic(lab: Lab, signed: Signed) -> None:
    """With SPLITPLANE_WRITE_IMAGES=1 it writes docs/images/."""
    page = signed()
    page.set_viewport_size({"width": 1140, "height": 620})
    with under_load(lab, 15) as load:
        expect(page.locator(".tile", has_text="New connections")).to_contain_text(
            re.compile(r"[1-9]\d*(\.\d)? /s")
        )
        expect(page.locator(".tile", has_text="Throughput")).to_contain_text("Mbit/s")
        picture = page.get_by_label("Live picture")
        expect(picture).to_contain_text("active, epoch")
        expect(picture).to_contain_text(re.compile(r"server1\d+ active, [1-9]"))
        images(page, "overview")
        page.get_by_role("link", name="Metrics").click()
        expect(page.get_by_role("img", name="Throughput")).to_be_visible()
        page.goto(f"{page.url.partition('#')[0]}#/pools/web")
        expect(page.get_by_role("row").filter(has_text="server1")).to_contain_text("bit/s")
        images(page, "pool")
    assert load.tally.failures == 0, load.tally.last_failure


def images(page: Page, name: str) -> None:
    """Keep pictures for the README, if they are wanted; few colours, so that they are small."""
    if os.environ.get("SPLITPLANE_WRITE_IMAGES") != "1":
        return
    from PIL import Image  # for nothing else

    IMAGES.mkdir(exist_ok=True)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        with Image.open(io.BytesIO(page.screenshot(scale="css"))) as picture:
            small = picture.convert("RGB").quantize(64)
            small.save(IMAGES / f"{name}-{scheme}.png", optimize=True)


# --- errors -------------------------------------------------------------------------------------


def test_what_the_api_refuses_is_said_at_the_field(signed: Signed) -> None:
    page = signed("virtual-servers/+new")
    page.get_by_label("Name", exact=True).fill("wrong")
    page.get_by_label("Address", exact=True).fill("nonsense")
    page.get_by_label("Port", exact=True).fill("99999")
    page.get_by_role("button", name="Add the virtual server").click()
    address = page.get_by_label("Address", exact=True)
    expect(address).to_have_attribute("aria-invalid", "true")
    expect(address).to_be_focused()
    expect(address).to_have_accessible_description(
        "IPv4 or IPv6 that clients connect to; * is any"
        " 'nonsense' is not an IPv4 or IPv6 address; give one"
    )
    expect(page.get_by_label("Port", exact=True)).to_have_attribute("aria-invalid", "true")


def test_what_is_wrong_with_a_rule_is_said_there(signed: Signed) -> None:
    page = signed("virtual-servers/site/edit")
    rule = add_rule(page, "never", "header")
    page.get_by_role("button", name="Save").click()
    expect(rule.get_by_label("Header, name")).to_be_focused()
    expect(rule).to_contain_text("It has no name; give one, or remove it.")
    rule.get_by_label("Header, name").fill("X-Beta")
    page.get_by_role("button", name="Save").click()
    condition = rule.get_by_label("Add a condition")
    expect(condition).to_have_accessible_description(
        re.compile("rule never can never match: rule beta above it takes every request")
    )
    expect(condition).to_be_focused()
    page.get_by_role("button", name="Move Rule never up").click()  # what is said was of another
    expect(page.get_by_text("can never match")).to_have_count(0)
    page.get_by_label("Kind", exact=True).select_option("cookie")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Cookie", exact=True)).to_have_accessible_description(
        re.compile("needs the cookie's name")
    )


def test_a_conflict_is_explained_and_the_newer_one_can_be_loaded(
    api: LabApi, signed: Signed
) -> None:
    page = signed("pools/web/edit")
    expect(page.get_by_label("Balancing method")).to_have_value("round_robin")
    assert api.request("PATCH", "/api/v1/pools/web", {"slow_start_s": 3})[0] == 200
    page.get_by_label("Balancing method").select_option("maglev")
    page.get_by_role("button", name="Save").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Someone else changed this while you edited it")
    alert.get_by_role("button", name="Load the newer one").click()
    expect(page.get_by_label("Balancing method")).to_have_value("round_robin")
    page.get_by_label("Balancing method").select_option("maglev")
    page.get_by_role("button", name="Save").click()
    said(page, "Saved pool web.")
    pool = api.request("GET", "/api/v1/pools/web")[1]
    assert (pool["slow_start_s"], pool["method"]) == (3, "maglev")
    assert api.request("PATCH", "/api/v1/pools/web", {"slow_start_s": 0, "method": None})[0] == 200


def test_an_api_that_is_away_is_said_and_comes_back(
    lab: Lab, browser: Browser, api: LabApi
) -> None:
    with browser.new_context() as window:  # a browser says on its console that nobody answers
        page = window.new_page()
        page.goto(api.sign_in_link())
        heading(page, "Overview")
        lab.process("api").kill9()
        alert = page.get_by_role("alert").filter(has_text="The API has not answered since")
        expect(alert).to_be_visible()
        assert answers_of(lab, 80)
        lab.start_api()
        expect(alert).to_be_hidden()
        page.goto(f"{api.url}#/segments")
        expect(page.get_by_role("article", name="cs-1")).to_contain_text("in force")


def test_a_page_that_was_not_seen_catches_up(api: LabApi, signed: Signed) -> None:
    page = signed("events")
    generation = page.get_by_role("banner").get_by_role("link", name="generation")
    expect(generation).to_be_visible()
    before = generation.inner_text()
    page.evaluate(_SEEN, "hidden")
    assert api.request("PATCH", "/api/v1/pools/echo", {"slow_start_s": 1})[0] == 200
    assert api.request("PATCH", "/api/v1/pools/echo", {"slow_start_s": 0})[0] == 200
    number = int(before.removeprefix("generation ")) + 2
    expect(generation).to_have_text(before)
    page.evaluate(_SEEN, "visible")
    expect(generation).to_have_text(f"generation {number}")


_SEEN: Final = """(how) => {
  Object.defineProperty(document, "visibilityState", {value: how, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_who_is_not_signed_in_sees_nothing_and_a_link_works_once(
    api: LabApi, browser: Browser
) -> None:
    with browser.new_context() as window:
        page = window.new_page()
        page.goto(f"{api.url}#/pools")
        heading(page, "Sign in")
        page.get_by_label("Token").fill("splp_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("unknown")
        link = api.sign_in_link()
        page.goto(link)
        heading(page, "Overview")
        assert "sign-in" not in page.url
        page.get_by_role("button", name="Sign out").click()
        heading(page, "Sign in")
        page.goto(link)
        said(page, "used up")


def test_a_viewer_sees_no_way_to_change_anything(signed: Signed) -> None:
    page = signed(role="viewer")
    for view in (
        "virtual-servers",
        "virtual-servers/site",
        "pools",
        "pools/web",
        "segments",
        "flows",
    ):
        page.goto(page.url.partition("#")[0] + f"#/{view}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text("Loading …")).to_have_count(0)
        changes = page.locator("main").get_by_role("button").all_inner_texts()
        assert set(changes) <= {"Trace", "Try it"}, view
    expect(page.get_by_role("link", name="Tokens")).to_have_count(0)


# --- for everybody ------------------------------------------------------------------------------


def test_every_view_fits_and_names_what_it_has(signed: Signed, api: LabApi) -> None:
    page = signed()
    for view in VIEWS:
        page.goto(f"{api.url}#/{view}")
        expect(page.locator("h1")).to_have_count(1)
        expect(page.get_by_text("Loading …")).to_have_count(0)
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 860})
            wrong = page.evaluate(_LOOK)
            assert wrong == [], f"{view}, {width} pixels"


_LOOK = """() => {
  const wrong = [];
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("wider than the window");
  for (const each of ["banner", "navigation", "main"]) {
    const found = {banner: "header", navigation: "nav[aria-label]", main: "main"}[each];
    if (document.querySelectorAll(found).length !== 1) wrong.push(`not one ${each}`);
  }
  const named = (each) =>
    each.getAttribute("aria-label") || each.labels?.length || each.innerText.trim();
  for (const each of document.querySelectorAll("a, button, input, select, textarea"))
    if (!named(each)) wrong.push(`no name: ${each.outerHTML}`);
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  if (new Set(ids).size !== ids.length) wrong.push("an id is there twice");
  return wrong;
}"""


def test_the_keyboard_is_enough(signed: Signed, lab: Lab) -> None:
    page = signed()
    page.reload()
    heading(page, "Overview")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="Pools and nodes").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Pools and nodes")).to_be_focused()
    page.get_by_role("link", name="echo", exact=True).focus()
    page.keyboard.press("Enter")
    drain = page.get_by_role("button", name="Force server1 down")
    drain.focus()
    outline = drain.evaluate("each => getComputedStyle(each).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(drain).to_be_focused()


def test_the_colours_follow_the_system_and_the_switch(signed: Signed) -> None:
    page = signed(scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_label("Colours").select_option("light")
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    heading(page, "Overview")
    assert page.evaluate(ground) == light
    page.get_by_label("Colours").select_option("system")
