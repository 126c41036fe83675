// SPDX-License-Identifier: Apache-2.0
/** Flows: found by any part of their signature, traced, reaped. */

import { useEffect, useState } from "../../vendor/preact-hooks.js";
import { may, request, session } from "../api.js";
import { amount, counted, duration } from "../format.js";
import { useRead, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { ask, linkTo, route } from "../route.js";
import { useStore } from "../store.js";
import { Dialog, confirmed, doing } from "../ui/messages.js";
import { Badge, Failure, Head, Table } from "../ui/parts.js";

/** @typedef {import("../contract.js").Flow} Flow */

const FILTERS = /** @type {const} */ ([
  ["client", "Client", "address, or address and port"],
  ["vip", "Virtual address", "address, or address and port"],
  ["node", "Node", "name, address, or address and port"],
  ["virtual_server", "Virtual server", "name"],
  ["protocol", "Protocol", "tcp or udp"],
  ["segment", "As seen by", "cs-1 or dfs-256; empty: the active CSs"],
]);
const LIMIT = 200;

export function Flows() {
  const { query } = useStore(route);
  const [filters, setFilters] = useState(() =>
    Object.fromEntries(FILTERS.map(([name]) => [name, query.get(name) ?? ""])));
  const [traced, setTraced] = useState(/** @type {Flow | null} */ (null));
  const settled = useSettled(filters);
  useEffect(() => ask(settled), [settled]);
  const read = useRead("flows", { ...settled, limit: LIMIT }, { everyMs: 3000 });
  const mayChange = may(useStore(session), "operator");
  /** @type {Flow[]} */
  const flows = read.data?.items ?? [];
  /** @type {import("../ui/parts.js").Column<Flow>[]} */
  const columns = [
    { name: "Client", kind: "address", heads: true, show: (row) => html`<span class="address">${row.client}</span>` },
    { name: "To", show: (row) => html`<span class="address">${row.vip}</span> ${row.protocol}
      ${row.virtual_server && html`<div><a href=${linkTo(["virtual-servers", row.virtual_server])}>${row.virtual_server}</a></div>`}` },
    { name: "Node", show: (row) => row.node_name ?? row.node ?? "–" },
    { name: "State", show: (row) => html`<div class="stack"><${Badge} tone=${["active", "established"].includes(row.state) ? "good" : ""}>${row.state}<//>
      <span class="help">${contentOf(row)}</span></div>` },
    { name: "Age", kind: "number", show: (row) => duration(row.opened_ms) },
    { name: "Traffic", kind: "number", show: (row) => html`<div>${amount(row.bytes_in, "B")} in</div><div>${amount(row.bytes_out, "B")} out</div>` },
    { name: "", show: (row) => html`<div class="row">
      <button class="small" onClick=${() => setTraced(row)} aria-label=${`Trace ${row.client}`}>Trace</button>
      ${mayChange && html`<button class="small danger" onClick=${() => reap(row)} aria-label=${`Reap ${row.client}`}>Reap</button>`}</div>` },
  ];
  const fieldOf = (/** @type {typeof FILTERS[number]} */ [name, label, help]) => html`<div class="field" key=${name}>
    <label for=${`flows-${name}`}>${label}</label>
    <input id=${`flows-${name}`} type="search" placeholder=${help} value=${filters[name]}
      onInput=${(/** @type {any} */ event) => setFilters((last) => ({ ...last, [name]: event.target.value }))} /></div>`;
  return html`<div class="view">
    <${Head} title="Flows" lead="The packets between a client and its node, as the active CSs see them now." />
    <form class="card" role="search" aria-label="Flows" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <div class="fields">${FILTERS.map(fieldOf)}</div></form>
    <${Failure} read=${read} />
    <p class="help" aria-live="polite">${read.data ? shownOf(read.data, flows.length) : ""}</p>
    <${Table} title="Flows" columns=${columns} rows=${flows} of=${read}
      keyOf=${(/** @type {Flow} */ row) => `${row.segment} ${row.client} ${row.vip} ${row.protocol} ${row.serial}`}
      empty="No flow fits." />
    ${traced && html`<${Trace} flow=${traced} onClose=${() => setTraced(null)} />`}
  </div>`;
}

/** @param {any} data @param {number} shown */
const shownOf = (data, shown) =>
  shown < (data.total ?? shown) || shown === LIMIT
    ? `The newest ${shown} are shown; search for others.`
    : `${counted(shown, "flow")}.`;

/** What is to be said of a flow whose client is read. @param {Flow} flow */
const contentOf = ({ kind = "plain", spliced = null }) =>
  [kind === "plain" ? null : kind, spliced === null ? null : spliced ? "spliced" : "not spliced"].filter(Boolean).join(", ");

/** @param {Flow} flow */
const named = (flow) => ({ client: flow.client, vip: flow.vip, protocol: flow.protocol });

/** @param {Flow} flow */
async function reap(flow) {
  const yes = await confirmed({
    title: "Reap this flow?",
    body: html`<p>The flow of <span class="address">${flow.client}</span> to <span class="address">${flow.vip}</span> ends
      at once; its connection breaks.</p>`,
    yes: "Reap",
    danger: true,
  });
  if (yes)
    doing(async () => {
      await request("POST", "flows/reap", { body: named(flow) });
      return `The flow of ${flow.client} is being reaped.`;
    });
}

/** @param {{flow: Flow, onClose: () => void}} props */
function Trace({ flow, onClose }) {
  const read = useRead("flows/trace", named(flow));
  /** @type {{segment: string, entries: {ago_ms: number, what: string}[]}[]} */
  const answers = read.data?.items ?? [];
  return html`<${Dialog} title=${`Trace of ${flow.client}`} onClose=${onClose}>
    <p class="lead">To ${flow.vip} (${flow.protocol}). What each segment did with it, and why.</p>
    <${Failure} read=${read} />
    ${read.data !== null && !answers.some(({ entries }) => entries.length) && html`<p class="empty">No segment remembers it.</p>`}
    ${answers.map(({ segment, entries }) => html`<section key=${segment}><h3>${segment}</h3>
      <div class="table" tabindex="0" role="region" aria-label=${`Trace of ${segment}`}><table><tbody>${entries.map(
        ({ ago_ms, what }) => html`<tr><td class="number">${duration(ago_ms)} ago</td><td class="wide">${what}</td></tr>`,
      )}</tbody></table></div></section>`)}
    <div class="row"><button onClick=${onClose}>Close</button></div>
  <//>`;
}
