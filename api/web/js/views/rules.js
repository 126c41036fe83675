// SPDX-License-Identifier: Apache-2.0
/** The rules of a virtual server: what each says, how often it decides, and what a request would match. */

import { amount } from "../format.js";
import { useFolded } from "../hooks.js";
import { html } from "../html.js";
import { perSecond } from "../rates.js";
import { linkTo } from "../route.js";
import { mistakesOf, toBodies, toRules, wordsOf } from "../rule_values.js";
import { RuleTrial } from "../ui/rule_trial.js";
import { RulesEditor } from "../ui/rules_editor.js";
import { Badge, Meter, Table } from "../ui/parts.js";

/** @typedef {import("../contract.js").VirtualServerBody} VirtualServerBody */
/** @typedef {import("../contract.js").RuleBody} RuleBody */
/** @typedef {import("../contract.js").LiveVirtualServer} LiveVirtualServer */
/**
 * @typedef {object} Row
 * @property {string} key
 * @property {string} number in the order; empty: it is no rule
 * @property {string} name
 * @property {string[]} words
 * @property {string | null} pool null: it is refused
 * @property {number | null} count
 */

/**
 * @param {VirtualServerBody} server
 * @param {Partial<LiveVirtualServer> | null} live null: not known yet
 * @returns {Row[]} the rules in their order, and what none of them takes
 */
export function rowsOf(server, live) {
  const bodies = /** @type {RuleBody[]} */ (server.rules ?? []);
  const counts = new Map((live?.rules ?? []).map(({ name, matched }) => [name, matched]));
  return [
    ...bodies.map(({ name, match, pool, refuse }, index) => ({
      key: `rule ${name}`,
      number: String(index + 1),
      name,
      words: wordsOf(match),
      pool: refuse ? null : (pool ?? server.pool),
      count: counts.get(name) ?? null,
    })),
    { key: "none", number: "", name: "no rule matches", words: [], pool: server.pool, count: live?.unmatched ?? null },
    { key: "unreadable", number: "", name: "what is no request", words: [], pool: null, count: live?.unreadable ?? null },
  ];
}

/** @param {{server: VirtualServerBody, live: Partial<LiveVirtualServer> | null}} props */
export function Rules({ server, live }) {
  const rows = rowsOf(server, live);
  const total = rows.reduce((sum, { count }) => sum + (count ?? 0), 0);
  const rates = useFolded(live, (last, /** @type {Partial<LiveVirtualServer>} */ it) =>
    perSecond(last, performance.now(), rowsOf(server, it).map(({ key, count }) => [key, count ?? 0])));
  /** @type {import("../ui/parts.js").Column<Row>[]} */
  const columns = [
    { name: "", show: (row) => row.number },
    { name: "Rule", heads: true, show: (row) => row.name },
    { name: "Conditions", kind: "wide", show: (row) => row.words.map((each) => html`<div>${each}</div>`) },
    { name: "To", show: (row) => row.pool === null ? html`<${Badge} tone="bad">refused<//>`
      : html`<a href=${linkTo(["pools", row.pool])}>${row.pool}</a>` },
    { name: "Decided", kind: "number", show: (row) => amount(row.count) },
    { name: "Share", show: (row) => html`<${Meter} share=${total ? (row.count ?? 0) / total : 0} />` },
    { name: "Now", kind: "number", show: (row) => `${amount(rates?.rates.get(row.key) ?? null)} /s` },
  ];
  return html`<section class="view" aria-label="Rules"><h2>Rules</h2>
    <p class="lead">The first one that matches the first request of a connection decides. Counts are those of the active CS.</p>
    <${Table} title="Rules" columns=${columns} rows=${rows} keyOf=${(/** @type {Row} */ row) => row.key} />
    <div class="card"><${RuleTrial} name=${server.name} /></div>
  </section>`;
}

/**
 * How rules are edited in a form.
 * @param {readonly string[] | null} pools null: their names are typed
 * @returns {import("../form_values.js").Part}
 */
export const rulesPart = (pools) => ({
  edited: (value) => toRules(value ?? []),
  written: (rules) => (rules?.length ? toBodies(rules) : undefined),
  mistakes: mistakesOf,
  draw: ({ value, faults, onChange, body }) => {
    const { name, generation, ...instead } = body();
    return html`<${RulesEditor} value=${value} faults=${faults} onChange=${onChange} choices=${pools}>
      <${RuleTrial} name=${name || "new"} instead=${instead} /><//>`;
  },
});
