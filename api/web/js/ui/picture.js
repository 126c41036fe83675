// SPDX-License-Identifier: Apache-2.0
/** Draws the overview's picture. */

import { html } from "../html.js";
import { layout } from "../picture.js";

/** @typedef {import("../picture.js").Model} Model */

/** @param {number} rate */
const thickness = (rate) => Math.min(7, 1.5 + Math.log10(1 + Math.max(0, rate)) * 1.6);

/** What stands before a node's name; the form differs too, not only the colour. @param {{tone: string, x: number, y: number}} props */
function Mark({ tone, x, y }) {
  if (tone === "bad") return html`<rect class="mark bad" x=${x - 5} y=${y - 5} width="10" height="10" />`;
  if (tone === "warning") return html`<path class="mark warning" d=${`M${x} ${y - 6}l6 11h-12z`} />`;
  return html`<circle class=${`mark ${tone}`} cx=${x} cy=${y} r="5" />`;
}

/**
 * @param {{model: Model, narrow: boolean, summary: string}} props *summary*: the same in words
 */
export function Picture({ model, narrow, summary }) {
  const { width, height, boxes, rows, edges } = layout(model, narrow);
  return html`<svg class="picture" viewBox=${`0 0 ${width} ${height}`} role="group" aria-label=${summary}>
    ${edges.map(({ path, rate, control }, index) => html`<path key=${`edge ${index}`} d=${path} stroke-width=${thickness(rate)}
      class=${`edge ${control ? "control" : ""} ${rate > 0.05 ? "moving" : "idle"}`} />`)}
    ${boxes.map((box) => html`<a key=${box.title} href=${box.link} aria-label=${[box.title, ...box.detail].join(", ")}>
      <rect class=${`box ${box.tone}`} x=${box.x} y=${box.y} width=${box.width} height=${box.height} rx="9" />
      <text class="title" x=${box.x + 12} y=${box.y + 22}>${box.title}</text>
      ${box.detail.map((line, index) => html`<text class="detail" x=${box.x + 12} y=${box.y + 41 + 18 * index}>${line}</text>`)}
    </a>`)}
    ${rows.map((row) => html`<g key=${`${row.y} ${row.name}`}>
      <${Mark} tone=${row.tone} x=${row.x + 18} y=${row.y + 10} />
      <text x=${row.x + 32} y=${row.y + 14}>${row.name}</text>
      <text class="detail" x=${row.x + row.width - 12} y=${row.y + 14} text-anchor="end">${row.detail}</text></g>`)}
    ${edges.filter(({ text }) => text).map(({ text, at: [x, y] }, index) => html`<text key=${`text ${index}`} class="rate" x=${x} y=${y + 4}
      text-anchor="middle">${text}</text>`)}
  </svg>`;
}
