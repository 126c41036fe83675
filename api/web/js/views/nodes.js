// SPDX-License-Identifier: Apache-2.0
/** The nodes of one pool: what they do, and what an operator does with them. */

import { useState } from "../../vendor/preact-hooks.js";
import { part, request } from "../api.js";
import { done, patched, removed, saved } from "../changes.js";
import { amount, bits, duration, whole } from "../format.js";
import { useFolded } from "../hooks.js";
import { html } from "../html.js";
import { perSecond } from "../rates.js";
import { Dialog, confirmed, explained, say } from "../ui/messages.js";
import { ResourceForm } from "../ui/form.js";
import { Badge, Meter, Table } from "../ui/parts.js";

/** @typedef {import("../contract.js").NodeBody} NodeBody */
/** @typedef {import("../contract.js").LiveNode} LiveNode */
/** @typedef {import("../contract.js").PoolBody} PoolBody */
/** @typedef {{body: Record<string, any>, etag: string | null}} Edited *etag* null: a new one */
/** @typedef {{name: string, desired: NodeBody | undefined, live: LiveNode | undefined, share: number, octets: number | null}} Row */

const WEIGHT_MAX = 1000;

/** @type {import("../form_values.js").Field[]} */
const fields = [
  { at: "name", label: "Name", kind: "text", needed: true, fixed: true },
  { at: "address", label: "Address", kind: "text", needed: true },
  { at: "port", label: "Port", kind: "whole", help: "Empty: the port that the client sends to" },
  { at: "weight", label: "Weight", kind: "whole", usual: 1, help: `0 to ${WEIGHT_MAX}; 0: no new sessions` },
  { at: "connection_limit", label: "Connection limit", kind: "whole", usual: 0, help: "0: none" },
  { at: "priority", label: "Priority", kind: "whole", usual: 0, help: "The highest ones are preferred" },
  { at: "state", label: "State", kind: "choice", usual: "enabled", choices: ["enabled", "draining", "down"] },
];

/**
 * The nodes that are configured, then those that are gone and still have sessions.
 * @param {PoolBody} pool
 * @param {LiveNode[]} live
 * @param {Map<string, number>} octets per second, by name
 * @returns {Row[]}
 */
function rowsOf(pool, live, octets) {
  const byName = new Map(live.filter((each) => each.pool === pool.name).map((each) => [each.name, each]));
  const total = [...byName.values()].reduce((sum, { active }) => sum + active, 0);
  const names = [...(pool.nodes ?? []).map(({ name }) => name), ...byName.keys()];
  return [...new Set(names)].map((name) => ({
    name,
    desired: pool.nodes?.find((each) => each.name === name),
    live: byName.get(name),
    share: total ? (byName.get(name)?.active ?? 0) / total : 0,
    octets: octets.get(name) ?? null,
  }));
}

/** @param {Row} row */
function placeOf({ desired, live }) {
  const { address = "", port = 0 } = desired ?? live ?? {};
  if (!port) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** @param {{state: string | undefined}} props */
function State({ state = "enabled" }) {
  const tone = { enabled: "good", draining: "warning", down: "bad" }[state] ?? "";
  return html`<${Badge} tone=${tone}>${state}<//>`;
}

/** @param {{live: LiveNode | undefined}} props */
export function Health({ live }) {
  const ejected = typeof live?.ejected_for_ms === "number";
  const reserve = html`${live?.in_reserve && html`<${Badge}>in reserve<//>`}
    ${ejected && html`<${Badge} tone="bad">ejected for ${duration(live?.ejected_for_ms)}<//>
      <span class="help reason">${live?.ejection_reason}</span>`}`;
  if (!live?.health) return html`<span class="help">not checked</span>${reserve}`;
  const tone = live.health === "up" ? "good" : live.health === "down" ? "bad" : "warning";
  return html`<${Badge} tone=${tone}>${live.health}<//>${reserve}
    ${live.health_reason && html`<span class="help reason">${live.health_reason}</span>`}`;
}

/**
 * @param {{pool: PoolBody, live: LiveNode[], mayChange: boolean}} props
 */
export function Nodes({ pool, live, mayChange }) {
  const [edited, setEdited] = useState(/** @type {Edited | null} */ (null));
  const rates = useFolded(live.length ? live : null, (last, /** @type {LiveNode[]} */ nodes) =>
    perSecond(last, performance.now(), nodes.map((node) => [node.name, node.bytes_in + node.bytes_out])));
  const path = `pools/${part(pool.name)}/nodes`;
  /** @param {string} name */
  const edit = (name) =>
    request("GET", `${path}/${part(name)}`).then(
      ({ data, etag }) => setEdited({ body: data, etag: etag ?? "*" }),
      (problem) => say(explained(problem), "bad"),
    );
  /** @type {import("../ui/parts.js").Column<Row>[]} */
  const columns = [
    { name: "Node", heads: true, show: (row) => html`${row.name}<div class="address help">${placeOf(row)}</div>` },
    { name: "State", show: (row) => html`<div class="stack"><${State} state=${row.desired?.state ?? (row.desired ? "enabled" : row.live?.state)} />
      <${Health} live=${row.live} /></div>` },
    { name: "Weight", show: (row) => row.desired && mayChange
      ? html`<${Weight} key=${row.desired.weight} node=${row.desired} path=${path} pool=${pool.name} />`
      : String(row.desired?.weight ?? row.live?.weight ?? "") },
    { name: "Active", kind: "number", show: (row) => whole(row.live?.active) },
    { name: "Share", show: (row) => html`<${Meter} share=${row.share} />` },
    { name: "Traffic", kind: "number", show: (row) => html`<div>${amount(row.live?.connections_per_second)} new/s</div>
      <div>${bits(row.octets)}</div>` },
  ];
  if (live.some((node) => node.pool === pool.name && node.response_ms !== null))
    columns.push({ name: "Response", kind: "number", show: (row) => duration(row.live?.response_ms) });
  const actions = {
    name: "",
    show: (/** @type {Row} */ { desired }) =>
      desired && html`<${Actions} node=${desired} path=${path} pool=${pool.name} onEdit=${() => edit(desired.name)} />`,
  };
  return html`<section class="view" aria-label="Nodes">
    <div class="row ends"><h2>Nodes</h2>
      ${mayChange && html`<button class="primary" onClick=${() => setEdited({ body: {}, etag: null })}>Add a node</button>`}</div>
    <${Table} title="Nodes" columns=${mayChange ? [...columns, actions] : columns}
      rows=${rowsOf(pool, live, rates?.rates ?? new Map())} keyOf=${(/** @type {Row} */ row) => row.name}
      empty="This pool has no node, so that its virtual servers serve nobody." />
    ${edited && html`<${NodeForm} edited=${edited} pool=${pool} path=${path} onClose=${() => setEdited(null)} />`}
  </section>`;
}

/**
 * @param {{node: NodeBody, path: string, pool: string}} props
 */
function Weight({ node, path, pool }) {
  const [weight, setWeight] = useState(String(node.weight ?? 1));
  const most = Math.max(10, Number(node.weight ?? 1) > 100 ? WEIGHT_MAX : Number(node.weight ?? 1) > 10 ? 100 : 10);
  const commit = () => {
    if (Number(weight) === (node.weight ?? 1) || weight === "") return;
    patched(`${path}/${part(node.name)}`, { weight: Number(weight) }, `${pool}/${node.name} has the weight ${weight}.`);
  };
  const typed = (/** @type {any} */ event) => setWeight(event.target.value);
  const label = `Weight of ${node.name}`;
  return html`<span class="weight">
    <input type="range" min="0" max=${most} value=${weight} aria-label=${`${label}, slider`} onInput=${typed} onChange=${commit} />
    <input type="number" min="0" max=${WEIGHT_MAX} value=${weight} aria-label=${label} onInput=${typed} onChange=${commit} /></span>`;
}

/**
 * @param {{node: NodeBody, path: string, pool: string, onEdit: () => void}} props
 */
function Actions({ node, path, pool, onEdit }) {
  const state = node.state ?? "enabled";
  const own = `${path}/${part(node.name)}`;
  const called = `${pool}/${node.name}`;
  const drain = () => patched(own, { state: "draining" }, `${called} is draining: it keeps its sessions and gets no new ones.`);
  const enable = () => patched(own, { state: "enabled" }, `${called} is enabled.`);
  const down = async () => {
    const yes = await confirmed({
      title: `Force ${called} down?`,
      body: html`<p>Its sessions end at once. Draining lets them finish.</p>`,
      yes: "Force down",
      danger: true,
    });
    if (yes) patched(own, { state: "down" }, `${called} is down.`);
  };
  return html`<div class="row">
    ${state !== "enabled" && html`<button class="small" onClick=${enable} aria-label=${`Enable ${node.name}`}>Enable</button>`}
    ${state !== "draining" && html`<button class="small" onClick=${drain} aria-label=${`Drain ${node.name}`}>Drain</button>`}
    ${state !== "down" && html`<button class="small danger" onClick=${down} aria-label=${`Force ${node.name} down`}>Force down</button>`}
    <button class="small" onClick=${onEdit} aria-label=${`Edit ${node.name}`}>Edit</button>
  </div>`;
}

/**
 * @param {{edited: Edited, pool: PoolBody, path: string, onClose: () => void}} props
 */
function NodeForm({ edited, pool, path, onClose }) {
  const isNew = edited.etag === null;
  const called = `${pool.name}/${edited.body.name}`;
  /** @param {Record<string, any>} body */
  const save = async (body) => {
    const made = await saved(path, body, edited.etag);
    say(done(isNew ? `Added the node ${pool.name}/${body.name}.` : `Saved the node ${called}.`, made));
    onClose();
  };
  const remove = () => {
    onClose();
    removed(`${path}/${part(edited.body.name)}`, `the node ${called}`, "Drain it first if its sessions are to finish.");
  };
  return html`<${Dialog} title=${isNew ? `Add a node to ${pool.name}` : `Edit ${called}`} onClose=${onClose}>
    <${ResourceForm} fields=${fields} body=${edited.body} isNew=${isNew} save=${isNew ? "Add the node" : "Save"}
      onSave=${save} onCancel=${onClose}>
      ${!isNew && html`<button type="button" class="danger" onClick=${remove}>Remove the node</button>`}<//><//>`;
}
