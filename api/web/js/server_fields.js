// SPDX-License-Identifier: Apache-2.0
/** The fields of a virtual server's form, each shown where it applies (pure). */

import { GROUP } from "./form_values.js";

/** @typedef {import("./form_values.js").Field} Field */
/** @typedef {import("./form_values.js").Values} Values */
/** @typedef {import("./contract.js").Application} Application */

const PLUGIN_KINDS = ["raw", "assisted", "hybrid"];
/** @type {[string, string][]} */
const KINDS = [
  ["plain", "plain: by address and port alone"],
  ["http", "http: by the first request, with rules"],
  ["cookie", "cookie: by one cookie"],
  ["ssl", "ssl: by the TLS session"],
  ["raw", "raw: a plug-in reads copies of the packets"],
  ["assisted", "assisted: a plug-in reads, the CS carries every packet"],
  ["hybrid", "hybrid: a plug-in reads, then the DFS carries it"],
];
/** @type {[string, string]} */
const NONE = ["", "none"];
/** @type {Record<string, [string, string]>} */
const PERSISTENCE = {
  source: ["source_address", "by the client's address"],
  cookie: ["cookie", "by a cookie's value"],
  node: ["node_cookie", "by a cookie that names the node"],
  path: ["path_parameter", "by a parameter of the path"],
  ssl: ["ssl_session", "by the TLS session"],
};

/** @param {Values} values */
const isPlain = (values) => values.kind === "plain";
/** @param {Values} values */
const isPlugin = (values) => PLUGIN_KINDS.includes(values.kind);
/** @param {...string} kinds @returns {(values: Values) => boolean} */
const persistsBy = (...kinds) => (values) => kinds.includes(values["persistence/kind"]);
const remembers = persistsBy("source_address", "cookie", "path_parameter", "ssl_session");

/** @param {Values} values @returns {[string, string][]} */
function persistenceOf({ kind }) {
  const { source, cookie, node, path, ssl } = /** @type {any} */ (PERSISTENCE);
  if (kind === "http") return [NONE, source, cookie, node, path];
  if (kind === "cookie") return [node, cookie];
  return kind === "ssl" ? [ssl, NONE, source] : [NONE, source];
}

/** @type {readonly Field[]} */
export const FIELDS = [
  { at: "name", label: "Name", kind: "text", needed: true, fixed: true, help: "Letters, digits and . _ : -" },
  { at: "address", label: "Address", kind: "text", needed: true, help: "IPv4 or IPv6 that clients connect to; * is any" },
  { at: "port", label: "Port", kind: "whole", needed: true, help: "1 to 65535; * is any" },
  { at: "protocol", label: "Protocol", kind: "choice", needed: true, choices: (values) => (isPlain(values) ? ["tcp", "udp"] : ["tcp"]) },
  { at: "kind", label: "Kind", kind: "choice", choices: KINDS, usual: "plain", help: "What decides where a connection goes" },
  { at: "application", label: "Application", kind: "choice", needed: true, shown: isPlugin, help: "The plug-in that reads its protocol" },
  { at: "pool", label: "Pool", kind: "choice", needed: true },
  { at: "hash", label: "Nodes are chosen", kind: "choice",
    choices: ({ kind }) => [["", "by the pool's method"], kind === "http" ? ["url", "by the URL: the same one, the same node"] : ["said", "by the key or database"]],
    shown: (values) => values.kind === "http" || isPlugin(values) },
  { at: "persistence/kind", label: "Persistence", kind: "choice", choices: persistenceOf, help: "A client comes back to its node" },
  { at: "persistence/cookie", label: "Cookie", kind: "text", needed: true, shown: persistsBy("cookie", "node_cookie"), help: "Its name" },
  { at: "persistence/parameter", label: "Path parameter", kind: "text", needed: true, shown: persistsBy("path_parameter"), help: "jsessionid, of /a;jsessionid=..." },
  { at: "persistence/timeout_s", label: "Persistence lasts (s)", kind: "whole", usual: 300, shown: remembers },
  { at: "persistence/group", label: "Persistence group", kind: "text", help: "Virtual servers of one group share it", shown: remembers },
  { at: "maintenance", label: "Maintenance", kind: "check", usual: false, help: "It takes no new flows." },
  { at: "rules", label: "Rules", kind: "part", shown: ({ kind }) => kind === "http" },
  { at: "fallback_pool", label: "Fallback pool", kind: "text", more: true, help: "Serves while no node of the pool does; empty: none" },
  { at: "forward_mode", label: "Forward mode", kind: "choice", usual: "nat", more: true, shown: isPlain, choices: [
    ["nat", "nat: addresses are translated"], ["l2", "l2: direct return on the link"], ["tunnel", "tunnel: direct return over routers"]] },
  { at: "source_translation/address", label: "Source translation", kind: "text", more: true,
    help: "Nodes see this address as the client", shown: (values) => values.forward_mode === "nat" || !isPlain(values) },
  { at: "source_translation/ports", label: "Its ports", kind: "text", usual: "1024-65535", more: true,
    shown: (values) => values["source_translation/address"] !== "" && (values.forward_mode === "nat" || !isPlain(values)) },
  { at: "next_hop", label: "Next hop", kind: "text", more: true, help: "Empty: by the routing table", shown: isPlain },
  { at: "app_limit", label: "Read at most (octets)", kind: "whole", usual: 0, more: true, help: "Of a request with its headers; 0: 16384",
    shown: (values) => !isPlain(values) },
  { at: "connection_limit", label: "Connection limit", kind: "whole", usual: 0, more: true, help: "0: none" },
  { at: "at_limit", label: "At the limit", kind: "choice", usual: "reset", choices: ["reset", "drop", "wait"], more: true },
  { at: "limit_wait_s", label: "Wait at the limit (s)", kind: "whole", usual: 5, more: true, shown: (values) => values.at_limit === "wait" },
  { at: "idle_timeout_s", label: "Idle timeout (s)", kind: "whole", usual: 0, more: true, help: "0: that of the settings" },
  GROUP,
  { at: "answer_arp", label: "Answer ARP", kind: "check", usual: true, more: true, help: "The DFS answers for the address on the link." },
];

/**
 * The fields, where the names of pools and plug-ins are known.
 * @param {readonly string[] | null} pools null: too many to choose from, they are typed
 * @param {readonly Application[]} applications
 * @param {import("./form_values.js").Part} rules how they are edited
 * @returns {readonly Field[]}
 */
export function fieldsWith(pools, applications, rules) {
  const offered = (/** @type {Values} */ { kind }) => applications.filter(({ kinds }) => kinds.includes(kind)).map(({ name }) => name);
  return FIELDS.map((field) => {
    if (field.at === "pool") return { ...field, ...(pools ? { choices: pools } : { kind: "text" }) };
    if (field.at === "application") return { ...field, choices: offered };
    return field.at === "rules" ? { ...field, part: rules } : field;
  });
}
