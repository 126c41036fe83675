// SPDX-License-Identifier: Apache-2.0
/** What an operator should look at now (pure). */

import { whole } from "./format.js";

/** @typedef {{tone: "warning" | "bad", text: string, link: string}} Alarm */
/** @typedef {import("./contract.js").Segment} Segment */
/** @typedef {import("./contract.js").Attention} Attention */

/**
 * @param {readonly Segment[]} segments
 * @param {Attention} attention
 * @returns {Alarm[]} the worst first
 */
export function alarmsOf(segments, attention) {
  const alarms = [...ofSegments(segments), ...ofPools(attention)];
  return alarms.sort((a, b) => Number(b.tone === "bad") - Number(a.tone === "bad"));
}

/** @param {readonly Segment[]} segments @returns {Alarm[]} */
function ofSegments(segments) {
  const link = "#/segments";
  /** @type {Alarm[]} */
  const alarms = [];
  for (const each of segments) {
    if (!each.connected) alarms.push({ tone: "bad", text: `${each.name} has no link to the API.`, link });
    else if (each.status === "refused")
      alarms.push({ tone: "bad", text: `${each.name} refuses generation ${each.refused}: ${each.problems.join("; ")}`, link });
  }
  const groups = new Set(segments.flatMap(({ role, group_id: group }) => (role === "cs" ? [group] : [])));
  for (const group of groups) {
    const linked = segments.filter((each) => each.role === "cs" && each.group_id === group && each.connected);
    const known = linked.filter(({ state }) => state);
    if (known.length && !known.some(({ state }) => state?.group_role === "active"))
      alarms.push({ tone: "bad", text: `No CS of group ${group} is active: new flows wait.`, link });
  }
  if (!segments.length) alarms.push({ tone: "warning", text: "No segment has a link to this API.", link });
  return alarms;
}

/** @param {Attention} attention @returns {Alarm[]} */
function ofPools({ failing, failing_nodes: nodes, unserved, unserved_pools: pools }) {
  const link = (/** @type {string} */ pool) => `#/pools/${encodeURIComponent(pool)}`;
  const poolOf = (/** @type {string} */ node) => node.slice(0, node.indexOf("/"));
  /** @type {Alarm[]} */
  const alarms = nodes.map((node) => ({ tone: "warning", text: `The node ${node} fails its monitors.`, link: link(poolOf(node)) }));
  if (failing > nodes.length)
    alarms.push({ tone: "warning", text: `${whole(failing - nodes.length)} more nodes fail their monitors.`, link: "#/pools" });
  for (const pool of pools)
    alarms.push({ tone: "bad", text: `No node of the pool ${pool} takes new sessions.`, link: link(pool) });
  if (unserved > pools.length)
    alarms.push({ tone: "bad", text: `${whole(unserved - pools.length)} more pools have no node that takes new sessions.`, link: "#/pools" });
  return alarms;
}
