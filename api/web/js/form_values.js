// SPDX-License-Identifier: Apache-2.0
/** From a resource's body to the values of a form's fields, and back (pure). */

/**
 * @typedef {object} Field
 * @property {string} at where it is in the body: "persistence/timeout_s"
 * @property {string} label
 * @property {"text" | "whole" | "number" | "check" | "choice" | "names" | "lines" | "part"} kind
 * @property {string} [help]
 * @property {readonly (string | [string, string])[] | ((values: Values) => readonly (string | [string, string])[])} [choices]
 *   value, or value and text
 * @property {Part} [part] of kind `part`: how its value is edited
 * @property {unknown} [usual] what it is where the body does not say it
 * @property {boolean} [needed]
 * @property {boolean} [fixed] it cannot be changed once the resource exists
 * @property {(values: Values) => boolean} [shown]
 * @property {boolean} [more] it is among those that are folded away
 */
/**
 * @typedef {object} Part a piece of a body with an editor of its own
 * @property {(value: any) => any} edited from the body's value to the editor's
 * @property {(edited: any) => any} written and back; undefined: it stays out
 * @property {(edited: any) => Fault[]} mistakes what a body cannot even say
 * @property {(props: {value: any, faults: readonly Fault[], onChange: (value: any, isReordered?: boolean) => void, body: () => Body}) => any} draw
 */
/** @typedef {{pointer: string, detail: string}} Fault */
/** @typedef {Record<string, any>} Values */
/** @typedef {Record<string, any>} Body */

/** The field that every resource has. @type {Field} */
export const GROUP = { at: "group_id", label: "Group", kind: "whole", usual: 1, more: true, fixed: true,
  help: "The group of CSs that it belongs to" };

/**
 * @param {Body} body
 * @param {string} at
 * @returns {any}
 */
export const valueAt = (body, at) =>
  at.split("/").reduce((/** @type {any} */ inner, name) => inner?.[name], body);

/**
 * @param {readonly Field[]} fields
 * @param {Body} body
 * @returns {Values}
 */
export function toValues(fields, body) {
  return Object.fromEntries(
    fields.map((field) => [field.at, shownAs(field, valueAt(body, field.at) ?? field.usual)]),
  );
}

/**
 * @param {Field} field
 * @param {any} value
 */
function shownAs(field, value) {
  if (field.part) return field.part.edited(value);
  if (field.kind === "check") return Boolean(value);
  if (field.kind === "names") return value ?? [];
  if (field.kind === "lines") return (value ?? []).join("\n");
  return value === undefined || value === null ? "" : String(value);
}

/**
 * The body with what the form says.  What the form does not show stays; a value that is the usual
 * one stays out, unless the body had it.
 * @param {readonly Field[]} fields
 * @param {Values} values
 * @param {Body} base
 * @returns {Body}
 */
export function toBody(fields, values, base) {
  const body = structuredClone(base);
  for (const field of fields) {
    const hidden = field.shown !== undefined && !field.shown(values);
    const value = hidden ? undefined : readAs(field, values[field.at]);
    const had = valueAt(base, field.at) !== undefined;
    const usual = !field.needed && JSON.stringify(value) === JSON.stringify(field.usual);
    setAt(body, field.at.split("/"), usual && !had ? undefined : value);
  }
  return body;
}

/**
 * @param {Field} field
 * @param {any} value
 */
function readAs(field, value) {
  if (field.part) return field.part.written(value);
  if (field.kind === "check") return Boolean(value);
  if (field.kind === "names") return value.length ? value : undefined;
  if (field.kind === "lines") {
    const lines = String(value).split("\n").map((line) => line.trim()).filter(Boolean);
    return lines.length ? lines : undefined;
  }
  const text = String(value ?? "").trim();
  if (text === "") return undefined;
  // what is no number goes as it is, so that the API says what is wrong with it
  if (field.kind === "whole") return /^-?\d+$/.test(text) ? Number(text) : text;
  if (field.kind === "number") return Number.isFinite(Number(text)) ? Number(text) : text;
  return text;
}

/**
 * @param {Body} body
 * @param {string[]} path
 * @param {any} value undefined: it goes, and what it leaves empty goes too
 */
function setAt(body, path, value) {
  const [name, ...rest] = path;
  if (name === undefined) return;
  if (!rest.length) {
    if (value === undefined) delete body[name];
    else body[name] = value;
    return;
  }
  if (body[name] === null || typeof body[name] !== "object") {
    if (value === undefined) return;
    body[name] = {};
  }
  setAt(body[name], rest, value);
  if (!Object.keys(body[name]).length) delete body[name];
}

/**
 * @param {Field} field
 * @param {Values} values
 */
export const isShown = (field, values) => field.shown === undefined || field.shown(values);

/**
 * @param {Field} field
 * @param {Values} values
 * @returns {readonly (string | [string, string])[]}
 */
export const choicesOf = (field, values) => (typeof field.choices === "function" ? field.choices(values) : (field.choices ?? []));

/**
 * The values, each of which is one of its field's choices: those of a field may depend on another one.
 * @param {readonly Field[]} fields
 * @param {Values} values
 * @returns {Values}
 */
export function fitted(fields, values) {
  const fit = { ...values };
  for (const field of fields) {
    if (typeof field.choices !== "function") continue;
    const names = field.choices(fit).map((choice) => (typeof choice === "string" ? choice : choice[0]));
    if (names.length && !names.includes(fit[field.at])) fit[field.at] = names[0];
  }
  return fit;
}

/**
 * What a body made of the values could not even say.
 * @param {readonly Field[]} fields
 * @param {Values} values
 * @returns {Fault[]}
 */
export const mistakesIn = (fields, values) =>
  fields.flatMap((field) => (field.part && isShown(field, values) ? field.part.mistakes(values[field.at]) : []));

/**
 * Which fault belongs to which field; the others are shown above the form.  What is about a whole
 * that has fields is said at the one that is to be filled in.
 * @param {readonly Field[]} fields
 * @param {readonly Fault[]} faults
 * @param {Values} values
 * @returns {{at: Record<string, string>, others: string[]}}
 */
export function placed(fields, faults, values = {}) {
  /** @type {Record<string, string>} */
  const at = {};
  /** @type {string[]} */
  const others = [];
  const seen = fields.filter((field) => isShown(field, values));
  for (const { pointer, detail } of faults) {
    const place = pointer.replace(/^\//, "");
    const below = place ? seen.filter((each) => each.at.startsWith(`${place}/`)) : [];
    const field = seen.find((each) => place === each.at || place.startsWith(`${each.at}/`))
      ?? below.find((each) => each.needed && !values[each.at]) ?? below[0];
    if (field) at[field.at] = at[field.at] ? `${at[field.at]} ${detail}` : detail;
    else others.push(pointer ? `${pointer}: ${detail}` : detail);
  }
  return { at, others };
}
