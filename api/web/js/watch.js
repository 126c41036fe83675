// SPDX-License-Identifier: Apache-2.0
/** Server-sent events: generations, events, and segments that come and go. */

import { addressOf, loadSession } from "./api.js";
import { Store } from "./store.js";

/** @typedef {import("./contract.js").Happened} Happened */

const KEPT = 500; // events
const AGAIN_MS = 3000;

/** The newest generation; null: not heard yet. @type {Store<number | null>} */
export const generation = new Store(/** @type {number | null} */ (null));
/** Counts up when a segment comes, goes or changes. */
export const segmentsSeen = new Store(0);
/** Counts up when the page hears again, after it did not: it may have missed something. */
export const resumed = new Store(0);
/** Since the page was opened, the newest first. @type {Store<Happened[]>} */
export const happened = new Store(/** @type {Happened[]} */ ([]));

/**
 * Begin; what is returned ends it.  A page that nobody sees does not listen: a browser has six
 * connections to a host, for all its windows together.
 * @returns {() => void}
 */
export function watch() {
  let ended = false;
  let wasHidden = false;
  /** @type {EventSource | undefined} */
  let source;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const begin = () => {
    source?.close();
    source = new EventSource(addressOf("watch"));
    source.addEventListener("generation", (event) => noteGeneration(JSON.parse(event.data)));
    source.addEventListener("event", (event) => noteEvent(JSON.parse(event.data)));
    source.addEventListener("segment", () => segmentsSeen.set(segmentsSeen.value + 1));
    source.addEventListener("error", () => {
      // the browser comes again by itself unless the answer was a refusal
      if (source?.readyState === EventSource.CLOSED && !ended) timer = setTimeout(retry, AGAIN_MS);
    });
  };
  const retry = async () => {
    await loadSession().catch(() => undefined);
    if (!ended) begin();
  };
  const seen = () => {
    clearTimeout(timer);
    if (document.visibilityState === "hidden") {
      wasHidden = true;
      source?.close();
    } else if (wasHidden) {
      wasHidden = false;
      begin();
      resumed.set(resumed.value + 1);
    }
  };
  document.addEventListener("visibilitychange", seen);
  begin();
  return () => {
    ended = true;
    document.removeEventListener("visibilitychange", seen);
    clearTimeout(timer);
    source?.close();
  };
}

/** @param {any} data */
function noteGeneration(data) {
  const number = typeof data === "number" ? data : (data.number ?? data.generation);
  if (typeof number === "number") generation.set(Math.max(number, generation.value ?? 0));
}

/** @param {Happened} event */
function noteEvent(event) {
  if (event.id && happened.value.some(({ id }) => id === event.id)) return;
  happened.set([event, ...happened.value].slice(0, KEPT));
}
