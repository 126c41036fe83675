// SPDX-License-Identifier: Apache-2.0
/** Times and sizes of one group of CSs. */

import { useEffect, useState } from "../../vendor/preact-hooks.js";
import { may, request, session } from "../api.js";
import { done } from "../changes.js";
import { asProblem } from "../hooks.js";
import { html } from "../html.js";
import { go } from "../route.js";
import { useStore } from "../store.js";
import { ResourceForm } from "../ui/form.js";
import { say } from "../ui/messages.js";
import { Facts, Failure, Head, settings } from "../ui/parts.js";

/** @type {import("../form_values.js").Field[]} */
const fields = [
  { at: "tcp_idle_timeout_s", label: "TCP idle timeout (s)", kind: "whole", help: "A TCP flow ends after so long without a packet" },
  { at: "udp_idle_timeout_s", label: "UDP idle timeout (s)", kind: "whole" },
  { at: "drain_timeout_s", label: "Drain timeout (s)", kind: "whole", help: "How long a draining node keeps its UDP flows; 0: for ever" },
  { at: "session_timeout_s", label: "Session timeout (s)", kind: "whole", help: "How long a TCP session without a flow is remembered" },
  { at: "stats_interval_s", label: "Statistics every (s)", kind: "whole", help: "0: none" },
  { at: "hello_interval_s", label: "HELLO every (s)", kind: "whole" },
  { at: "query_timeout_ms", label: "QUERY timeout (ms)", kind: "whole" },
  { at: "flow_capacity", label: "Flows that fit", kind: "whole", help: "Into the table of a CS" },
  { at: "flow_buffer_max", label: "Octets held for a new flow", kind: "whole" },
  { at: "grants", label: "Decisions ahead", kind: "check", help: "DFSs that can get decisions before flows need them." },
];

/** @param {{name: string}} props the group */
export function GroupSettings({ name }) {
  const mayChange = may(useStore(session), "operator");
  const [loaded, setLoaded] = useState(/** @type {{body: any, etag: string | null, serial: number} | null} */ (null));
  const [error, setError] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const query = { group_id: name };
  const load = () => {
    request("GET", "settings", { query }).then(
      ({ data, etag }) => {
        setError(null);
        setLoaded((last) => ({ body: data, etag, serial: (last?.serial ?? 0) + 1 }));
      },
      (problem) => setError(asProblem(problem)),
    );
  };
  useEffect(load, [name]);
  /** @param {Record<string, any>} body */
  const save = async (body) => {
    const { generation } = await request("PUT", "settings", { query, body, ...(loaded?.etag ? { etag: loaded.etag } : {}) });
    say(done(`Saved the settings of group ${name}.`, generation));
    go("#/segments");
  };
  return html`<div class="view">
    <${Head} title=${`Settings of group ${name}`} lead="Times and sizes, for all CSs of the group." />
    <${Failure} read=${{ error, refresh: load }} />
    ${loaded && (mayChange
      ? html`<${ResourceForm} key=${loaded.serial} fields=${fields} body=${loaded.body} isNew=${false} save="Save"
          onSave=${save} onCancel=${() => go("#/segments")} onReload=${load} />`
      : html`<div class="card"><${Facts} items=${settings(loaded.body, fields, ["group_id"])} /></div>`)}
  </div>`;
}
