// SPDX-License-Identifier: Apache-2.0
/** Tokens and one-time sign-in links, for administrators. */

import { useState } from "../../vendor/preact-hooks.js";
import { part, request } from "../api.js";
import { moment } from "../format.js";
import { useCollection } from "../hooks.js";
import { html } from "../html.js";
import { Dialog, confirmed, doing } from "../ui/messages.js";
import { ResourceForm } from "../ui/form.js";
import { Badge, Failure, Head, More, Table } from "../ui/parts.js";

/** @typedef {{id: string, name: string, role: string, created_at: number, created_by: string, expires_at: number | null, used_at: number | null}} Token */

/** @type {import("../form_values.js").Field[]} */
const fields = [
  { at: "name", label: "Name", kind: "text", needed: true, help: "Who or what uses it" },
  { at: "role", label: "Role", kind: "choice", needed: true, choices: [
    ["viewer", "viewer: reads"], ["operator", "operator: also changes and acts"],
    ["admin", "admin: also manages tokens"], ["segment", "segment: opens a link only"]] },
];

export function Tokens() {
  const list = useCollection("tokens", {});
  const [adding, setAdding] = useState(false);
  const [secret, setSecret] = useState("");
  const time = (/** @type {number | null} */ at) => (at === null ? "never" : moment(at, Date.now()));
  /** @type {import("../ui/parts.js").Column<Token>[]} */
  const columns = [
    { name: "Name", heads: true, show: (row) => row.name },
    { name: "Role", show: (row) => html`<${Badge}>${row.role}<//>` },
    { name: "Made", show: (row) => `${time(row.created_at)} by ${row.created_by}` },
    { name: "Last used", show: (row) => time(row.used_at) },
    { name: "Ends", show: (row) => time(row.expires_at) },
    { name: "", show: (row) => html`<button class="small danger" onClick=${() => revoke(row)} aria-label=${`Revoke ${row.name}`}>Revoke</button>` },
  ];
  /** @param {Token} token */
  const revoke = async (token) => {
    const yes = await confirmed({ title: `Revoke the token ${token.name}?`, yes: "Revoke", danger: true,
      body: html`<p>Whoever uses it is refused at once; sessions that it began end.</p>` });
    if (yes && (await doing(async () => {
      await request("DELETE", `tokens/${part(token.id)}`);
      return `Revoked the token ${token.name}.`;
    }))) list.refresh();
  };
  /** @param {Record<string, any>} body */
  const add = async (body) => {
    const { data } = await request("POST", "tokens", { body });
    setAdding(false);
    setSecret(data.token);
    list.refresh();
  };
  return html`<div class="view">
    <${Head} title="Tokens" lead="What programs and segments show to be known. A token is shown once, when it is made.">
      <button class="primary" onClick=${() => setAdding(true)}>Add a token</button>
    <//>
    <${Failure} read=${list} />
    <${Table} title="Tokens" columns=${columns} rows=${list.items} keyOf=${(/** @type {Token} */ row) => row.id}
      of=${list} />
    <${More} list=${list} />
    ${adding && html`<${Dialog} title="Add a token" onClose=${() => setAdding(false)}>
      <${ResourceForm} fields=${fields} body=${{ role: "viewer" }} isNew=${true} save="Add the token" onSave=${add}
        onCancel=${() => setAdding(false)} /><//>`}
    ${secret && html`<${Dialog} title="The new token" onClose=${() => setSecret("")}>
      <p>Copy it now; it is not shown again.</p><pre class="difference" tabindex="0">${secret}</pre>
      <div class="row"><button class="primary" onClick=${() => setSecret("")}>I have it</button></div><//>`}
  </div>`;
}
