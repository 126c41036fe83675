// SPDX-License-Identifier: Apache-2.0
/** The rules of a virtual server as an ordered list that is edited. */

import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { html } from "../html.js";
import { KINDS, addable, faultsOf, moved, newCondition, newRule } from "../rule_values.js";

/** @typedef {import("../rule_values.js").Rule} Rule */
/** @typedef {import("../rule_values.js").Condition} Condition */
/** @typedef {import("../rule_values.js").Fault} Fault */
/** @typedef {import("../html.js").Children} Children */
/** @typedef {{known: unknown[], item: import("../../vendor/preact.js").VNode}} Drawn */

/**
 * @param {{value: Rule[], onChange: (rules: Rule[], isReordered?: boolean) => void, faults: readonly Fault[],
 *   choices: readonly string[] | null, children?: Children}} props
 *   *choices*: names of pools; null: too many, they are typed
 */
export function RulesEditor({ value, onChange, faults, choices, children }) {
  const [said, setSaid] = useState("");
  const aim = useRef("");
  const latest = useRef({ value, onChange });
  latest.current = { value, onChange };
  const drawn = useRef(/** @type {Map<number, Drawn>} */ (new Map()));
  useEffect(() => {
    if (!aim.current) return;
    document.getElementById(aim.current)?.focus();
    aim.current = "";
  }, [value]);
  /** @param {number} id @param {Partial<Rule>} change */
  const change = (id, change) => {
    const now = latest.current;
    now.onChange(now.value.map((rule) => (rule.id === id ? { ...rule, ...change } : rule)));
  };
  const add = () => {
    const rule = newRule(choices?.[0] ?? "");
    aim.current = `rule-${rule.id}-name`;
    onChange([...value, rule]);
  };
  /** @param {number} index @param {number} by */
  const move = (index, by) => {
    const { value, onChange } = latest.current;
    const rule = /** @type {Rule} */ (value[index]);
    const to = index + by;
    const edge = to === 0 ? "down" : to === value.length - 1 ? "up" : by < 0 ? "up" : "down";
    aim.current = `rule-${rule.id}-${edge}`;
    setSaid(`${called(rule, index)} is number ${to + 1} of ${value.length} now.`);
    onChange(moved(value, index, by), true);
  };
  /** @param {number} index */
  const remove = (index) => {
    const { value, onChange } = latest.current;
    const next = value[index + 1] ?? value[index - 1];
    aim.current = next ? `rule-${next.id}-name` : "rule-add";
    onChange(value.filter((_, at) => at !== index), true);
  };
  /** Drawn anew only if it is another one: there may be hundreds. @param {Rule} rule @param {number} index */
  const itemOf = (rule, index) => {
    const wrong = faultsOf(rule, index, faults);
    const known = [rule, index, value.length, choices, JSON.stringify(wrong)];
    const last = drawn.current.get(rule.id);
    if (last?.known.every((each, at) => each === known[at])) return last.item;
    const item = html`<${RuleOf} key=${rule.id} rule=${rule} index=${index} count=${value.length} faults=${wrong} choices=${choices}
      onChange=${(/** @type {Partial<Rule>} */ it) => change(rule.id, it)}
      onMove=${(/** @type {number} */ by) => move(index, by)} onRemove=${() => remove(index)} />`;
    drawn.current.set(rule.id, { known, item });
    return item;
  };
  const whole = faults.filter(({ pointer }) => pointer === "/rules").map(({ detail }) => detail).join(" ");
  return html`<fieldset class="field whole" id="field-rules">
    <legend>Rules</legend>
    <span class="help">The first rule that matches a request decides: all of its conditions must hold. Without one,
      the request goes to the pool above.</span>
    ${whole && html`<span class="wrong" role="alert" tabindex="-1">${whole}</span>`}
    <ol class="rules">${value.map(itemOf)}</ol>
    <span class="unseen" aria-live="polite">${said}</span>
    <div class="row"><button type="button" id="rule-add" onClick=${add}>Add a rule</button></div>
    ${children}
  </fieldset>`;
}

/** @param {Rule} rule @param {number} index */
const called = (rule, index) => `Rule ${rule.name.trim() || index + 1}`;

/**
 * @param {{rule: Rule, index: number, count: number, faults: Record<string, string>, choices: readonly string[] | null,
 *   onChange: (change: Partial<Rule>) => void, onMove: (by: number) => void, onRemove: () => void}} props
 */
function RuleOf({ rule, index, count, faults, choices, onChange, onMove, onRemove }) {
  const id = `rule-${rule.id}`;
  const name = called(rule, index);
  const typed = (/** @type {keyof Rule} */ field) => (/** @type {any} */ event) => onChange({ [field]: event.target.value });
  const set = (/** @type {Condition[]} */ conditions) => onChange({ conditions });
  const pool = choices
    ? html`<select ...${wired(`${id}-pool`, faults.pool)} value=${rule.pool} onChange=${typed("pool")}>
        ${(choices.includes(rule.pool) ? choices : [rule.pool, ...choices]).map((each) =>
          html`<option value=${each} selected=${each === rule.pool}>${each}</option>`)}</select>`
    : html`<input type="text" ...${wired(`${id}-pool`, faults.pool)} value=${rule.pool} onInput=${typed("pool")} />`;
  return html`<li class="rule" aria-label=${name}>
    <div class="row ends"><b>${index + 1}.</b>
      <span class="row">
        <button type="button" class="small" id=${`${id}-up`} disabled=${index === 0} onClick=${() => onMove(-1)}
          aria-label=${`Move ${name} up`}>↑ Up</button>
        <button type="button" class="small" id=${`${id}-down`} disabled=${index === count - 1} onClick=${() => onMove(1)}
          aria-label=${`Move ${name} down`}>↓ Down</button>
        <button type="button" class="small danger" onClick=${onRemove} aria-label=${`Remove ${name}`}>Remove</button></span></div>
    <div class="fields">
      <div class="field"><label for=${`${id}-name`}>Name of the rule</label>
        <input type="text" ...${wired(`${id}-name`, faults.name)} value=${rule.name} onInput=${typed("name")} autocomplete="off" />
        <${Fault} id=${`${id}-name`} text=${faults.name} /></div>
      <div class="field"><label for=${`${id}-action`}>What happens</label>
        <select ...${wired(`${id}-action`, faults.rule)} value=${rule.action} onChange=${typed("action")}>
          <option value="pool" selected=${rule.action === "pool"}>to a pool</option>
          <option value="refuse" selected=${rule.action === "refuse"}>refused: the client gets a RST</option></select>
        <${Fault} id=${`${id}-action`} text=${faults.rule} /></div>
      ${rule.action === "pool" && html`<div class="field"><label for=${`${id}-pool`}>Pool of the rule</label>
        ${pool}<${Fault} id=${`${id}-pool`} text=${faults.pool} /></div>`}
    </div>
    <div class="fields">
      ${rule.conditions.map((each) => html`<${ConditionOf} key=${each.id} condition=${each} wrong=${faults[String(each.id)]}
        onChange=${(/** @type {Partial<Condition>} */ change) =>
          set(rule.conditions.map((other) => (other.id === each.id ? { ...other, ...change } : other)))}
        onRemove=${() => set(rule.conditions.filter((other) => other.id !== each.id))} />`)}
    </div>
    <div class="row"><select class="short" ...${wired(`${id}-match`, faults.match)} aria-label=${`Add a condition to ${name}`} value=""
      onChange=${(/** @type {any} */ event) => {
        const made = newCondition(event.target.value);
        event.target.value = "";
        set([...rule.conditions, made]);
        requestAnimationFrame(() => document.getElementById(`condition-${made.id}`)?.focus());
      }}>
      <option value="">Add a condition …</option>
      ${addable(rule).map((what) => html`<option value=${what}>${KINDS[what].label}</option>`)}</select>
      <${Fault} id=${`${id}-match`} text=${faults.match} /></div>
  </li>`;
}

/**
 * @param {{condition: Condition, wrong: string | undefined, onChange: (change: Partial<Condition>) => void, onRemove: () => void}} props
 */
function ConditionOf({ condition, wrong, onChange, onRemove }) {
  const { form, label, help } = KINDS[condition.what];
  const id = `condition-${condition.id}`;
  const common = { ...wired(id, wrong), autocomplete: "off", spellcheck: false };
  const typed = (/** @type {any} */ event) => onChange({ text: event.target.value });
  const remove = html`<button type="button" class="quiet small" onClick=${onRemove} aria-label=${`Remove the condition ${label}`}>✕</button>`;
  const fault = html`<span class="help">${help}</span><${Fault} id=${id} text=${wrong} />`;
  const head = html`<div class="row ends"><label for=${id}>${label}${form === "named" ? ", name" : ""}</label>${remove}</div>`;
  if (form === "named") {
    return html`<div class="field">${head}
      <div class="pair"><input type="text" ...${common} value=${condition.name} placeholder="name"
          onInput=${(/** @type {any} */ event) => onChange({ name: event.target.value })} />
        <input type="text" aria-label=${`${label} ${condition.name}, value`} value=${condition.text} placeholder="value"
          autocomplete="off" spellcheck=${false} onInput=${typed} /></div>${fault}</div>`;
  }
  if (form === "text") return html`<div class="field">${head}<input type="text" ...${common} value=${condition.text} onInput=${typed} />${fault}</div>`;
  return html`<div class="field">${head}<textarea ...${common} rows="2" value=${condition.text} onInput=${typed}></textarea>${fault}</div>`;
}

/** @param {string} id @param {string | undefined} wrong */
const wired = (id, wrong) => ({
  id,
  "aria-invalid": wrong ? "true" : undefined,
  "aria-describedby": wrong ? `${id}-wrong` : undefined,
});

/** @param {{id: string, text: string | undefined}} props */
const Fault = ({ id, text }) => text && html`<span class="wrong" id=${`${id}-wrong`}>${text}</span>`;
