// SPDX-License-Identifier: Apache-2.0
/** Which view the page shows: the fragment of its address, `#/pools/web?find=a`. */

import { Store } from "./store.js";

/** @typedef {{path: string[], query: URLSearchParams}} Route */

/**
 * @param {string} fragment
 * @returns {Route}
 */
export function routeOf(fragment) {
  const [path = "", query = ""] = fragment.replace(/^#\/?/, "").split("?", 2);
  return {
    path: path.split("/").filter(Boolean).map(decoded),
    query: new URLSearchParams(query),
  };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * @param {string[]} path
 * @param {Record<string, string>} [query]
 */
export function linkTo(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  const text = new URLSearchParams(given).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export const route = new Store(routeOf(location.hash));
addEventListener("hashchange", () => route.set(routeOf(location.hash)));

/** @param {string} link */
export function go(link) {
  location.hash = link;
}

/**
 * The same view with another question, without a step in the browser's history.
 * @param {Record<string, string>} query
 */
export function ask(query) {
  history.replaceState(null, "", linkTo(route.value.path, query));
  route.set(routeOf(location.hash));
}
