// SPDX-License-Identifier: Apache-2.0
/** Values over time, as lines. */

import { useState } from "../../vendor/preact-hooks.js";
import { html } from "../html.js";

/** @typedef {{name: string, values: (number | null)[]}} Line */

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [460, 190, 76, 10, 8, 22];

/** A round number that is not less. @param {number} value */
export function roundedUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 2.5, 5, 10].find((step) => step * power >= value * 0.999) ?? 10) * power;
}

/**
 * @param {{title: string, times: number[], lines: Line[], show: (value: number | null) => string}} props *times* in ms
 */
export function Plot({ title, times, lines, show }) {
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const most = roundedUp(Math.max(0, ...lines.flatMap(({ values }) => values.map((value) => value ?? 0))));
  const [first, last] = [times[0] ?? 0, times.at(-1) ?? 1];
  const x = (/** @type {number} */ time) => LEFT + ((time - first) / Math.max(1, last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (/** @type {number} */ value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
  const index = at === null ? times.length - 1 : at;
  /** @param {any} event */
  const point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const time = first + (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (last - first);
    setAt(nearest(times, time));
  };
  return html`<figure class="card plot">
    <figcaption><h2>${title}</h2></figcaption>
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${`${title}: ${lines.map(({ name, values }) => `${name} ${show(values.at(-1) ?? null)}`).join(", ")}`}
      onPointerMove=${point} onPointerLeave=${() => setAt(null)}>
      ${[0, 0.5, 1].map((part) => html`<line class="grid" x1=${LEFT} x2=${WIDTH - RIGHT} y1=${y(most * part)} y2=${y(most * part)} />
        <text x=${LEFT - 8} y=${y(most * part) + 4} text-anchor="end">${show(most * part)}</text>`)}
      <text x=${LEFT} y=${HEIGHT - 6}>${Math.round((last - first) / 1000)} s ago</text>
      <text x=${WIDTH - RIGHT} y=${HEIGHT - 6} text-anchor="end">now</text>
      ${lines.map(({ values }, number) => html`<path class=${`series-${(number % 4) + 1}`} d=${drawn(times, values, x, y)} />`)}
      ${at !== null && times[at] !== undefined && html`<line class="cursor" x1=${x(times[at])} x2=${x(times[at])} y1=${TOP} y2=${HEIGHT - BOTTOM} />`}
    </svg>
    <div class="legend">${lines.map(({ name, values }, number) => html`<span><svg viewBox="0 0 26 8" aria-hidden="true">
      <line class=${`series-${(number % 4) + 1}`} x1="0" x2="26" y1="4" y2="4" /></svg>${name} <b class="number">${show(values[index] ?? null)}</b></span>`)}</div>
  </figure>`;
}

/** @param {number[]} times @param {number} time */
function nearest(times, time) {
  let best = 0;
  times.forEach((each, index) => {
    if (Math.abs(each - time) < Math.abs((times[best] ?? 0) - time)) best = index;
  });
  return best;
}

/**
 * @param {number[]} times
 * @param {(number | null)[]} values null: not known, a gap
 * @param {(time: number) => number} x
 * @param {(value: number) => number} y
 */
function drawn(times, values, x, y) {
  let path = "";
  let gap = true;
  values.forEach((value, index) => {
    if (value !== null) path += `${gap ? "M" : "L"}${x(times[index] ?? 0).toFixed(1)} ${y(value).toFixed(1)}`;
    gap = value === null;
  });
  return path;
}
