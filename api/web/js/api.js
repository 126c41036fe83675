// SPDX-License-Identifier: Apache-2.0
/** Requests to the API, and what they show of it: whether it is there, and who is signed in. */

import { Store } from "./store.js";

/** @typedef {import("./contract.js").Session} Session */
/** @typedef {{pointer: string, detail: string}} Fault */
/** @typedef {Record<string, string | number | boolean | readonly string[] | undefined>} Query */
/**
 * @typedef {object} Options
 * @property {unknown} [body]
 * @property {string} [etag] it is to be what it was when it had this
 * @property {Query} [query]
 */

const TIMEOUT_MS = 15_000;

/** Null: nobody is signed in; undefined: not known yet. @type {Store<Session | null | undefined>} */
export const session = new Store(/** @type {Session | null | undefined} */ (undefined));

/** Since when the API does not answer (ms); null: it does. @type {Store<number | null>} */
export const awaySince = new Store(/** @type {number | null} */ (null));

/** Why a request failed: the API's problem details, or that there was no answer (status 0). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {Fault[]} errors
   */
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.detail = detail;
    this.errors = errors;
  }
}

/**
 * @param {string} path below /api/v1/
 * @param {Options["query"]} query
 * @returns {string}
 */
export function addressOf(path, query = {}) {
  const given = Object.entries(query).flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((each) => [name, each]))
    .filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [String(name), String(value)])).toString();
  return `api/v1/${path}${text ? `?${text}` : ""}`;
}

/**
 * One request; its answer and the generation of it.
 * @param {string} method
 * @param {string} path below /api/v1/
 * @param {Options} [options]
 * @returns {Promise<{data: any, etag: string | null, generation: string | null}>} *generation*: the newest after a change
 */
export async function request(method, path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-Splitplane-Request"] = "1";
  if (options.etag) headers["If-Match"] = options.etag;
  /** @type {RequestInit} */
  const asked = { method, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (options.body !== undefined) {
    headers["Content-Type"] =
      method === "PATCH" ? "application/merge-patch+json" : "application/json";
    asked.body = JSON.stringify(options.body);
  }
  const response = await fetch(addressOf(path, options.query), asked).catch(() => null);
  if (response === null || isGateway(response)) {
    if (awaySince.value === null) awaySince.set(Date.now());
    throw new Problem(0, "The API does not answer.");
  }
  awaySince.set(null);
  const data = await bodyOf(response);
  const { headers: told } = response;
  if (response.ok) return { data, etag: told.get("ETag"), generation: told.get("Splitplane-Generation") };
  if (response.status === 401 && session.value) session.set(null);
  throw problemOf(response.status, data);
}

/**
 * A proxy in front of the API that cannot reach it; the API's own answers are JSON.
 * @param {Response} response
 */
function isGateway(response) {
  const kind = response.headers.get("Content-Type") ?? "";
  return [502, 503, 504].includes(response.status) && !kind.includes("json");
}

/** @param {Response} response */
async function bodyOf(response) {
  const text = await response.text().catch(() => "");
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * @param {number} status
 * @param {any} data
 */
function problemOf(status, data) {
  const detail = typeof data?.detail === "string" ? data.detail : `The API answered ${status}.`;
  return new Problem(status, detail, Array.isArray(data?.errors) ? data.errors : []);
}

/**
 * The answer to a question.
 * @param {string} path
 * @param {Options["query"]} [query]
 * @returns {Promise<any>}
 */
export async function get(path, query = {}) {
  return (await request("GET", path, { query })).data;
}

/**
 * A part of a path.
 * @param {string} name
 */
export const part = (name) => encodeURIComponent(name);

/** Ask who is signed in. */
export async function loadSession() {
  try {
    session.set(await get("session"));
  } catch (error) {
    if (error instanceof Problem && error.status !== 0) session.set(null);
    else throw error;
  }
}

/**
 * Begin a session with a one-time secret or a token.
 * @param {string} secret
 */
export async function signIn(secret) {
  const body = secret.startsWith("splp_") ? { token: secret } : { secret };
  session.set((await request("POST", "session", { body })).data);
}

/** End the session. */
export async function signOut() {
  await request("DELETE", "session");
  session.set(null);
}

/**
 * Whether who is signed in may do what needs a role; the API checks it again.
 * @param {Session | null | undefined} who
 * @param {"operator" | "admin"} role
 */
export function may(who, role) {
  return who?.role === "admin" || who?.role === role;
}
