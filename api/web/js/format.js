// SPDX-License-Identifier: Apache-2.0
/** Numbers and times as people read them. */

const UNITS = ["", "k", "M", "G", "T"];

/**
 * 12345 is "12.3 k".
 * @param {number | null | undefined} value
 * @param {string} [unit]
 */
export function amount(value, unit = "") {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  let [scaled, power] = [Math.abs(value), 0];
  while (scaled >= 999.5 && power < UNITS.length - 1) [scaled, power] = [scaled / 1000, power + 1];
  const digits = scaled < 10 && (power > 0 || !Number.isInteger(scaled)) ? 1 : 0;
  const suffix = `${UNITS[power]}${unit}`;
  return `${value < 0 ? "−" : ""}${scaled.toFixed(digits)}${suffix ? ` ${suffix}` : ""}`;
}

/** @param {number | null | undefined} value */
export const whole = (value) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en");

/** Octets per second as bits. @param {number | null | undefined} octets */
export const bits = (octets) => amount(octets === null || octets === undefined ? octets : octets * 8, "bit/s");

/** @param {number | null | undefined} milliseconds */
export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "–";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/**
 * A Unix time in this browser's zone; of today without the date.
 * @param {number} seconds
 * @param {number} now ms
 */
export function moment(seconds, now) {
  const then = new Date(seconds * 1000);
  const time = then.toLocaleTimeString("en-GB");
  if (then.toDateString() === new Date(now).toDateString()) return time;
  return `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })} ${time}`;
}

/**
 * "1 node", "3 nodes".
 * @param {number} count
 * @param {string} noun
 */
export const counted = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
