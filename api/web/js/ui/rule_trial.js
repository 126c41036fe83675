// SPDX-License-Identifier: Apache-2.0
/** What a request would match, and why the rules before do not: asked of the API, sent to nobody. */

import { useState } from "../../vendor/preact-hooks.js";
import { request } from "../api.js";
import { asProblem } from "../hooks.js";
import { html } from "../html.js";
import { Badge, Note } from "./parts.js";

/** @typedef {import("../contract.js").Tried} Tried */

/**
 * @param {{name: string, instead?: Record<string, any>}} props *instead*: what is tried in place of what is saved
 */
export function RuleTrial({ name, instead }) {
  const [line, setLine] = useState("GET / HTTP/1.1");
  const [headers, setHeaders] = useState("Host: ");
  const [client, setClient] = useState("");
  const [found, setFound] = useState(/** @type {{of: string, tried?: Tried, wrong?: string[]} | null} */ (null));
  const body = {
    virtual_server: name,
    request_line: line.trim() || "/",
    headers: headers.split("\n").map((each) => each.trim()).filter((each) => each && !/^host:$/i.test(each)),
    ...(client.trim() ? { client: client.trim() } : {}),
    ...(instead ? { instead } : {}),
  };
  const of = JSON.stringify(body);
  const ask = async () => {
    try {
      setFound({ of, tried: (await request("POST", "rules/try", { body })).data });
    } catch (error) {
      const problem = asProblem(error);
      setFound({ of, wrong: problem.errors.length ? problem.errors.map(saidOf) : [problem.detail] });
    }
  };
  const enter = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // it would save the form around
    ask();
  };
  const typed = (/** @type {(text: string) => void} */ set) => (/** @type {any} */ event) => set(event.target.value);
  return html`<div class="trial" role="group" aria-label="Try a request">
    <h3>Try a request</h3>
    <span class="help">What it would match${instead ? ", with the rules as they are here" : ""}. Nothing is sent to anybody.</span>
    <div class="fields">
      <div class="field"><label for="trial-line">Request</label>
        <input id="trial-line" type="text" value=${line} onInput=${typed(setLine)} onKeyDown=${enter} autocomplete="off" spellcheck=${false} /></div>
      <div class="field"><label for="trial-headers">Headers</label>
        <textarea id="trial-headers" rows="2" value=${headers} onInput=${typed(setHeaders)} spellcheck=${false}></textarea>
        <span class="help">One a line: Cookie: beta=yes</span></div>
      <div class="field"><label for="trial-client">Client</label>
        <input id="trial-client" type="text" value=${client} onInput=${typed(setClient)} onKeyDown=${enter} placeholder="192.0.2.1" autocomplete="off" /></div>
    </div>
    <div class="row"><button type="button" onClick=${ask}>Try it</button></div>
    <div aria-live="polite">${found && found.of === of && html`<${Outcome} ...${found} />`}</div>
  </div>`;
}

/** @param {import("../api.js").Fault} fault */
function saidOf({ pointer, detail }) {
  const number = /^\/instead\/rules\/(\d+)\//.exec(pointer)?.[1];
  return number === undefined ? detail : `Rule ${Number(number) + 1}: ${detail}`;
}

/** @param {{tried?: Tried, wrong?: string[]}} props */
function Outcome({ tried, wrong }) {
  if (!tried) return html`<${Note} tone="bad">${wrong?.map((each) => html`<div>${each}</div>`)}<//>`;
  return html`<ol class="outcome">
    ${tried.passed.map(({ rule, why }) => html`<li><span>${rule}</span> <span class="help">${why}</span></li>`)}
    ${tried.rule === null ? html`<li class="none">No rule matches.</li>` : html`<li><span>${tried.rule}</span> <${Badge} tone="good">matches<//></li>`}
    <li class="last">${tried.pool === null ? html`<${Badge} tone="bad">refused<//> the client gets a RST`
      : html`pool <b>${tried.pool}</b>, ${tried.node ? html`node <b>${tried.node}</b>, ` : "node "}${tried.how}`}</li>
  </ol>`;
}
