// SPDX-License-Identifier: Apache-2.0
/** Plots of the traffic since the page was opened. */

import { amount, bits } from "../format.js";
import { html } from "../html.js";
import { samples } from "../series.js";
import { useStore } from "../store.js";
import { Head } from "../ui/parts.js";
import { Plot } from "../ui/plot.js";

/** @type {{title: string, lines: [string, string][], show: (value: number | null) => string}[]} */
const PLOTS = [
  { title: "New connections per second", lines: [["connections", "connections"]], show: amount },
  { title: "Throughput", lines: [["to the nodes", "bytes_in"], ["to the clients", "bytes_out"]], show: bits },
  { title: "Packets per second", lines: [["to the nodes", "packets_in"], ["to the clients", "packets_out"]], show: amount },
  { title: "Drops and refusals per second", lines: [["dropped", "dropped"], ["refused", "refused"]], show: amount },
  { title: "Flows", lines: [["flows", "flows"], ["active sessions", "active"]], show: amount },
  { title: "Messages between segments per second", lines: [["messages", "messages"]], show: amount },
];

export function Metrics() {
  const all = useStore(samples);
  const times = all.map(({ at }) => at);
  return html`<div class="view">
    <${Head} title="Metrics" lead="Since this page was opened, ten minutes at most. For longer, let Prometheus read each segment's endpoint." />
    ${all.length < 2 ? html`<p class="empty">The first values come in a few seconds.</p>` : html`<div class="plots">
      ${PLOTS.map(({ title, lines, show }) => html`<${Plot} key=${title} title=${title} times=${times} show=${show}
        lines=${lines.map(([name, key]) => ({ name, values: all.map(({ values }) => values.get(key) ?? null) }))} />`)}</div>`}
  </div>`;
}
