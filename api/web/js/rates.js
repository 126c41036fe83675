// SPDX-License-Identifier: Apache-2.0
/** Rates from counters that only rise (pure). */

/** @typedef {{at: number, counts: Map<string, number>, rates: Map<string, number>}} Rates */

/**
 * How fast each counter rose since the last look.  A counter that fell began anew, with its process.
 * @param {Rates | null} last
 * @param {number} now ms
 * @param {Iterable<[string, number]>} counts
 * @returns {Rates} without rates the first time
 */
export function perSecond(last, now, counts) {
  const seen = new Map(counts);
  /** @type {Map<string, number>} */
  const rates = new Map();
  const seconds = last ? (now - last.at) / 1000 : 0;
  if (last && seconds > 0) {
    for (const [name, count] of seen) {
      const before = last.counts.get(name);
      if (before !== undefined) rates.set(name, (count >= before ? count - before : count) / seconds);
    }
  }
  return { at: now, counts: seen, rates };
}
