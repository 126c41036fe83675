// SPDX-License-Identifier: Apache-2.0
/** What the page remembers of the traffic, for its plots: ten minutes, while it is open. */

import { get } from "./api.js";
import { perSecond } from "./rates.js";
import { Store } from "./store.js";

/** @typedef {{at: number, values: Map<string, number>}} Sample at in ms of the browser's clock */

const EVERY_MS = 2000;
const KEPT = 300;

/** The oldest first. @type {Store<Sample[]>} */
export const samples = new Store(/** @type {Sample[]} */ ([]));
/** What /api/v1/live/overview said last. @type {Store<any>} */
export const overview = new Store(/** @type {any} */ (null));

/** What rises, so that its rate is shown. */
const COUNTERS = ["connections", "refused", "bytes_in", "bytes_out", "packets_in", "packets_out", "dropped", "messages"];

/**
 * Begin; what is returned ends it.
 * @returns {() => void}
 */
export function collect() {
  let ended = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {import("./rates.js").Rates | null} */
  let last = null;
  const look = async () => {
    const data = await get("live/overview").catch(() => null);
    if (ended) return;
    if (data !== null && data.at !== overview.value?.at) { // with a large configuration it may be the last one again
      last = perSecond(last, data.at * 1000, countsOf(data.totals));
      overview.set(data);
      const values = new Map([...last.rates, ["flows", data.totals.flows ?? 0], ["active", data.totals.active ?? 0]]);
      if (last.rates.size) samples.set([...samples.value.slice(1 - KEPT), { at: Date.now(), values }]);
    }
    timer = setTimeout(look, EVERY_MS);
  };
  look();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/** @param {Record<string, unknown>} totals @returns {[string, number][]} */
const countsOf = (totals) =>
  COUNTERS.flatMap((name) => (typeof totals[name] === "number" ? [[name, /** @type {number} */ (totals[name])]] : []));

/**
 * The newest rate.
 * @param {readonly Sample[]} all
 * @param {string} name
 */
export const newestOf = (all, name) => all.at(-1)?.values.get(name) ?? null;
