// SPDX-License-Identifier: Apache-2.0
/** Templates: html`<p>${text}</p>` makes what preact draws. */

import htm from "../vendor/htm.js";
import { h } from "../vendor/preact.js";

/** @typedef {import("../vendor/preact.js").ComponentChildren} Children */

/** @type {(strings: TemplateStringsArray, ...values: any[]) => import("../vendor/preact.js").VNode} */
export const html = /** @type {any} */ (htm.bind(h));
