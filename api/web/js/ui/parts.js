// SPDX-License-Identifier: Apache-2.0
/** Small parts that every view has. */

import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { html } from "../html.js";

/** @typedef {import("../html.js").Children} Children */
/** @typedef {"good" | "warning" | "bad" | ""} Tone */

/**
 * A state in one word; its form differs too, not only its colour.
 * @param {{tone?: Tone, children?: Children}} props
 */
export const Badge = ({ tone = "", children }) =>
  html`<span class=${`badge ${tone}`}>${children}</span>`;

/**
 * @param {{tone: Tone, role?: string, children?: Children, actions?: Children}} props
 */
export const Note = ({ tone, role, children, actions }) =>
  html`<div class=${`note ${tone}`} role=${role} tabindex=${role === "alert" ? -1 : null}><span>${children}</span>${actions}</div>`;

let isFirst = true;

/**
 * The beginning of a view.  But for the first one, its heading gets the focus, so that a screen reader
 * says where one is.
 * @param {{title: string, lead?: Children, children?: Children}} props
 */
export function Head({ title, lead, children }) {
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    document.title = `${title} – splitplane`;
    if (!isFirst) heading.current?.focus();
    isFirst = false;
  }, [title]);
  return html`<div>
    <div class="head"><h1 ref=${heading} tabindex="-1">${title}</h1>${children}</div>
    ${lead && html`<p class="lead">${lead}</p>`}
  </div>`;
}

/**
 * Why something could not be read, with a way to try again.
 * @param {{read: {error: import("../api.js").Problem | null, refresh: () => void}}} props
 */
export function Failure({ read }) {
  if (read.error === null || read.error.status === 0) return null; // the banner says that it is away
  const actions = html`<button class="small" onClick=${read.refresh}>Try again</button>`;
  return html`<${Note} tone="bad" role="alert" actions=${actions}>${read.error.detail}<//>`;
}

/**
 * @template T
 * @typedef {object} Column
 * @property {string} name
 * @property {(row: T) => Children} show
 * @property {"number" | "wide" | "address"} [kind]
 * @property {boolean} [heads] its cells name their rows
 */

/**
 * @template T
 * @param {{
 *   title: string, columns: Column<T>[], rows: readonly T[], keyOf: (row: T) => string,
 *   empty?: Children, of?: {data: unknown, error: unknown},
 * }} props *of*: what the rows come from
 */
export function Table({ title, columns, rows, keyOf, empty = "There is none.", of }) {
  if (!rows.length && of?.data === null) return of.error ? null : html`<p class="empty">Loading …</p>`;
  if (!rows.length) return html`<p class="empty">${empty}</p>`;
  return html`<div class="table cards" role="region" aria-label=${title} tabindex="0">
    <table>
      <caption class="unseen">${title}</caption>
      <thead><tr>
        ${columns.map(({ name, kind }) => html`<th scope="col" class=${kind ?? ""}>${name}</th>`)}
      </tr></thead>
      <tbody>
        ${rows.map((row) => html`<tr key=${keyOf(row)}>
          ${columns.map(({ name, show, kind = "", heads }) =>
            heads
              ? html`<th scope="row" class=${kind}>${show(row)}</th>`
              : html`<td class=${kind} data-name=${name || null}><div>${show(row)}</div></td>`,
          )}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}

/**
 * How much of the whole, beside its number.
 * @param {{share: number}} props
 */
export const Meter = ({ share }) =>
  html`<svg class="meter" viewBox="0 0 70 8" aria-hidden="true" preserveAspectRatio="none">
      <rect width="70" height="8" rx="2" />
      <rect width=${Math.max(0, Math.min(1, share)) * 70} height="8" rx="2" />
    </svg>${Math.round(share * 100)} %`;

/**
 * A name and its value, several of them.
 * @param {{items: [string, Children][], tiles?: boolean}} props
 */
export const Facts = ({ items, tiles = false }) =>
  html`<dl class=${tiles ? "tiles" : "facts"}>
    ${items.map(([name, value]) => html`<div class=${tiles ? "tile" : ""}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;

/**
 * What a resource says of itself, for `Facts`, beside what is shown elsewhere.
 * @param {Record<string, unknown>} body
 * @param {readonly import("../form_values.js").Field[]} fields that know the words
 * @param {string[]} elsewhere
 * @returns {[string, Children][]}
 */
export function settings(body, fields, elsewhere) {
  const labelOf = (/** @type {string} */ name) =>
    fields.find(({ at }) => at === name)?.label ?? `${name.charAt(0).toUpperCase()}${name.slice(1).replaceAll("_", " ")}`;
  return Object.entries(body)
    .filter(([name, value]) => value !== null && name !== "generation" && !elsewhere.includes(name))
    .map(([name, value]) => [labelOf(name), valueOf(value)]);
}

/** @param {unknown} value @returns {Children} */
function valueOf(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "object" ? html`<code>${JSON.stringify(value)}</code>` : String(value);
}

/**
 * @param {{label: string, value: string, onInput: (text: string) => void}} props
 */
export const Search = ({ label, value, onInput }) =>
  html`<input class="search" type="search" aria-label=${label} placeholder=${label} value=${value}
    onInput=${(/** @type {any} */ event) => onInput(event.target.value)} />`;

/**
 * What follows a collection's page.
 * @param {{list: {items: unknown[], total: number, next: string | null, loadMore: () => Promise<void>}}} props
 */
export function More({ list }) {
  if (list.next === null) return null;
  return html`<div class="row"><button onClick=${list.loadMore}>Show more</button>
    <span class="help">${list.items.length} of ${list.total} are shown.</span></div>`;
}
