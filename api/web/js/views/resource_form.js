// SPDX-License-Identifier: Apache-2.0
/** Adding and editing one resource: reads it, shows the form, saves it. */

import { useEffect, useState } from "../../vendor/preact-hooks.js";
import { part, request } from "../api.js";
import { done, saved } from "../changes.js";
import { asProblem } from "../hooks.js";
import { html } from "../html.js";
import { go } from "../route.js";
import { ResourceForm } from "../ui/form.js";
import { say } from "../ui/messages.js";
import { Failure, Head } from "../ui/parts.js";

/** @typedef {import("../html.js").Children} Children */

/**
 * @param {{
 *   collection: string, name: string | undefined, noun: string, lead?: Children,
 *   fields: readonly import("../form_values.js").Field[], initial: Record<string, any>,
 *   back: (name?: string) => string, prepared?: (body: Record<string, any>) => Record<string, any>,
 * }} props *name* undefined: a new one; *prepared* makes of what is read what the form shows
 */
export function ResourceEditor({ collection, name, noun, lead, fields, initial, back, prepared = (body) => body }) {
  const [loaded, setLoaded] = useState(
    /** @type {{body: any, etag: string | null, serial: number} | null} */ (
      name === undefined ? { body: initial, etag: null, serial: 0 } : null
    ),
  );
  const [error, setError] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const load = () => {
    if (name === undefined) return;
    request("GET", `${collection}/${part(name)}`).then(
      ({ data, etag }) => {
        setError(null);
        setLoaded((last) => ({ body: prepared(data), etag, serial: (last?.serial ?? 0) + 1 }));
      },
      (problem) => setError(asProblem(problem)),
    );
  };
  useEffect(load, [name]);
  /** @param {Record<string, any>} body */
  const save = async (body) => {
    const made = await saved(collection, body, loaded?.etag ?? null);
    say(done(name === undefined ? `Added ${noun} ${body.name}.` : `Saved ${noun} ${name}.`, made));
    go(back(body.name));
  };
  return html`<div class="view">
    <${Head} title=${name === undefined ? `Add a ${noun}` : `Edit ${noun} ${name}`} lead=${lead} />
    <${Failure} read=${{ error, refresh: load }} />
    ${loaded && html`<${ResourceForm} key=${loaded.serial} fields=${fields} body=${loaded.body}
      isNew=${name === undefined} save=${name === undefined ? `Add the ${noun}` : "Save"}
      onSave=${save} onCancel=${() => go(back(name))} onReload=${load} />`}
  </div>`;
}
