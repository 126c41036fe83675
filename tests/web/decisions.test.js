// SPDX-License-Identifier: Apache-2.0
/** What the page decides without asking anybody.  Run by test_decisions.py, or `node --test`. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { alarmsOf } from "../../api/web/js/alarms.js";
import { addressOf } from "../../api/web/js/api.js";
import { linesOf } from "../../api/web/js/difference.js";
import { fitted, placed, toBody, toValues } from "../../api/web/js/form_values.js";
import { amount, bits, duration } from "../../api/web/js/format.js";
import { modelOf } from "../../api/web/js/model.js";
import { layout } from "../../api/web/js/picture.js";
import { perSecond } from "../../api/web/js/rates.js";
import { addable, faultsOf, mistakesOf, moved, newCondition, toBodies, toRules } from "../../api/web/js/rule_values.js";
import { fieldsWith } from "../../api/web/js/server_fields.js";

test("a counter that fell began anew with its process", () => {
  const first = perSecond(null, 1000, [["a", 10], ["b", 500]]);
  const second = perSecond(first, 3000, [["a", 30], ["b", 8], ["c", 1]]);
  assert.equal(first.rates.size, 0);
  assert.deepEqual(Object.fromEntries(second.rates), { a: 10, b: 4 });
});

test("a difference has what is around it and no more", () => {
  const [a, c] = [{ name: "a", address: "192.0.2.1" }, { name: "c" }];
  const lines = linesOf(
    { name: "web", method: "maglev", nodes: [a, { name: "b" }, c] },
    { name: "web", method: "maglev", nodes: [a, { name: "b", weight: 2 }, c] },
  );
  assert.deepEqual(lines, [
    { what: "same", text: "…" },
    { what: "same", text: "    address: 192.0.2.1" },
    { what: "same", text: "  - name: b" },
    { what: "added", text: "    weight: 2" },
    { what: "same", text: "  - name: c" },
  ]);
});

test("what is added or removed is shown whole", () => {
  const body = { name: "web", nodes: [{ name: "a" }] };
  const texts = ["name: web", "nodes:", "  - name: a"];
  assert.deepEqual(linesOf(null, body), texts.map((text) => ({ what: "added", text })));
  assert.deepEqual(linesOf(body, null), texts.map((text) => ({ what: "removed", text })));
});

const FIELDS = [
  { at: "port", kind: "whole", needed: true },
  { at: "limit", kind: "whole", usual: 0 },
  { at: "persistence/kind", kind: "choice" },
  { at: "persistence/timeout_s", kind: "whole", usual: 300, shown: (it) => it["persistence/kind"] !== "" },
];
const BODY = { name: "www", port: 80, other: [1], persistence: { kind: "source_address", timeout_s: 9 } };

test("a form that nobody touched gives what it was given", () => {
  assert.deepEqual(toBody(FIELDS, toValues(FIELDS, BODY), BODY), BODY);
});

test("a form keeps what it does not show, and takes out what is hidden", () => {
  const values = { ...toValues(FIELDS, BODY), "persistence/kind": "", port: "80x", limit: "5" };
  assert.deepEqual(toBody(FIELDS, values, BODY), { name: "www", port: "80x", other: [1], limit: 5 });
});

test("a monitor keeps the headers and secrets that its form has no field for", () => {
  const fields = [{ at: "http/path", kind: "text", usual: "/" }, { at: "http/host", kind: "text" }];
  const hidden = { headers: { "X-A": "b" }, secret_headers: { Authorization: "token" } };
  const body = { name: "m", http: { host: "www", ...hidden } };
  const values = { ...toValues(fields, body), "http/path": "/up", "http/host": "" };
  assert.deepEqual(toBody(fields, values, body), { name: "m", http: { path: "/up", ...hidden } });
});

test("faults without a field are said above the form", () => {
  const faults = [
    { pointer: "/port/0", detail: "a" },
    { pointer: "/port", detail: "b" },
    { pointer: "/persistence/timeout_s", detail: "c" },
    { pointer: "/nodes/0/name", detail: "twice" },
    { pointer: "", detail: "all" },
  ];
  assert.deepEqual(placed(FIELDS, faults), {
    at: { port: "a b", "persistence/timeout_s": "c" },
    others: ["/nodes/0/name: twice", "all"],
  });
});

test("numbers are written as people read them", () => {
  assert.deepEqual([null, 0, 999, 9994, 12345, 0.25, -1500].map((each) => amount(each)),
    ["–", "0", "999", "10.0 k", "12 k", "0.3", "−1.5 k"]);
  assert.equal(bits(125_000), "1.0 Mbit/s");
  assert.deepEqual([12, 1500, 61_000, 7_260_000, 90_061_000].map(duration),
    ["12 ms", "1.5 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
});

const CS = { name: "cs-1", role: "cs", segment_id: 1, group_id: 1, connected: true, status: "in_force", problems: [] };
const WELL = { pools: 2, connections_per_second: 0, failing: 0, failing_nodes: [], unserved: 0, unserved_pools: [], busiest: [] };

test("the worst alarm comes first, and what is not named is counted", () => {
  const alarms = alarmsOf([{ ...CS, state: { group_role: "standby" } }],
    { ...WELL, failing: 102, failing_nodes: ["web/a", "web/b"], unserved: 3, unserved_pools: ["dns"] });
  assert.deepEqual(alarms.map(({ tone, text, link }) => [tone, text, link]), [
    ["bad", "No CS of group 1 is active: new flows wait.", "#/segments"],
    ["bad", "No node of the pool dns takes new sessions.", "#/pools/dns"],
    ["bad", "2 more pools have no node that takes new sessions.", "#/pools"],
    ["warning", "The node web/a fails its monitors.", "#/pools/web"],
    ["warning", "The node web/b fails its monitors.", "#/pools/web"],
    ["warning", "100 more nodes fail their monitors.", "#/pools"],
  ]);
});

test("where all is well there is no alarm", () => {
  assert.deepEqual(alarmsOf([{ ...CS, state: { group_role: "active" } }], WELL), []);
});

test("of many pools the busiest are drawn, of many nodes some, and the rest is counted", () => {
  const busiest = Array.from({ length: 6 }, (_, each) => ({ pool: `p${each}`, connections_per_second: 3, nodes: 20 }));
  const nodes = busiest.flatMap(({ pool }) => Array.from({ length: 16 }, (_, each) => ({
    pool, name: `n${each}`, state: "enabled", health: null, active: 0,
  })));
  const css = Array.from({ length: 7 }, (_, each) => ({ ...CS, name: `cs-${each}` }));
  const attention = { ...WELL, pools: 100, connections_per_second: 20, busiest };
  const { pools, control } = modelOf(css, nodes, { nodes: new Map(), buses: new Map(), totals: {}, connections: 5, attention });
  assert.deepEqual(pools.map(({ name }) => name).slice(-2), ["Pool p5", "and 94 more pools"]);
  assert.equal(pools[0].nodes.length + pools[0].hidden, 20);
  assert.deepEqual([pools[0].rate, pools[6].rate], [3, 2]);
  assert.deepEqual(control.map(({ name }) => name).slice(-2), ["cs-3", "and 3 more CSs"]);
});

test("a pool that fits is drawn whole, by the rates that the page saw", () => {
  const nodes = [{ pool: "web", name: "a", state: "enabled", health: "up", active: 2 }];
  const attention = { ...WELL, pools: 1, busiest: [{ pool: "web", connections_per_second: 9, nodes: 1 }] };
  const { pools } = modelOf([], nodes, { nodes: new Map([["web/a", 4]]), buses: new Map(), totals: {}, connections: 5, attention });
  assert.deepEqual(pools.map(({ name, rate, hidden }) => [name, rate, hidden]), [["Pool web", 4, 0]]);
});

test("a question may have several values of a name", () => {
  assert.equal(addressOf("live/nodes", { pool: ["a b", "c"], limit: 1, cursor: undefined }), "api/v1/live/nodes?pool=a+b&pool=c&limit=1");
});

for (const narrow of [false, true]) {
  test(`nothing in the ${narrow ? "narrow" : "wide"} picture lies on something else`, () => {
    const part = (name) => ({ name, detail: ["one", "two"], tone: "", link: "#" });
    const node = { name: "n", tone: "", detail: "", rate: 1 };
    const { boxes, width, height } = layout({
      clients: ["a", "b"], rate: 3, buses: [],
      dataFlow: ["d1", "d2", "d3"].map(part),
      control: ["c1", "c2", "c3", "c4"].map(part),
      pools: ["p1", "p2"].map((name) => ({ name, link: "#", rate: 1, hidden: 3, nodes: [node, node] })),
    }, narrow);
    boxes.forEach((one, index) => {
      assert.ok(one.x >= 0 && one.y >= 0 && one.x + one.width <= width && one.y + one.height <= height, one.title);
      for (const other of boxes.slice(index + 1)) {
        const beside = one.x >= other.x + other.width || other.x >= one.x + one.width;
        const below = one.y >= other.y + other.height || other.y >= one.y + one.height;
        assert.ok(beside || below, `${one.title} and ${other.title}`);
      }
    });
  });
}

const RULE = { name: "beta", match: { host: ["a", "*.b"], path_regex: "^/x", header: { "x-beta": "*" }, cookie: { A: "1", B: "*" } }, pool: "web" };

test("rules that nobody touched are what they were, and defaults are no conditions", () => {
  const given = { path: [], path_regex: null, query: {}, method: [] };
  const refusing = { name: "no", match: { ...given, path: ["/admin"] }, pool: null, refuse: true };
  assert.deepEqual(toBodies(toRules([RULE, refusing])), [RULE, { name: "no", match: { path: ["/admin"] }, refuse: true }]);
});

test("a rule's faults are said where they belong", () => {
  const [rule] = toRules([RULE]);
  const [host, regex, header, , second] = rule.conditions.map(({ id }) => String(id));
  const at = (pointer) => Object.keys(faultsOf(rule, 1, [{ pointer, detail: "x" }]))[0];
  const pointers = ["name", "match/host/1", "match/path_regex", "match/header/x-beta/[key]", "match/cookie/B", "match", ""].map((each) => `/rules/1/${each}`);
  assert.deepEqual(pointers.map(at), ["name", host, regex, header, second, "match", "rule"]);
  assert.deepEqual(faultsOf(rule, 0, [{ pointer: "/rules/1/name", detail: "x" }, { pointer: "/rules", detail: "y" }]), {});
});

test("what a document cannot say of a rule is a mistake before it is sent", () => {
  const [rule] = toRules([{ name: "a", match: { path: ["/"], header: { "X-A": "1", B: "2" } } }]);
  rule.conditions[0].text = " \n";
  rule.conditions[1].name = "b";
  rule.conditions.push(newCondition("query"));
  assert.deepEqual(mistakesOf([rule]).map(({ pointer }) => pointer), ["/rules/0/match/path", "/rules/0/match/header/B", "/rules/0/match/query/"]);
  assert.deepEqual(addable(rule), ["host", "path_prefix", "path_regex", "method", "header", "query", "cookie"]);
});

test("a rule is moved within the list and not out of it", () => {
  assert.deepEqual([moved("abc".split(""), 2, -1), moved(["a", "b"], 0, -1), moved(["a", "b"], 1, 1)].map((each) => each.join("")), ["acb", "ab", "ab"]);
});

test("what a kind does not have is not asked for, and what is chosen is one of the choices", () => {
  const fields = fieldsWith(["web"], [{ name: "mysql", kinds: ["hybrid"], hashed: "database" }, { name: "redis", kinds: ["raw", "hybrid"], hashed: "key" }],
    { edited: (value) => value ?? [], written: () => undefined });
  const of = (kind, more = {}) => fitted(fields, { ...toValues(fields, { kind, protocol: "udp" }), ...more });
  const shown = (values) => fields.filter((each) => each.shown?.(values)).map(({ at }) => at.replace("persistence/", "")).join(" ");
  assert.equal(shown(of("plain")), "forward_mode source_translation/address next_hop");
  assert.equal(shown(of("http", { "persistence/kind": "path_parameter" })), "hash parameter timeout_s group rules source_translation/address app_limit");
  assert.equal(shown(of("cookie")), "cookie source_translation/address app_limit");
  assert.deepEqual([of("raw").application, of("raw").protocol, of("cookie")["persistence/kind"]], ["redis", "tcp", "node_cookie"]);
  assert.equal(of("raw", { "persistence/kind": "cookie", hash: "url" })["persistence/kind"], "");
  const body = toBody(fields, of("cookie", { name: "a", address: "1.2.3.4", port: "80", pool: "web", "persistence/cookie": "S" }), {});
  assert.deepEqual(body, { name: "a", address: "1.2.3.4", port: 80, protocol: "tcp", kind: "cookie", pool: "web", persistence: { kind: "node_cookie", cookie: "S" } });
});

test("what is about a whole is said at the field that is empty", () => {
  const fields = [{ at: "persistence/kind", kind: "choice" }, { at: "persistence/cookie", kind: "text", needed: true }];
  const fault = [{ pointer: "/persistence", detail: "needs the cookie's name" }];
  assert.deepEqual(placed(fields, fault, { "persistence/kind": "cookie", "persistence/cookie": "" }).at, { "persistence/cookie": "needs the cookie's name" });
});
