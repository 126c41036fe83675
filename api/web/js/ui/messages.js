// SPDX-License-Identifier: Apache-2.0
/** What the page says about what was just done, and questions before something is done. */

import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { html } from "../html.js";
import { Store, useStore } from "../store.js";
import { Note } from "./parts.js";

/** @typedef {import("../html.js").Children} Children */
/** @typedef {{id: number, text: Children, tone: "good" | "bad"}} Said */
/**
 * @typedef {object} Question
 * @property {string} title
 * @property {Children} body
 * @property {string} yes what the button that does it says
 * @property {boolean} [danger]
 */

const SHOWN_MS = 8000; // what went well; what did not stays until it is closed

/** @type {Store<Said[]>} */
const said = new Store(/** @type {Said[]} */ ([]));
/** @type {Store<(Question & {answer: (yes: boolean) => void}) | null>} */
const question = new Store(/** @type {any} */ (null));
let serial = 0;

/**
 * @param {Children} text
 * @param {"good" | "bad"} [tone]
 */
export function say(text, tone = "good") {
  const id = (serial += 1);
  said.set([...said.value.slice(-3), { id, text, tone }]);
  if (tone === "good") setTimeout(() => unsay(id), SHOWN_MS);
}

/** @param {number} id */
const unsay = (id) => said.set(said.value.filter((each) => each.id !== id));

/**
 * Do something and say how it went; whether it went well.
 * @param {() => Promise<Children>} act what it answers is said
 */
export async function doing(act) {
  try {
    say(await act());
    return true;
  } catch (error) {
    say(explained(error), "bad");
    return false;
  }
}

/**
 * @param {any} error
 * @returns {string}
 */
export function explained(error) {
  const faults = (error?.errors ?? []).map((/** @type {any} */ { detail }) => detail);
  const said = error?.detail ?? String(error);
  if (error?.status === 412)
    return `Someone else changed this meanwhile, so nothing was done. Look at it again. (${said})`;
  return [said, ...faults.filter((/** @type {string} */ each) => !said.includes(each))].join(" ");
}

/** Where `say` is seen and heard. */
export function Messages() {
  const all = useStore(said);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${all.map(({ id, text, tone }) => {
      const close = html`<button class="quiet small" aria-label="Close this message" onClick=${() => unsay(id)}>✕</button>`;
      return html`<${Note} key=${id} tone=${tone} actions=${close}>${text}<//>`;
    })}
  </div>`;
}

/**
 * Ask before something is done.
 * @param {Question} asked
 * @returns {Promise<boolean>}
 */
export const confirmed = (asked) =>
  new Promise((answer) => question.set({ ...asked, answer }));

/** Where `confirmed` asks. */
export function Questions() {
  const asked = useStore(question);
  if (asked === null) return null;
  /** @param {boolean} yes */
  const answer = (yes) => {
    question.set(null);
    asked.answer(yes);
  };
  return html`<${Dialog} title=${asked.title} onClose=${() => answer(false)}>
    ${asked.body}
    <div class="row">
      <button class=${asked.danger ? "danger" : "primary"} onClick=${() => answer(true)}>${asked.yes}</button>
      <button onClick=${() => answer(false)}>Cancel</button>
    </div>
  <//>`;
}

/**
 * A window over the page; the browser keeps the focus in it, and Escape closes it.
 * @param {{title: string, onClose: () => void, children?: Children}} props
 */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    dialog.current?.showModal();
    return () => before?.focus();
  }, []);
  return html`<dialog ref=${dialog} aria-label=${title} onCancel=${(/** @type {Event} */ event) => {
    event.preventDefault();
    onClose();
  }}>
    <div><h2>${title}</h2>${children}</div>
  </dialog>`;
}
