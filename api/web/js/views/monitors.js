// SPDX-License-Identifier: Apache-2.0
/** Health monitors. */

import { useState } from "../../vendor/preact-hooks.js";
import { may, part, session } from "../api.js";
import { removed } from "../changes.js";
import { duration } from "../format.js";
import { GROUP } from "../form_values.js";
import { useCollection, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { linkTo } from "../route.js";
import { useStore } from "../store.js";
import { Failure, Head, More, Search, Table } from "../ui/parts.js";
import { generation } from "../watch.js";
import { ResourceEditor } from "./resource_form.js";

/** @typedef {import("../contract.js").MonitorBody} MonitorBody */
/** @typedef {import("../form_values.js").Values} Values */

const AT = "monitors";
const KINDS = ["tcp", "http", "https", "icmp", "udp", "script", "agent", "certificate"];

/** @param {...string} kinds */
const only = (...kinds) => (/** @type {Values} */ values) => kinds.includes(values.kind);

/** @param {Values} values */
const isDamped = (values) => values["damping/downs"] !== "";

/** @type {import("../form_values.js").Field[]} */
const fields = [
  { at: "name", label: "Name", kind: "text", needed: true, fixed: true, help: "Letters, digits and . _ : -" },
  { at: "kind", label: "Kind", kind: "choice", choices: KINDS, needed: true },
  { at: "interval_ms", label: "Interval (ms)", kind: "whole", usual: 2000 },
  { at: "timeout_ms", label: "Timeout (ms)", kind: "whole", usual: 1000 },
  { at: "rise", label: "Rise", kind: "whole", usual: 2, help: "Probes to pass, to be up" },
  { at: "fall", label: "Fall", kind: "whole", usual: 3, help: "Probes to fail, to be down" },
  { at: "port", label: "Port", kind: "whole", help: "Empty: the node's", shown: (values) => values.kind !== "icmp" },
  { at: "http/path", label: "Path", kind: "text", usual: "/", shown: only("http", "https") },
  { at: "http/host", label: "Host", kind: "text", help: "Empty: the node's address and port", shown: only("http", "https") },
  { at: "http/expect_status", label: "Expected status", kind: "lines", usual: ["200-399"], help: "One or a range a line", shown: only("http", "https") },
  { at: "http/expect_body", label: "Expected in the body", kind: "text", help: "A regular expression", shown: only("http", "https") },
  { at: "tls/server_name", label: "TLS server name", kind: "text", shown: only("https", "certificate") },
  { at: "tls/verify", label: "Verify the certificate", kind: "check", usual: false, shown: only("https", "certificate") },
  { at: "udp/send", label: "Datagram", kind: "text", shown: only("udp") },
  { at: "udp/expect", label: "Expected reply", kind: "text", help: "A regular expression; empty: any", shown: only("udp") },
  { at: "script/name", label: "Program", kind: "text", help: "In the CS's folder of scripts", shown: only("script") },
  { at: "script/arguments", label: "Arguments", kind: "lines", help: "One a line", shown: only("script") },
  { at: "certificate/warn_days", label: "Warn before (days)", kind: "whole", usual: 14, shown: only("certificate") },
  { at: "certificate/down_days", label: "Down before (days)", kind: "whole", help: "Empty: never", shown: only("certificate") },
  GROUP,
  { at: "fast_interval_ms", label: "Interval while it changes (ms)", kind: "whole", more: true, help: "Empty: the same" },
  { at: "damping/downs", label: "Held down after (times)", kind: "whole", more: true, help: "Empty: never" },
  { at: "damping/window_s", label: "within (s)", kind: "whole", usual: 60, more: true, shown: isDamped },
  { at: "damping/hold_s", label: "held for (s)", kind: "whole", usual: 60, more: true, shown: isDamped },
];

export function Monitors() {
  const [find, setFind] = useState("");
  const list = useCollection(AT, { name: useSettled(find) }, useStore(generation));
  const mayChange = may(useStore(session), "operator");
  /** @type {import("../ui/parts.js").Column<MonitorBody>[]} */
  const columns = [
    { name: "Name", heads: true, show: (row) =>
      mayChange ? html`<a href=${linkTo([AT, row.name])}>${row.name}</a>` : row.name },
    { name: "Kind", show: (row) => row.kind },
    { name: "Interval", kind: "number", show: (row) => duration(Number(row.interval_ms ?? 2000)) },
    { name: "Rise", kind: "number", show: (row) => String(row.rise ?? 2) },
    { name: "Fall", kind: "number", show: (row) => String(row.fall ?? 3) },
  ];
  const actions = {
    name: "",
    show: (/** @type {MonitorBody} */ row) => html`<button class="small danger" aria-label=${`Remove ${row.name}`}
      onClick=${() => removed(`${AT}/${part(row.name)}`, `the monitor ${row.name}`)}>Remove</button>`,
  };
  return html`<div class="view">
    <${Head} title="Monitors" lead="How nodes are found to be up or down. A pool names the monitors that its nodes must pass.">
      <${Search} label="Find monitors" value=${find} onInput=${setFind} />
      ${mayChange && html`<a class="button primary" href=${linkTo([AT, "+new"])}>Add a monitor</a>`}
    <//>
    <${Failure} read=${list} />
    <${Table} title="Monitors" columns=${mayChange ? [...columns, actions] : columns} rows=${list.items}
      keyOf=${(/** @type {MonitorBody} */ row) => row.name} of=${list}
      empty=${find ? "None has this in its name." : "There is none yet: nodes are taken for up."} />
    <${More} list=${list} />
  </div>`;
}

/** @param {{name?: string}} props */
export function MonitorView({ name }) {
  return html`<${ResourceEditor} collection=${AT} name=${name} noun="monitor" fields=${fields}
    initial=${{ kind: "tcp" }} back=${() => linkTo([AT])} />`;
}
