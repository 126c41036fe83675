// SPDX-License-Identifier: Apache-2.0
/** Values that several parts of the page look at. */

import { useEffect, useState } from "../vendor/preact-hooks.js";

/** @template T */
export class Store {
  /** @param {T} value */
  constructor(value) {
    this.value = value;
    /** @type {Set<(value: T) => void>} */
    this.callers = new Set();
  }

  /** @param {T} value */
  set(value) {
    if (Object.is(value, this.value)) return;
    this.value = value;
    for (const call of [...this.callers]) call(value);
  }

  /**
   * @param {(value: T) => void} call
   * @returns {() => void} that ends it
   */
  subscribe(call) {
    this.callers.add(call);
    return () => this.callers.delete(call);
  }
}

/**
 * The value, drawn anew when it changes.
 * @template T
 * @param {Store<T>} store
 * @returns {T}
 */
export function useStore(store) {
  const [value, setValue] = useState(() => store.value);
  useEffect(() => {
    setValue(() => store.value);
    return store.subscribe((next) => setValue(() => next));
  }, [store]);
  return value;
}
