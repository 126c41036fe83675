// SPDX-License-Identifier: Apache-2.0
/** Virtual servers: all of them, one of them, and the form. */

import { useMemo, useState } from "../../vendor/preact-hooks.js";
import { may, part, session } from "../api.js";
import { patched, removed } from "../changes.js";
import { amount, whole } from "../format.js";
import { useCollection, useDesired, useLive, useLiveOf, useRead, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { go, linkTo } from "../route.js";
import { FIELDS, fieldsWith } from "../server_fields.js";
import { useStore } from "../store.js";
import { Badge, Facts, Failure, Head, More, Search, Table, settings } from "../ui/parts.js";
import { generation } from "../watch.js";
import { ResourceEditor } from "./resource_form.js";
import { Rules, rulesPart } from "./rules.js";

/** @typedef {import("../contract.js").VirtualServerBody} VirtualServerBody */
/** @typedef {import("../contract.js").LiveVirtualServer} LiveVirtualServer */

const AT = "virtual-servers";

/** @param {string} address @param {number | "*"} port */
const place = (address, port) => (address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`);

/** @param {VirtualServerBody} server */
const pathOf = (server) => `${AT}/${part(server.name)}`;

/** @param {VirtualServerBody} server */
function toggleMaintenance(server) {
  const begins = !server.maintenance;
  return patched(
    pathOf(server),
    { maintenance: begins },
    begins ? `${server.name} is in maintenance: it takes no new flows.` : `${server.name} takes new flows again.`,
  );
}

/** @param {{server: VirtualServerBody}} props */
const Maintenance = ({ server }) =>
  server.maintenance ? html`<${Badge} tone="warning">maintenance<//>` : html`<${Badge} tone="good">in service<//>`;

export function VirtualServers() {
  const [find, setFind] = useState("");
  const newest = useStore(generation);
  const mayChange = may(useStore(session), "operator");
  const list = useCollection(AT, { name: useSettled(find) }, newest);
  const live = useLiveOf("live/virtual-servers", list.items.map(({ name }) => name));
  /** @type {Map<string | null, LiveVirtualServer>} */
  const byName = new Map(live.map((/** @type {LiveVirtualServer} */ each) => [each.name, each]));
  /** @type {import("../ui/parts.js").Column<VirtualServerBody>[]} */
  const columns = [
    { name: "Name", heads: true, show: (row) => html`<a href=${linkTo([AT, row.name])}>${row.name}</a>` },
    { name: "Address", kind: "address", show: (row) => place(row.address, row.port) },
    { name: "Protocol", show: (row) => row.protocol },
    { name: "Kind", show: (row) => String(row.kind ?? "plain") },
    { name: "Pool", show: (row) => html`<a href=${linkTo(["pools", row.pool])}>${row.pool}</a>` },
    { name: "State", show: (row) => html`<${Maintenance} server=${row} />` },
    { name: "Active", kind: "number", show: (row) => whole(byName.get(row.name)?.active) },
    { name: "Total", kind: "number", show: (row) => amount(byName.get(row.name)?.total) },
    { name: "Refused", kind: "number", show: (row) => amount(byName.get(row.name)?.refused) },
  ];
  const actions = {
    name: "",
    show: (/** @type {VirtualServerBody} */ row) => html`<div class="row">
      <a class="button small" href=${linkTo([AT, row.name, "edit"])} aria-label=${`Edit ${row.name}`}>Edit</a>
      <button class="small" onClick=${() => toggleMaintenance(row)}
        aria-label=${`${row.maintenance ? "End" : "Begin"} maintenance of ${row.name}`}>
        ${row.maintenance ? "End maintenance" : "Maintenance"}</button></div>`,
  };
  return html`<div class="view">
    <${Head} title="Virtual servers" lead="An address and a port that clients connect to, and the pool that serves them.">
      <${Search} label="Find virtual servers" value=${find} onInput=${setFind} />
      ${mayChange && html`<a class="button primary" href=${linkTo([AT, "+new"])}>Add a virtual server</a>`}
    <//>
    <${Failure} read=${list} />
    <${Table} title="Virtual servers" columns=${mayChange ? [...columns, actions] : columns} rows=${list.items}
      keyOf=${(/** @type {VirtualServerBody} */ row) => row.name} of=${list}
      empty=${find ? "None has this in its name." : "There is none yet."} />
    <${More} list=${list} />
  </div>`;
}

/** @param {{name: string}} props */
export function VirtualServerView({ name }) {
  const read = useDesired(`${AT}/${part(name)}`);
  const live = useLive("live/virtual-servers", { name });
  const mayChange = may(useStore(session), "operator");
  /** @type {VirtualServerBody | null} */
  const server = read.data;
  /** @type {Record<string, any>} */
  const now = live.data?.items?.find((/** @type {LiveVirtualServer} */ each) => each.name === name) ?? {};
  const remove = async () => {
    if (await removed(`${AT}/${part(name)}`, `the virtual server ${name}`, "Its connections end.")) go(linkTo([AT]));
  };
  return html`<div class="view">
    <${Head} title=${`Virtual server ${name}`}>
      ${server && mayChange && html`<a class="button" href=${linkTo([AT, name, "edit"])}>Edit</a>
        <button onClick=${() => toggleMaintenance(server)}>${server.maintenance ? "End maintenance" : "Begin maintenance"}</button>
        <button class="danger" onClick=${remove}>Remove</button>`}
    <//>
    <${Failure} read=${read} />
    ${server && html`<${Facts} tiles=${true} items=${[
      ["State", html`<${Maintenance} server=${server} />`],
      ["Active", whole(now.active)],
      ["Total", amount(now.total)],
      ["Refused", amount(now.refused)],
      ["Decided ahead", amount(now.answered_ahead)],
      ["Asked about", amount(now.asked)],
    ]} />
    <section class="card" aria-label="Settings"><h2>Settings</h2><${Facts} items=${settingsOf(server)} /></section>
    ${server.kind === "http" && html`<${Rules} server=${server} live=${live.data === null ? null : now} />`}
    <p><a href=${linkTo(["flows"], { virtual_server: name })}>Flows of this virtual server</a></p>`}
  </div>`;
}

/**
 * @param {VirtualServerBody} server
 * @returns {[string, any][]}
 */
function settingsOf(server) {
  const { address, port, protocol, pool, ...others } = server;
  return [
    ["Address", html`<span class="address">${place(address, port)}</span> ${protocol}`],
    ["Pool", html`<a href=${linkTo(["pools", pool])}>${pool}</a>`],
    ...settings(others, FIELDS, ["name", "maintenance", "rules", ...(others.kind === "plain" ? ["app_limit"] : [])]),
  ];
}

/** A source translation may be written as its address alone. @param {Record<string, any>} body */
const longForm = (body) =>
  typeof body.source_translation === "string" ? { ...body, source_translation: { address: body.source_translation } } : body;

/** @param {{name?: string}} props */
export function VirtualServerForm({ name }) {
  const pools = useDesired("pools", {});
  const applications = useRead("applications");
  /** @type {string[]} */
  const names = (pools.data?.items ?? []).map((/** @type {{name: string}} */ pool) => pool.name);
  const [known, all] = [names.join(), pools.data?.next === null];
  // the same as long as they can be: another field is another editor, which has no focus
  const fields = useMemo(() => {
    const pools = all ? names : null;
    return fieldsWith(pools, applications.data?.items ?? [], rulesPart(pools));
  }, [known, all, applications.data]);
  const missing = [pools, applications].find(({ data }) => data === null);
  if (missing) return html`<${Failure} read=${missing} />`;
  const lead = name !== undefined ? "" : names.length
    ? "It takes traffic as soon as it is added."
    : html`It needs a pool first: <a href=${linkTo(["pools", "+new"])}>add a pool</a>.`;
  return html`<${ResourceEditor} collection=${AT} name=${name} noun="virtual server" lead=${lead} fields=${fields}
    prepared=${longForm} initial=${{ protocol: "tcp", pool: names[0] }} back=${(/** @type {string} */ to) => linkTo(to ? [AT, to] : [AT])} />`;
}
