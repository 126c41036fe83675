// SPDX-License-Identifier: Apache-2.0
/** A form for one resource.  What the API refuses is said at the field that it is about. */

import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { choicesOf, fitted, isShown, mistakesIn, placed, toBody, toValues } from "../form_values.js";
import { Problem } from "../api.js";
import { asProblem } from "../hooks.js";
import { html } from "../html.js";
import { Note } from "./parts.js";

/** @typedef {import("../form_values.js").Field} Field */
/** @typedef {import("../form_values.js").Body} Body */
/** @typedef {import("../html.js").Children} Children */

/**
 * @param {{
 *   fields: readonly Field[], body: Body, isNew: boolean, save: string,
 *   onSave: (body: Body) => Promise<void>, onCancel: () => void, onReload?: () => void,
 *   children?: Children,
 * }} props *onSave* may throw Problem
 */
export function ResourceForm({ fields, body, isNew, save, onSave, onCancel, onReload, children }) {
  const [values, setValues] = useState(() => toValues(fields, body));
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const [reordered, setReordered] = useState(/** @type {Problem | null} */ (null)); // since it was said
  const [busy, setBusy] = useState(false);
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  const faults = placed(fields, problem?.errors ?? [], values);

  useEffect(() => {
    if (!problem) return;
    const first = form.current?.querySelector("[aria-invalid=true]") ?? form.current?.querySelector("[role=alert]");
    /** @type {HTMLElement | null | undefined} */ (first)?.focus();
  }, [problem]);

  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const mistakes = mistakesIn(fields, values);
      if (mistakes.length) throw new Problem(422, mistakes[0]?.detail ?? "", mistakes);
      await onSave(toBody(fields, values, body));
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
  };
  /** @param {readonly Field[]} some */
  const draw = (some) =>
    some
      .filter((field) => isShown(field, values))
      .map((field) => {
        const onChange = (/** @type {any} */ value, /** @type {boolean} */ isReordered = false) => {
          setValues((last) => fitted(fields, { ...last, [field.at]: value }));
          if (isReordered) setReordered(problem);
        };
        if (field.part) {
          const said = problem === reordered ? [] : (problem?.errors ?? []); // they name items by number
          return html`<${field.part.draw} key=${field.at} value=${values[field.at]} faults=${said}
            onChange=${onChange} body=${() => toBody(fields, values, body)} />`;
        }
        return html`<${FieldOf} key=${field.at} field=${field} choices=${choicesOf(field, values)} value=${values[field.at]}
          locked=${Boolean(field.fixed) && !isNew} wrong=${faults.at[field.at]} onChange=${onChange} />`;
      });
  const more = fields.filter((field) => field.more);
  const hasFault = more.some((field) => faults.at[field.at]);
  return html`<form class="card" ref=${form} onSubmit=${submit} novalidate>
    <${Refusal} problem=${problem} others=${faults.others} onReload=${onReload} />
    <div class="fields">${draw(fields.filter((field) => !field.more))}</div>
    ${more.length > 0 && html`<details open=${hasFault || undefined}><summary>More settings</summary>
      <div class="fields">${draw(more)}</div></details>`}
    <div class="row">
      <button class="primary" type="submit" disabled=${busy}>${save}</button>
      <button type="button" onClick=${onCancel}>Cancel</button>${children}
    </div>
  </form>`;
}

/**
 * @param {{problem: Problem | null, others: string[], onReload: (() => void) | undefined}} props
 */
function Refusal({ problem, others, onReload }) {
  if (!problem) return null;
  if (problem.status === 412) {
    const reload = onReload && html`<button type="button" class="small" onClick=${onReload}>Load the newer one</button>`;
    return html`<${Note} tone="warning" role="alert" actions=${reload}>
      Someone else changed this while you edited it, so nothing was saved. Load the newer one and
      make your change again.<//>`;
  }
  const count = problem.errors.length - others.length;
  const said = count && !others.length
    ? `${count === 1 ? "One field is" : `${count} fields are`} not right; the reason stands below.` : problem.detail;
  return html`<${Note} tone="bad" role="alert">${said}
    ${others.map((each) => html`<div>${each}</div>`)}<//>`;
}

/**
 * @param {{field: Field, choices: readonly (string | [string, string])[], value: any, locked: boolean, wrong: string | undefined,
 *   onChange: (value: any) => void}} props
 */
function FieldOf({ field, choices, value, locked, wrong, onChange }) {
  const id = `field-${field.at.replaceAll("/", "-")}`;
  const described = [field.help && `${id}-help`, wrong && `${id}-wrong`].filter(Boolean).join(" ");
  const common = {
    id,
    name: field.at,
    disabled: locked,
    "aria-invalid": wrong ? "true" : undefined,
    "aria-describedby": described || undefined,
    "aria-required": field.needed ? "true" : undefined,
  };
  const around = html`${field.help && html`<span class="help" id=${`${id}-help`}>${field.help}</span>`}
    ${wrong && html`<span class="wrong" id=${`${id}-wrong`}>${wrong}</span>`}`;
  if (field.kind === "names") {
    return html`<fieldset class="field" aria-describedby=${described || undefined}>
      <legend>${field.label}</legend>
      <${Names} names=${choices} value=${value} onChange=${onChange} />${around}</fieldset>`;
  }
  const label = html`<label for=${id}>${field.label}</label>`;
  if (field.kind === "check") {
    return html`<div class="field check"><input type="checkbox" ...${common} checked=${value}
      onChange=${(/** @type {any} */ event) => onChange(event.target.checked)} />${label}${around}</div>`;
  }
  return html`<div class="field">${label}<${Control} field=${field} choices=${choices} value=${value} common=${common} onChange=${onChange} />${around}</div>`;
}

/** @param {any} props */
function Control({ field, choices, value, common, onChange }) {
  const changed = (/** @type {any} */ event) => onChange(event.target.value);
  if (field.kind === "choice") {
    return html`<select ...${common} value=${value} onChange=${changed}>
      ${choices.map((/** @type {string | [string, string]} */ choice) => {
        const [name, text] = typeof choice === "string" ? [choice, choice] : choice;
        return html`<option value=${name} selected=${name === value}>${text}</option>`;
      })}
    </select>`;
  }
  if (field.kind === "lines")
    return html`<textarea ...${common} rows="3" value=${value} onInput=${changed}></textarea>`;
  const numeric = field.kind === "whole" ? "numeric" : field.kind === "number" ? "decimal" : undefined;
  return html`<input type="text" ...${common} inputmode=${numeric} autocomplete="off" spellcheck=${false}
    value=${value} onInput=${changed} />`;
}

/**
 * @param {{names: readonly string[], value: string[], onChange: (value: string[]) => void}} props
 */
function Names({ names, value, onChange }) {
  if (!names.length) return html`<span class="help">There is none yet.</span>`;
  /** @param {string} name */
  const toggle = (name) =>
    onChange(value.includes(name) ? value.filter((each) => each !== name) : [...value, name]);
  return html`<div class="row">
    ${names.map((name) => html`<label class="row"><input type="checkbox" checked=${value.includes(name)}
      onChange=${() => toggle(name)} /> ${name}</label>`)}
  </div>`;
}
