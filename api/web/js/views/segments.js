// SPDX-License-Identifier: Apache-2.0
/** CSs and DFSs: roles, epochs, the generation in force, switching over. */

import { may, part, request, session } from "../api.js";
import { counted, duration, whole } from "../format.js";
import { useRead } from "../hooks.js";
import { html } from "../html.js";
import { linkTo } from "../route.js";
import { useStore } from "../store.js";
import { confirmed, doing } from "../ui/messages.js";
import { Badge, Facts, Failure, Head, Note } from "../ui/parts.js";
import { generation, segmentsSeen } from "../watch.js";

/** @typedef {import("../contract.js").Segment} Segment */

const STATUSES = /** @type {Record<string, [string, import("../ui/parts.js").Tone]>} */ ({
  in_force: ["in force", "good"],
  applying: ["being applied", "warning"],
  behind: ["behind", "warning"],
  refused: ["refused", "bad"],
  unconnected: ["not connected", "bad"],
  none: ["", ""],
});

/** @param {{segment: Segment}} props */
export function Role({ segment }) {
  const role = segment.state?.group_role;
  if (!segment.connected) return html`<${Badge} tone="bad">not connected<//>`;
  if (segment.role === "dfs") return html`<${Badge} tone="good">forwarding<//>`;
  return html`<${Badge} tone=${role === "active" ? "good" : role === "claiming" ? "warning" : ""}>${role || "unknown"}<//>`;
}

/** @param {Segment} segment */
function switchOver(segment) {
  return confirmed({
    title: `Make ${segment.name} the active CS?`,
    body: html`<p>It takes the role from the CS that has it. Established connections do not notice.</p>`,
    yes: "Switch over",
  }).then(
    (yes) =>
      yes &&
      doing(async () => {
        await request("POST", `segments/${part(segment.name)}/switch-over`);
        return `${segment.name} is the active CS of group ${segment.group_id}.`;
      }),
  );
}

/** @param {Segment} segment */
const resync = (segment) =>
  doing(async () => {
    await request("POST", `segments/${part(segment.name)}/sync`);
    return `${segment.name} has asked its DFSs to report all flows.`;
  });

export function Segments() {
  const seen = useStore(segmentsSeen);
  const newest = useStore(generation);
  const read = useRead("segments", {}, { everyMs: 1500, again: `${seen} ${newest}` });
  /** @type {Segment[]} */
  const segments = read.data?.items ?? [];
  const groups = [...new Set(segments.filter(({ role }) => role === "cs").map(({ group_id }) => group_id))];
  return html`<div class="view">
    <${Head} title="Segments" lead="Control Segments decide once for each flow; Data Flow Segments move the packets." />
    <${Failure} read=${read} />
    ${read.data !== null && !segments.length && html`<p class="empty">No segment has a link to this API.</p>`}
    ${groups.map((group) => html`<section class="view" key=${group} aria-label=${`Group ${group}`}>
      <div class="row ends"><h2>Group ${group}</h2><a href=${linkTo(["settings", String(group)])}>Settings of group ${group}</a></div>
      ${segments.filter((each) => each.role === "cs" && each.group_id === group).map((each) =>
        html`<${Card} key=${each.name} segment=${each} />`)}</section>`)}
    ${segments.some(({ role }) => role === "dfs") && html`<section class="view" aria-label="Data Flow Segments">
      <h2>Data Flow Segments</h2>
      ${segments.filter(({ role }) => role === "dfs").map((each) => html`<${Card} key=${each.name} segment=${each} />`)}</section>`}
  </div>`;
}

/** @param {{segment: Segment}} props */
function Card({ segment }) {
  const mayChange = may(useStore(session), "operator");
  const state = segment.state ?? {};
  const [status, tone] = STATUSES[segment.status] ?? [segment.status, ""];
  /** @type {[string, any][]} */
  const facts = [
    ["Host", `${segment.host} (${segment.address})`],
    ["Release", segment.release],
    ["Flows", `${whole(state.flows)} of ${whole(state.flow_capacity)}`],
    ["Running for", duration(state.uptime_s === undefined ? undefined : state.uptime_s * 1000)],
    ...(segment.role === "cs" ? ofControl(segment, status, tone) : ofDataFlow(state)),
  ];
  const standsBy = segment.role === "cs" && segment.connected && state.group_role === "standby";
  return html`<article class="card" aria-label=${segment.name}>
    <div class="row ends"><h3>${segment.name} <${Role} segment=${segment} /></h3>
      ${mayChange && html`<div class="row">
        ${standsBy && html`<button class="small" onClick=${() => switchOver(segment)}
          aria-label=${`Switch over to ${segment.name}`}>Switch over to it</button>`}
        ${segment.role === "cs" && segment.connected && html`<button class="small" onClick=${() => resync(segment)}
          aria-label=${`Report all flows to ${segment.name}`}>Report all flows</button>`}</div>`}</div>
    ${segment.problems?.length > 0 && html`<${Note} tone="bad">It refuses generation ${segment.refused}:
      ${segment.problems.map((each) => html`<div>${each}</div>`)}<//>`}
    <${Facts} items=${facts} />
  </article>`;
}

/**
 * @param {Segment} segment
 * @param {string} status
 * @param {import("../ui/parts.js").Tone} tone
 * @returns {[string, any][]}
 */
function ofControl(segment, status, tone) {
  const state = segment.state ?? {};
  const peers = state.data_flow_segments ?? [];
  const ready = peers.filter((/** @type {any} */ { ready }) => ready).length;
  return [
    ["Role epoch", whole(state.role_epoch)],
    ["Generation", html`${segment.generation ?? "none"} ${status && html`<${Badge} tone=${tone}>${status}<//>`}`],
    ["DFSs", html`${ready} of ${counted(peers.length, "DFS")} reached`],
    ["Sessions without a flow", whole(state.sessions_without_flow)],
  ];
}

/**
 * @param {Record<string, any>} state
 * @returns {[string, any][]}
 */
function ofDataFlow(state) {
  const groups = state.groups ?? [];
  return [
    ["Active CS", groups.map((/** @type {any} */ { group_id, active }) =>
      html`<div>${active ? `cs-${active.segment_id}` : "none"} (group ${group_id})</div>`)],
    ["Pending flows", whole(state.pending)],
    ["Late packets of closed flows", whole(state.lingering)],
  ];
}
