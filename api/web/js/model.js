// SPDX-License-Identifier: Apache-2.0
/** From what the API answers to what the overview's picture shows (pure). */

import { amount, counted } from "./format.js";

/** @typedef {import("./contract.js").Segment} Segment */
/** @typedef {import("./contract.js").LiveNode} LiveNode */
/** @typedef {import("./contract.js").Attention} Attention */
/** @typedef {import("./picture.js").Model} Model */
/** @typedef {import("./picture.js").Part} Part */
/** @typedef {import("./ui/parts.js").Tone} Tone */
/**
 * @typedef {object} Rates per second
 * @property {Map<string, number>} nodes new sessions, by pool/name
 * @property {Map<string, number>} buses messages, by the CS's name
 * @property {Record<string, any>} totals
 * @property {Attention} attention
 * @property {number | null} connections
 */

export const ROWS_SHOWN = 16;
const SEGMENTS_SHOWN = 4; // of a kind

/**
 * @param {readonly Segment[]} segments
 * @param {readonly LiveNode[]} nodes of the busiest pools, the first ROWS_SHOWN of each
 * @param {Rates} rates
 * @returns {Model}
 */
export function modelOf(segments, nodes, rates) {
  const [control, controlHidden] = some(segments, "cs");
  const [dataFlow, dataFlowHidden] = some(segments, "dfs");
  return {
    clients: [`${amount(rates.connections)} connections/s`, counted(rates.totals.flows ?? 0, "flow")],
    rate: rates.connections ?? 0,
    control: [...control.map(ofControl), ...rest(controlHidden, "CS")],
    dataFlow: [...dataFlow.map(ofDataFlow), ...rest(dataFlowHidden, "DFS")],
    pools: poolsOf(nodes, rates.nodes, rates.attention),
    buses: control.flatMap((cs) =>
      dataFlow.filter((dfs) => cs.connected && dfs.connected && reaches(cs, dfs)).map((dfs) => {
        const rate = (rates.buses.get(cs.name) ?? 0) / Math.max(1, dataFlow.length);
        return { from: cs.name, to: dfs.name, rate, text: rate >= 0.5 ? `${amount(Math.round(rate))} messages/s` : "" };
      })),
  };
}

/**
 * @param {readonly Segment[]} segments
 * @param {string} role
 * @returns {[Segment[], number]} those that are drawn, and how many are not
 */
function some(segments, role) {
  const all = segments.filter((each) => each.role === role);
  return [all.slice(0, SEGMENTS_SHOWN), Math.max(0, all.length - SEGMENTS_SHOWN)];
}

/** @param {number} hidden @param {string} noun @returns {Part[]} */
const rest = (hidden, noun) => (hidden ? [{ name: `and ${hidden} more ${noun}s`, detail: [], tone: "", link: "#/segments" }] : []);

/** @param {Segment} cs @param {Segment} dfs */
function reaches(cs, dfs) {
  const peers = cs.state?.data_flow_segments ?? [];
  return peers.some((/** @type {any} */ peer) => peer.segment_id === dfs.segment_id && peer.ready);
}

/** @param {Segment} segment @returns {Part} */
function ofControl({ name, connected, state, generation, status }) {
  const role = state?.group_role || "unknown";
  /** @type {Tone} */
  const tone = !connected || status === "refused" ? "bad" : role === "active" ? "good" : role === "claiming" ? "warning" : "";
  const detail = connected
    ? [`${role}, epoch ${state?.role_epoch ?? "?"}`, `generation ${generation ?? "none"}`]
    : ["not connected", ""];
  return { name, detail, tone, link: "#/segments" };
}

/** @param {Segment} segment @returns {Part} */
function ofDataFlow({ name, connected, state }) {
  const detail = connected ? [counted(state?.flows ?? 0, "flow"), `${state?.pending ?? 0} pending`] : ["not connected", ""];
  return { name, detail, tone: connected ? "good" : "bad", link: "#/segments" };
}

/**
 * @param {readonly LiveNode[]} nodes
 * @param {Map<string, number>} rates
 * @param {Attention} attention
 * @returns {Model["pools"]} the busiest, and a box for the rest
 */
function poolsOf(nodes, rates, { pools, connections_per_second: all, busiest }) {
  const rateOf = (/** @type {LiveNode} */ node) => rates.get(`${node.pool}/${node.name}`) ?? 0;
  const each = Math.max(2, Math.floor(ROWS_SHOWN / Math.max(1, busiest.length)));
  const drawn = busiest.map(({ pool: name, connections_per_second: said, nodes: count }) => {
    const own = nodes.filter(({ pool }) => pool === name);
    const fits = Math.max(count, own.length) <= each ? own : own.slice(0, each - 1);
    return {
      name: `Pool ${name}`,
      link: `#/pools/${encodeURIComponent(name)}`,
      rate: own.length < count ? said : own.reduce((sum, node) => sum + rateOf(node), 0),
      hidden: Math.max(count, own.length) - fits.length,
      nodes: fits.map((node) => ({
        name: node.name,
        tone: toneOf(node),
        rate: rateOf(node),
        detail: `${node.state === "enabled" ? "" : `${node.state}, `}${node.active} active, ${amount(rateOf(node))}/s`,
      })),
    };
  });
  if (pools <= busiest.length) return drawn;
  const rate = Math.max(0, busiest.reduce((left, pool) => left - pool.connections_per_second, all));
  return [...drawn, { name: `and ${counted(pools - busiest.length, "more pool")}`, link: "#/pools", rate, hidden: 0, nodes: [] }];
}

/** @param {LiveNode} node @returns {Tone} */
function toneOf({ state, health, ejected_for_ms: ejected }) {
  if (state === "down" || health === "down" || typeof ejected === "number") return "bad";
  return state === "draining" || health === "unknown" ? "warning" : "good";
}
