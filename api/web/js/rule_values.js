// SPDX-License-Identifier: Apache-2.0
/** From the rules of a virtual server to what a form edits, and back (pure). */

/** @typedef {import("./contract.js").RuleBody} RuleBody */
/** @typedef {{pointer: string, detail: string}} Fault */
/** @typedef {keyof typeof KINDS} What */
/**
 * @typedef {object} Condition
 * @property {number} id
 * @property {What} what
 * @property {string} name of a header, a field of the query or a cookie
 * @property {string} text its value; of a list one a line
 */
/**
 * @typedef {object} Rule
 * @property {number} id the same wherever it is moved
 * @property {string} name
 * @property {"pool" | "refuse"} action
 * @property {string} pool
 * @property {Condition[]} conditions
 */

/** How each condition is written: a list of values, one text, or named values. */
export const KINDS = /** @type {const} */ ({
  host: { form: "list", label: "Host", help: "One a line; *.example.com is any below it" },
  path: { form: "list", label: "Path", help: "One a line, exactly; without the query" },
  path_prefix: { form: "list", label: "Path begins with", help: "One a line: /img/" },
  path_regex: { form: "text", label: "Path matches", help: "A regular expression (RE2): ^/api/v[0-9]+/" },
  method: { form: "list", label: "Method", help: "One a line: GET" },
  header: { form: "named", label: "Header", help: "* is any value" },
  query: { form: "named", label: "Query", help: "* is any value" },
  cookie: { form: "named", label: "Cookie", help: "* is any value" },
});

let serial = 0;

/** @returns {number} */
const newId = () => (serial += 1);

/** @param {What} what @returns {Condition} */
export const newCondition = (what) => ({ id: newId(), what, name: "", text: KINDS[what].form === "named" ? "*" : "" });

/** @param {string} pool @returns {Rule} */
export const newRule = (pool) => ({ id: newId(), name: "", action: "pool", pool, conditions: [] });

/**
 * Conditions that a rule can still be given: a list is there once, named ones as often as one likes.
 * @param {Rule} rule
 */
export const addable = (rule) =>
  /** @type {What[]} */ (Object.keys(KINDS)).filter(
    (what) => KINDS[what].form === "named" || !rule.conditions.some((each) => each.what === what));

/**
 * @param {readonly RuleBody[]} bodies
 * @returns {Rule[]}
 */
export const toRules = (bodies) =>
  bodies.map(({ name, match, pool, refuse }) => ({
    id: newId(),
    name,
    action: refuse ? "refuse" : "pool",
    pool: pool ?? "",
    conditions: conditionsOf(match),
  }));

/** @param {RuleBody["match"]} match @returns {Condition[]} */
function conditionsOf(match) {
  /** @type {Condition[]} */
  const found = [];
  for (const what of /** @type {What[]} */ (Object.keys(KINDS))) {
    /** @type {any} */
    const value = match[what];
    if (value === undefined || value === null) continue;
    const { form } = KINDS[what];
    if (form === "named") {
      for (const [name, text] of Object.entries(value)) found.push({ id: newId(), what, name, text: String(text) });
    } else if (form === "text" || value.length) {
      found.push({ id: newId(), what, name: "", text: form === "text" ? value : value.join("\n") });
    }
  }
  return found;
}

/**
 * @param {readonly Rule[]} rules
 * @returns {RuleBody[]}
 */
export const toBodies = (rules) =>
  rules.map(({ name, action, pool, conditions }) => ({
    name: name.trim(),
    match: matchOf(conditions),
    ...(action === "refuse" ? { refuse: true } : pool ? { pool } : {}),
  }));

/** @param {readonly Condition[]} conditions */
function matchOf(conditions) {
  /** @type {Record<string, any>} */
  const match = {};
  for (const { what, name, text } of conditions) {
    const { form } = KINDS[what];
    if (form === "text") match[what] = text.trim();
    else if (form === "list") match[what] = linesOf(text);
    else match[what] = { ...match[what], [name.trim()]: text };
  }
  return match;
}

/** @param {string} text */
const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/**
 * What a document cannot say, and what the API would take for something else: an empty list is no
 * condition, and of two values of one name only one is left.
 * @param {readonly Rule[]} rules
 * @returns {Fault[]}
 */
export function mistakesOf(rules) {
  /** @type {Fault[]} */
  const found = [];
  rules.forEach(({ conditions }, index) => {
    /** @type {Set<string>} */
    const seen = new Set();
    for (const { what, name, text } of conditions) {
      const { form, label } = KINDS[what];
      const pointer = `/rules/${index}/match/${what}`;
      const called = what === "header" ? name.trim().toLowerCase() : name.trim();
      if (form === "named" && !called)
        found.push({ pointer: `${pointer}/`, detail: `It has no name; give one, or remove it.` });
      else if (form === "named" && seen.has(`${what} ${called}`))
        found.push({ pointer: `${pointer}/${escaped(name.trim())}`, detail: `${label} ${called} is given twice; remove one.` });
      else if (form !== "named" && !linesOf(text).length)
        found.push({ pointer, detail: `It is empty; write something, or remove it.` });
      seen.add(`${what} ${called}`);
    }
  });
  return found;
}

/** A name as a step of a pointer (RFC 6901). @param {string} name */
const escaped = (name) => name.replaceAll("~", "~0").replaceAll("/", "~1");

/**
 * The faults of one rule by the places where they are shown: "name", "pool", "match", or the id of a
 * condition; what belongs nowhere else is at "rule".
 * @param {Rule} rule
 * @param {number} index
 * @param {readonly Fault[]} faults
 * @returns {Record<string, string>}
 */
export function faultsOf(rule, index, faults) {
  /** @type {Record<string, string>} */
  const at = {};
  for (const { pointer, detail } of faults) {
    const [first, number, field, what, name] = pointer.split("/").slice(1);
    if (first !== "rules" || number !== String(index)) continue;
    const place = placeOf(rule, field, what, name);
    at[place] = at[place] ? `${at[place]} ${detail}` : detail;
  }
  return at;
}

/**
 * @param {Rule} rule
 * @param {string | undefined} field
 * @param {string | undefined} what
 * @param {string | undefined} name
 */
function placeOf(rule, field, what, name) {
  if (field === "name" || field === "pool") return field;
  if (field !== "match") return rule.action === "pool" && !rule.pool ? "pool" : "rule";
  const own = rule.conditions.filter((each) => each.what === what);
  const named = own.filter((each) => escaped(each.name.trim()) === name || escaped(each.name.trim().toLowerCase()) === name);
  const found = named.at(-1) ?? own[0];
  return found ? String(found.id) : "match";
}

/**
 * The rules with one of them moved; the same if it cannot go further.
 * @template T
 * @param {readonly T[]} items
 * @param {number} from
 * @param {number} by
 * @returns {T[]}
 */
export function moved(items, from, by) {
  const to = from + by;
  const order = [...items];
  const [item] = order.splice(from, 1);
  if (item === undefined || to < 0 || to >= items.length) return [...items];
  order.splice(to, 0, item);
  return order;
}

/**
 * The conditions of a rule in words.
 * @param {RuleBody["match"]} match
 * @returns {string[]}
 */
export const wordsOf = (match) =>
  conditionsOf(match).map(({ what, name, text }) => {
    const said = KINDS[what].label;
    if (KINDS[what].form === "named") return `${said} ${name}${text === "*" ? "" : ` is ${text}`}`;
    return `${said} ${text.split("\n").join(" or ")}`;
  });
