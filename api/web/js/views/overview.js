// SPDX-License-Identifier: Apache-2.0
/** What is there, what it does now, and what an operator should look at. */

import { useEffect, useState } from "../../vendor/preact-hooks.js";
import { alarmsOf } from "../alarms.js";
import { amount, bits, counted, whole } from "../format.js";
import { useFolded, useRead } from "../hooks.js";
import { html } from "../html.js";
import { ROWS_SHOWN, modelOf } from "../model.js";
import { perSecond } from "../rates.js";
import { newestOf, overview, samples } from "../series.js";
import { useStore } from "../store.js";
import { Facts, Failure, Head, Note, Table } from "../ui/parts.js";
import { Picture } from "../ui/picture.js";
import { generation, happened, resumed, segmentsSeen } from "../watch.js";
import { columns } from "./events.js";

const NARROW = matchMedia("(max-width: 760px)");
const EVENTS_SHOWN = 6;
/** @type {import("../contract.js").Attention} */
const NOTHING = { pools: 0, connections_per_second: 0, failing: 0, failing_nodes: [], unserved: 0, unserved_pools: [], busiest: [] };

function useNarrow() {
  const [narrow, setNarrow] = useState(NARROW.matches);
  useEffect(() => {
    const look = () => setNarrow(NARROW.matches);
    NARROW.addEventListener("change", look);
    return () => NARROW.removeEventListener("change", look);
  }, []);
  return narrow;
}

export function Overview() {
  const narrow = useNarrow();
  const again = `${useStore(segmentsSeen)} ${useStore(generation)}`;
  const segments = useRead("segments", {}, { everyMs: 2000, again });
  const sums = useStore(overview);
  const pools = sums?.attention.busiest.map((/** @type {{pool: string}} */ { pool }) => pool) ?? [];
  const nodes = useRead(pools.length ? "live/nodes" : null, { pool: pools, per_pool: ROWS_SHOWN, limit: 100 }, { everyMs: 2000, again });
  const drawn = useFolded(nodes.data, (_, data) => data); // those of before, while others are asked for
  const recent = useRead("events", { limit: EVENTS_SHOWN }, { again: `${useStore(happened)[0]?.id} ${useStore(resumed)}` });
  const totals = sums?.totals ?? {};
  const all = useStore(samples);
  const rates = useFolded(nodes.data, (last, data) =>
    perSecond(last, performance.now(), data.items.map((/** @type {any} */ each) => [`${each.pool}/${each.name}`, each.total])));
  const buses = useFolded(segments.data, (last, data) => perSecond(last, performance.now(), messagesOf(data.items)));
  const known = segments.data !== null && sums !== null && (drawn !== null || !pools.length);
  const attention = sums?.attention ?? NOTHING;
  const model = modelOf(segments.data?.items ?? [], drawn?.items ?? [], {
    nodes: rates?.rates ?? new Map(), buses: buses?.rates ?? new Map(), totals, attention, connections: newestOf(all, "connections"),
  });
  const alarms = known ? alarmsOf(segments.data.items, attention) : [];
  const both = (newestOf(all, "bytes_in") ?? 0) + (newestOf(all, "bytes_out") ?? 0);
  return html`<div class="view">
    <${Head} title="Overview" />
    <${Failure} read=${segments} /><${Failure} read=${nodes} />
    <div class="view" aria-live="polite" aria-label="Alarms">
      ${alarms.map(({ tone, text, link }) => html`<${Note} key=${text} tone=${tone} actions=${html`<a href=${link}>Look</a>`}>${text}<//>`)}
      ${known && !alarms.length && html`<${Note} tone="good">All is well: every segment is linked, and every pool has a node that takes sessions.<//>`}
    </div>
    <${Facts} tiles=${true} items=${[
      ["New connections", html`${amount(newestOf(all, "connections"))}<small> /s</small>`],
      ["Throughput", bits(all.length ? both : null)],
      ["Flows", whole(totals.flows)],
      ["Virtual servers", whole(totals.virtual_servers)],
      ["Nodes", whole(totals.nodes)],
      ["Dropped", html`${amount(newestOf(all, "dropped"))}<small> /s</small>`],
    ]} />
    <section class="card" aria-label="Live picture">
      ${known ? html`<${Picture} model=${model} narrow=${narrow} summary=${`Traffic now: ${counted(countOf(segments.data.items, "dfs"), "DFS")},
        ${counted(countOf(segments.data.items, "cs"), "CS")}, ${counted(attention.pools, "pool")}`} />` : !segments.error && !nodes.error && html`<p class="empty">Loading …</p>`}
    </section>
    <section class="view" aria-label="Latest events">
      <div class="row ends"><h2>Latest events</h2><a href="#/events">All events</a></div>
      <${Table} title="Latest events" columns=${columns} rows=${recent.data?.items ?? []} of=${recent}
        keyOf=${(/** @type {any} */ row) => String(row.id)} empty="Nothing has happened yet." />
    </section>
  </div>`;
}

/** @param {any[]} segments @param {string} role */
const countOf = (segments, role) => segments.filter((each) => each.role === role).length;

/** SSMB messages of each CS, both ways. @param {any[]} segments @returns {[string, number][]} */
const messagesOf = (segments) =>
  segments.flatMap(({ name, messages }) => (typeof messages === "number" ? [[name, messages]] : []));
