// SPDX-License-Identifier: Apache-2.0
/** What views use to read the API. */

import { useCallback, useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { Problem, awaySince, get } from "./api.js";
import { useStore } from "./store.js";
import { generation } from "./watch.js";

/**
 * @template T
 * @typedef {{data: T | null, error: Problem | null, refresh: () => void}} Read
 */

/** @param {unknown} error */
export const asProblem = (error) =>
  error instanceof Problem ? error : new Problem(-1, String(error));

/**
 * An answer, asked for again every *everyMs* while the page is seen (0: once), when *again* is
 * another, and when the API is back.
 * @param {string | null} path null: nothing is asked
 * @param {import("./api.js").Query} [query]
 * @param {{everyMs?: number, again?: unknown}} [options]
 * @returns {Read<any>}
 */
export function useRead(path, query = {}, { everyMs = 0, again = null } = {}) {
  const [read, setRead] = useState(
    /** @type {{of: string, data: any, error: Problem | null}} */ ({ of: "", data: null, error: null }),
  );
  const [asked, setAsked] = useState(0);
  const key = JSON.stringify([path, query]);
  const away = useStore(awaySince) !== null;
  useEffect(() => {
    if (path === null) return undefined;
    let current = true;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const look = async () => {
      if (document.visibilityState === "visible" || !everyMs) {
        try {
          const data = await get(path, query);
          if (current) setRead({ of: key, data, error: null });
        } catch (error) {
          if (current)
            setRead((last) => ({ ...(last.of === key ? last : { of: key, data: null }), error: asProblem(error) }));
        }
      }
      if (current && everyMs) timer = setTimeout(look, everyMs);
    };
    look();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [key, everyMs, again, asked, away && !everyMs]);
  const refresh = useCallback(() => setAsked((count) => count + 1), []);
  const fits = read.of === key;
  return { data: fits ? read.data : null, error: fits ? read.error : null, refresh };
}

/**
 * What a live endpoint says, each second or so.
 * @param {string | null} path
 * @param {import("./api.js").Query} [query]
 * @param {number} [everyMs]
 */
export const useLive = (path, query = {}, everyMs = 2000) => useRead(path, query, { everyMs });

const NAMES_AT_ONCE = 100; // the address of a request is not for more

/**
 * The live state of the resources with these names.
 * @param {string} path
 * @param {readonly string[]} names
 * @returns {any[]} empty until it is known
 */
export function useLiveOf(path, names) {
  const [items, setItems] = useState(/** @type {any[]} */ ([]));
  const key = JSON.stringify(names);
  useEffect(() => {
    let current = true;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const look = async () => {
      if (document.visibilityState === "visible") {
        const found = await liveOf(path, names).catch(() => null);
        if (current && found) setItems(found);
      }
      if (current) timer = setTimeout(look, 2000);
    };
    if (names.length) look();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [path, key]);
  return items;
}

/** @param {string} path @param {readonly string[]} names */
async function liveOf(path, names) {
  const items = [];
  for (let at = 0; at < names.length; at += NAMES_AT_ONCE) {
    const some = names.slice(at, at + NAMES_AT_ONCE);
    items.push(...(await get(path, { name: some, limit: 1000 })).items);
  }
  return items;
}

/**
 * Desired state: asked for again when there is a newer generation.
 * @param {string | null} path
 * @param {import("./api.js").Query} [query]
 */
export const useDesired = (path, query = {}) => useRead(path, query, { again: useStore(generation) });

/**
 * A collection, page after page.
 * @param {string} path
 * @param {import("./api.js").Query} query
 * @param {unknown} [again]
 */
export function useCollection(path, query, again = null) {
  const first = useRead(path, query, { again });
  const [more, setMore] = useState(
    /** @type {{of: unknown, items: any[], next: string | null}} */ ({ of: null, items: [], next: null }),
  );
  const fits = more.of === first.data;
  const next = fits ? more.next : (first.data?.next ?? null);
  const items = [...(first.data?.items ?? []), ...(fits ? more.items : [])];
  const loadMore = async () => {
    const page = await get(path, { ...query, cursor: next ?? undefined });
    setMore({ of: first.data, items: [...(fits ? more.items : []), ...page.items], next: page.next });
  };
  return { ...first, items, total: first.data?.total ?? items.length, next, loadMore };
}

/**
 * A value that follows with a delay, so that typing does not ask at each key.
 * @template T
 * @param {T} value
 * @param {number} [delayMs]
 */
export function useSettled(value, delayMs = 250) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(() => value), delayMs);
    return () => clearTimeout(timer);
  }, [value, delayMs]);
  return settled;
}

/**
 * What *next* makes of each new value and the last result: rates from counters.
 * @template V, R
 * @param {V | null} value
 * @param {(last: R | null, value: V) => R} next
 * @returns {R | null}
 */
export function useFolded(value, next) {
  const last = useRef(/** @type {{value: V | null, result: R | null}} */ ({ value: null, result: null }));
  if (value !== null && value !== last.current.value)
    last.current = { value, result: next(last.current.result, value) };
  return last.current.result;
}
