// SPDX-License-Identifier: Apache-2.0
/** The audit log: who changed what, and who was refused. */

import { moment } from "../format.js";
import { useCollection } from "../hooks.js";
import { html } from "../html.js";
import { linkTo } from "../route.js";
import { useStore } from "../store.js";
import { Badge, Failure, Head, More, Table } from "../ui/parts.js";
import { generation } from "../watch.js";

/** @typedef {{id: number, at: number, who: string, address: string, what: string, status: number, generation: number | null}} Audited */

/** @type {import("../ui/parts.js").Column<Audited>[]} */
const columns = [
  { name: "Time", show: (row) => moment(row.at, Date.now()) },
  { name: "Who", show: (row) => row.who },
  { name: "From", kind: "address", show: (row) => row.address },
  { name: "What", kind: "wide", show: (row) => row.what },
  { name: "Answer", show: (row) => html`<${Badge} tone=${row.status < 400 ? "good" : "bad"}>${row.status}<//>` },
  { name: "Generation", kind: "number", show: (row) =>
    row.generation === null ? "" : html`<a href=${linkTo(["generations", String(row.generation)])}>${row.generation}</a>` },
];

export function Audit() {
  const list = useCollection("audit", {}, useStore(generation));
  return html`<div class="view">
    <${Head} title="Audit log" lead="Requests that changed something, or were refused for want of rights; the newest first." />
    <${Failure} read=${list} />
    <${Table} title="Audit log" columns=${columns} rows=${list.items} keyOf=${(/** @type {Audited} */ row) => String(row.id)}
      of=${list} />
    <${More} list=${list} />
  </div>`;
}
