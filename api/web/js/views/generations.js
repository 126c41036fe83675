// SPDX-License-Identifier: Apache-2.0
/** Generations of the desired state: all, what each changed, and the way back. */

import { useState } from "../../vendor/preact-hooks.js";
import { may, part, request, session } from "../api.js";
import { done } from "../changes.js";
import { linesOf } from "../difference.js";
import { counted, moment } from "../format.js";
import { useCollection, useRead } from "../hooks.js";
import { html } from "../html.js";
import { linkTo } from "../route.js";
import { useStore } from "../store.js";
import { confirmed, doing, explained, say } from "../ui/messages.js";
import { Badge, Facts, Failure, Head, More, Table } from "../ui/parts.js";
import { generation as newest } from "../watch.js";

/** @typedef {import("../contract.js").Generation} Generation */
/** @typedef {import("../contract.js").Changed} Changed */

const NOUNS = /** @type {Record<string, string>} */ ({
  settings: "settings", monitor: "monitor", pool: "pool", virtual_server: "virtual server",
});

/** @param {{change: Changed}} props */
function Change({ change }) {
  const word = change.before === null ? "added" : change.after === null ? "removed" : "changed";
  const tone = { added: "good", removed: "bad", changed: "warning" }[word];
  const marks = { added: "ins", removed: "del", same: "span" };
  return html`<section class="card" aria-label=${`${NOUNS[change.kind] ?? change.kind} ${change.name}`}>
    <h3>${NOUNS[change.kind] ?? change.kind} ${change.name} <${Badge} tone=${tone}>${word}<//></h3>
    <pre class="difference" tabindex="0">${linesOf(change.before, change.after).map(({ what, text }) =>
      html`<${marks[what]}>${{ added: "+ ", removed: "- ", same: "  " }[what]}${text}<//>`)}</pre>
  </section>`;
}

const CHANGES_SHOWN = 100;

/** @param {{changes: readonly Changed[], count?: number}} props *count*: with those that are not shown */
export const Changes = ({ changes, count = changes.length }) =>
  changes.length
    ? html`<div class="view">${count > changes.length && html`<p>${counted(count, "resource")} differ; the first ${changes.length} are shown. The API gives all of them.</p>`}${changes.map((change) => html`<${Change} key=${`${change.kind} ${change.name}`} change=${change} />`)}</div>`
    : html`<p class="empty">Nothing is different.</p>`;

/** Say what a roll-back would change, then do it. @param {number} number */
async function rollBack(number) {
  const path = `generations/${number}/roll-back`;
  let would;
  try {
    would = (await request("POST", path, { query: { dry_run: true, limit: CHANGES_SHOWN } })).data;
  } catch (error) {
    say(explained(error), "bad");
    return;
  }
  /** @type {Changed[]} */
  const changes = would.changes ?? [];
  if (!changes.length) {
    say(`The state is already that of generation ${number}.`);
    return;
  }
  const yes = await confirmed({
    title: `Roll back to generation ${number}?`,
    body: html`<p>This changes ${counted(would.count, "resource")}, as a new generation. Nothing is lost: you can
      roll back again.</p><${Changes} changes=${changes} count=${would.count} />`,
    yes: `Roll back to ${number}`,
  });
  if (yes)
    doing(async () => {
      const made = (await request("POST", path, { query: { limit: 1 } })).data;
      return done(`The state is that of generation ${number} again.`, String(made.number));
    });
}

export function Generations() {
  const current = useStore(newest);
  const list = useCollection("generations", {}, current);
  const mayChange = may(useStore(session), "operator");
  /** @type {import("../ui/parts.js").Column<Generation>[]} */
  const columns = [
    { name: "Generation", heads: true, show: (row) => html`<a href=${linkTo(["generations", String(row.number)])}>${row.number}</a>` },
    { name: "When", show: (row) => moment(row.at, Date.now()) },
    { name: "Who", show: (row) => row.who },
    { name: "How", kind: "wide", show: (row) => row.how },
    { name: "Resources", kind: "number", show: (row) => String(row.count ?? "") },
    { name: "Comment", kind: "wide", show: (row) => row.comment },
  ];
  const actions = {
    name: "",
    show: (/** @type {Generation} */ row) => row.number === current
      ? html`<span class="help">newest</span>`
      : html`<button class="small" onClick=${() => rollBack(row.number)} aria-label=${`Roll back to generation ${row.number}`}>Roll back</button>`,
  };
  return html`<div class="view">
    <${Head} title="Generations" lead="Each change of the desired state is one generation. A roll-back is a new one." />
    <${Failure} read=${list} />
    <${Table} title="Generations" columns=${mayChange ? [...columns, actions] : columns} rows=${list.items}
      keyOf=${(/** @type {Generation} */ row) => String(row.number)} of=${list} empty="Nothing was ever configured." />
    <${More} list=${list} />
  </div>`;
}

/** @param {{name: string}} props */
export function GenerationView({ name }) {
  const current = useStore(newest);
  const mayChange = may(useStore(session), "operator");
  const [since, setSince] = useState("");
  const read = useRead(`generations/${part(name)}`, { limit: CHANGES_SHOWN });
  const folded = useRead(since ? `generations/${part(name)}/difference` : null, { from: since, limit: CHANGES_SHOWN });
  /** @type {Generation | null} */
  const one = read.data;
  const shown = since ? folded.data : one;
  return html`<div class="view">
    <${Head} title=${`Generation ${name}`}>
      ${one && mayChange && one.number !== current &&
      html`<button class="primary" onClick=${() => rollBack(one.number)}>Roll back to this</button>`}
    <//>
    <${Failure} read=${read} />
    ${one && html`<div class="card"><${Facts} items=${[
      ["When", moment(one.at, Date.now())], ["Who", one.who], ["How", one.how], ["Comment", one.comment || "–"],
    ]} /></div>
    <div class="head"><h2>${since ? `From generation ${since} to ${name}` : "What it changed"}</h2>
      <label class="row">Compare with generation
        <input class="compare" type="text" inputmode="numeric" size="6" value=${since}
          onChange=${(/** @type {any} */ event) => setSince(event.target.value.trim())} /></label></div>
    <${Failure} read=${folded} />
    ${shown && html`<${Changes} changes=${shown.changes ?? []} count=${shown.count} />`}`}
  </div>`;
}
