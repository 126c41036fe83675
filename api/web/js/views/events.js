// SPDX-License-Identifier: Apache-2.0
/** What happened: live, and before. */

import { useEffect, useState } from "../../vendor/preact-hooks.js";
import { moment } from "../format.js";
import { useCollection, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { linkTo } from "../route.js";
import { useStore } from "../store.js";
import { Badge, Failure, Head, More, Search, Table } from "../ui/parts.js";
import { happened, resumed } from "../watch.js";

/** @typedef {import("../contract.js").Happened} Happened */

const TONES = /** @type {const} */ ({ info: "", warning: "warning", error: "bad" });

/** @param {{severity: Happened["severity"]}} props */
export const Severity = ({ severity }) => html`<${Badge} tone=${TONES[severity]}>${severity}<//>`;

/** What an event is about, as links. @param {{subject: Happened["subject"]}} props */
export function Subject({ subject }) {
  const { virtual_server: server, pool, node, segment } = subject ?? {};
  return html`${server && html`<a href=${linkTo(["virtual-servers", server])}>${server}</a> `}
    ${pool && html`<a href=${linkTo(["pools", pool])}>${node ? `${pool}/${node}` : pool}</a> `}
    ${segment && html`<a href="#/segments">${segment}</a>`}`;
}

/** @type {import("../ui/parts.js").Column<Happened>[]} */
export const columns = [
  { name: "Time", show: (row) => html`<time datetime=${new Date(row.at * 1000).toISOString()}>${moment(row.at, Date.now())}</time>` },
  { name: "Severity", show: (row) => html`<${Severity} severity=${row.severity} />` },
  { name: "Segment", show: (row) => row.segment ?? "API" },
  { name: "What", kind: "wide", heads: false, show: (row) => row.what },
  { name: "About", show: (row) => html`<${Subject} subject=${row.subject} />` },
];

export function Events() {
  const [severity, setSeverity] = useState("");
  const [text, setText] = useState("");
  const query = { severity, text: useSettled(text) };
  const list = useCollection("events", query, useStore(resumed));
  const live = useStore(happened);
  const newest = live[0]?.id;
  useEffect(() => {
    if (newest !== undefined && (severity || text)) list.refresh(); // the API knows what fits
  }, [newest]);
  const known = new Set(list.items.map(({ id }) => id));
  const added = severity || text ? [] : live.filter(({ id }) => !known.has(id));
  return html`<div class="view">
    <${Head} title="Events" lead="What happened in segments and at the API; the newest first.">
      <select class="search" aria-label="Severity" value=${severity}
        onChange=${(/** @type {any} */ event) => setSeverity(event.target.value)}>
        <option value="">all severities</option>${Object.keys(TONES).map((name) => html`<option value=${name}>${name}</option>`)}
      </select>
      <${Search} label="Find events" value=${text} onInput=${setText} />
    <//>
    <${Failure} read=${list} />
    <p class="unseen" aria-live="polite">${added[0]?.what ?? ""}</p>
    <${Table} title="Events" columns=${columns} rows=${[...added, ...list.items]} of=${list}
      keyOf=${(/** @type {Happened} */ row) => String(row.id)} empty=${severity || text ? "None fits." : "Nothing has happened yet."} />
    <${More} list=${list} />
  </div>`;
}
