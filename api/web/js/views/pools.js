// SPDX-License-Identifier: Apache-2.0
/** Pools and their nodes. */

import { useState } from "../../vendor/preact-hooks.js";
import { may, part, session } from "../api.js";
import { removed } from "../changes.js";
import { GROUP } from "../form_values.js";
import { useCollection, useDesired, useLive, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { go, linkTo } from "../route.js";
import { useStore } from "../store.js";
import { Badge, Facts, Failure, Head, More, Search, Table, settings } from "../ui/parts.js";
import { generation } from "../watch.js";
import { Nodes } from "./nodes.js";
import { ResourceEditor } from "./resource_form.js";

/** @typedef {import("../contract.js").PoolBody} PoolBody */

const AT = "pools";
const METHODS = [
  "round_robin", "weighted_round_robin", "least_connections", "weighted_least_connections",
  "fastest_response", "least_recently_active", "source_hash", "maglev",
];

/** @param {PoolBody} pool */
const enabledOf = (pool) => (pool.nodes ?? []).filter(({ state }) => (state ?? "enabled") === "enabled").length;

export function Pools() {
  const [find, setFind] = useState("");
  const list = useCollection(AT, { name: useSettled(find) }, useStore(generation));
  const mayChange = may(useStore(session), "operator");
  /** @type {import("../ui/parts.js").Column<PoolBody>[]} */
  const columns = [
    { name: "Name", heads: true, show: (row) => html`<a href=${linkTo([AT, row.name])}>${row.name}</a>` },
    { name: "Method", show: (row) => row.method ?? "round_robin" },
    { name: "Nodes", kind: "number", show: (row) => row.nodes?.length ?? 0 },
    { name: "Enabled", show: (row) => {
      const [enabled, all] = [enabledOf(row), row.nodes?.length ?? 0];
      const tone = enabled === 0 ? "bad" : enabled < all ? "warning" : "good";
      return html`<${Badge} tone=${tone}>${enabled} of ${all}<//>`;
    } },
    { name: "Monitors", show: (row) => (row.monitors ?? []).join(", ") || "none" },
  ];
  return html`<div class="view">
    <${Head} title="Pools and nodes" lead="The nodes that a virtual server chooses from, and how it chooses.">
      <${Search} label="Find pools" value=${find} onInput=${setFind} />
      ${mayChange && html`<a class="button primary" href=${linkTo([AT, "+new"])}>Add a pool</a>`}
    <//>
    <${Failure} read=${list} />
    <${Table} title="Pools" columns=${columns} rows=${list.items} keyOf=${(/** @type {PoolBody} */ row) => row.name}
      of=${list} empty=${find ? "None has this in its name." : "There is none yet."} />
    <${More} list=${list} />
  </div>`;
}

/** @param {{name: string}} props */
export function PoolView({ name }) {
  const read = useDesired(`${AT}/${part(name)}`);
  const live = useLive("live/nodes", { pool: name, limit: 1000 }, 1500);
  const mayChange = may(useStore(session), "operator");
  /** @type {PoolBody | null} */
  const pool = read.data;
  const remove = async () => {
    if (await removed(`${AT}/${part(name)}`, `the pool ${name}`)) go(linkTo([AT]));
  };
  return html`<div class="view">
    <${Head} title=${`Pool ${name}`}>
      ${pool && mayChange && html`<a class="button" href=${linkTo([AT, name, "edit"])}>Edit</a>
        <button class="danger" onClick=${remove}>Remove</button>`}
    <//>
    <${Failure} read=${read} />
    ${pool && html`<div class="card"><${Facts} items=${factsOf(pool)} /></div>
      <${Nodes} pool=${pool} live=${live.data?.items ?? []} mayChange=${mayChange} />`}
  </div>`;
}

/**
 * @param {PoolBody} pool
 * @returns {[string, any][]}
 */
function factsOf(pool) {
  const monitors = pool.monitors ?? [];
  return [
    ["Method", pool.method ?? "round_robin"],
    ["Monitors", monitors.length
      ? monitors.map((each) => html`<a href=${linkTo(["monitors", each])}>${each}</a> `)
      : "none: a node's health is not checked"],
    ...settings(pool, fields, ["name", "method", "monitors", "nodes"]),
  ];
}

/** @type {import("../form_values.js").Field[]} */
const fields = [
  { at: "name", label: "Name", kind: "text", needed: true, fixed: true, help: "Letters, digits and . _ : -" },
  { at: "method", label: "Balancing method", kind: "choice", usual: "round_robin", choices: METHODS },
  { at: "monitors", label: "Monitors", kind: "names", help: "A node must pass all of them." },
  { at: "minimum_active", label: "Least nodes of a priority", kind: "whole", usual: 1, more: true,
    help: "With fewer that take sessions, the next priority serves too" },
  { at: "slow_start_s", label: "Slow start (s)", kind: "whole", usual: 0, more: true,
    help: "Over which the share of a node that came back rises; 0: at once" },
  { at: "reset_when_dead", label: "Reset when dead", kind: "check", usual: false, more: true,
    help: "Connections of a node that a monitor finds down are reset." },
  { at: "reset_when_down", label: "Reset when down", kind: "check", usual: false, more: true,
    help: "Connections of a node that is set down are reset." },
  { at: "reached_directly", label: "Reached directly", kind: "check", usual: false, more: true,
    help: "Clients also talk to the nodes themselves." },
  { at: "outliers/failures", label: "Eject a node after (failures)", kind: "whole", more: true,
    help: "Connections that it refuses or does not answer; empty: never" },
  ...[
    { at: "window_s", label: "Failures count for (s)", help: "Empty: until a connection opens" },
    { at: "response_ms", label: "Eject above (ms)", help: "Of response; needs fastest_response" },
    { at: "ejection_s", label: "Ejected for (s)", help: "The first time; then twice as long each time", usual: 30 },
    { at: "max_ejection_s", label: "at most (s)", usual: 300 },
    { at: "max_ejected_percent", label: "Ejected at once (%)", help: "Of the pool's nodes, at most", usual: 50 },
  ].map((field) => /** @type {import("../form_values.js").Field} */ ({ ...field, at: `outliers/${field.at}`, kind: "whole",
    more: true, shown: (values) => values["outliers/failures"] !== "" })),
  GROUP,
];

/** @param {{name?: string}} props */
export function PoolForm({ name }) {
  const monitors = useDesired("monitors", { limit: 1000 });
  if (monitors.data === null && monitors.error === null) return null;
  const names = (monitors.data?.items ?? []).map((/** @type {{name: string}} */ each) => each.name);
  const withMonitors = fields.map((field) => (field.at === "monitors" ? { ...field, choices: names } : field));
  return html`<${ResourceEditor} collection=${AT} name=${name} noun="pool" lead="Nodes are added to it afterwards."
    fields=${withMonitors} initial=${{}} back=${(/** @type {string} */ to) => linkTo(to ? [AT, to] : [AT])} />`;
}
