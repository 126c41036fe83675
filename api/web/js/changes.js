// SPDX-License-Identifier: Apache-2.0
/** Changes of the desired state, each said with the generation that it made. */

import { part, request } from "./api.js";
import { html } from "./html.js";
import { linkTo } from "./route.js";
import { confirmed, doing } from "./ui/messages.js";

/** @typedef {import("./html.js").Children} Children */

/**
 * What was done, with a link to the generation.
 * @param {Children} what
 * @param {string | null} number
 * @returns {Children}
 */
export function done(what, number) {
  if (!number) return what;
  return html`${what} <a href=${linkTo(["generations", number])}>Generation ${number}</a>`;
}

/**
 * Change a part of a resource, and say so.
 * @param {string} path
 * @param {Record<string, unknown>} patch
 * @param {string} what a sentence
 */
export const patched = (path, patch, what) =>
  doing(async () => done(what, (await request("PATCH", path, { body: patch })).generation));

/**
 * Remove a resource after a question; whether it is gone.
 * @param {string} path
 * @param {string} name "the pool web"
 * @param {Children} [consequence]
 */
export async function removed(path, name, consequence = "") {
  const yes = await confirmed({
    title: `Remove ${name}?`,
    body: html`<p>${consequence} A roll-back brings it back.</p>`,
    yes: "Remove",
    danger: true,
  });
  if (!yes) return false;
  return doing(async () => done(`Removed ${name}.`, (await request("DELETE", path)).generation));
}

/**
 * Save what a form gave: a new resource, or one that is to be as it was when it was read.
 * @param {string} collection
 * @param {Record<string, any>} body
 * @param {string | null} etag null: it is new
 * @returns {Promise<string | null>} the generation
 */
export async function saved(collection, body, etag) {
  if (etag === null) return (await request("POST", collection, { body })).generation;
  const path = `${collection}/${part(String(body.name))}`;
  return (await request("PUT", path, { body, etag })).generation;
}
