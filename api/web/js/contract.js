// SPDX-License-Identifier: Apache-2.0
/**
 * What the API answers, as far as the page reads it (docs/api.md, admin/answers.py).
 *
 * @typedef {{who: string, role: "viewer" | "operator" | "admin", expires_at?: number}} Session
 *
 * @typedef {object} NodeBody
 * @property {string} name
 * @property {string} address
 * @property {number} [port]
 * @property {number} [weight]
 * @property {number} [connection_limit]
 * @property {"enabled" | "draining" | "down"} [state]
 *
 * @typedef {{name: string, method?: string, monitors?: string[], nodes?: NodeBody[]} & Record<string, unknown>} PoolBody
 * @typedef {{name: string, address: string, port: number | "*", protocol: string, pool: string, maintenance?: boolean} & Record<string, unknown>} VirtualServerBody
 * @typedef {{name: string, kind?: string} & Record<string, unknown>} MonitorBody
 *
 * @typedef {object} RuleBody
 * @property {string} name
 * @property {Record<string, any>} match lists by host, path, path_prefix and method, a text by path_regex, and
 *   values by name by header, query and cookie
 * @property {string | null} [pool]
 * @property {boolean} [refuse]
 *
 * @typedef {object} Tried what a request would come to
 * @property {string} request
 * @property {{rule: string, why: string}[]} passed
 * @property {string | null} rule null: none matches
 * @property {string | null} pool null: it is refused
 * @property {string | null} node
 * @property {string} how
 *
 * @typedef {{name: string, kinds: string[], hashed: string}} Application a plug-in
 *
 * @typedef {object} LiveNode
 * @property {string} pool
 * @property {string} name
 * @property {string} address
 * @property {number} port
 * @property {number} weight
 * @property {string} state
 * @property {number} active
 * @property {number} total
 * @property {number} connections_per_second
 * @property {number | null} response_ms
 * @property {number} bytes_in
 * @property {number} bytes_out
 * @property {string | null} [health] up, down, unknown; null: no monitor looks at it
 * @property {string} [health_reason]
 * @property {boolean} [in_reserve] enough nodes of higher priorities take new sessions
 * @property {number | null} [ejected_for_ms] null: it is not ejected
 * @property {string} [ejection_reason]
 * @property {string} [segment]
 *
 * @typedef {object} LiveVirtualServer
 * @property {string | null} name
 * @property {number | null} active
 * @property {number | null} total
 * @property {number | null} refused
 * @property {{name: string, pool: string | null, matched: number}[] | null} [rules] in their order; null: it is plain
 * @property {number | null} [unmatched] connections for which no rule held
 * @property {number | null} [unreadable] connections refused for what they said
 * @property {string} [segment]
 *
 * @typedef {object} Attention of all pools and nodes
 * @property {number} pools
 * @property {number} connections_per_second
 * @property {number} failing
 * @property {string[]} failing_nodes pool/node, the first ones
 * @property {number} unserved
 * @property {string[]} unserved_pools the first ones
 * @property {{pool: string, connections_per_second: number, nodes: number}[]} busiest
 *
 * @typedef {object} Flow
 * @property {string} client
 * @property {string} vip
 * @property {string} protocol
 * @property {number} serial
 * @property {number} data_flow_segment
 * @property {string | null} node
 * @property {string | null} node_name
 * @property {string | null} virtual_server
 * @property {string} state
 * @property {string | null} [kind] of its virtual server, as a CS says
 * @property {boolean | null} [spliced] null: a plain flow
 * @property {number} opened_ms
 * @property {number | null} idle_ms
 * @property {number} bytes_in
 * @property {number} bytes_out
 * @property {string} [segment]
 *
 * @typedef {object} Segment
 * @property {string} name cs-1
 * @property {"cs" | "dfs"} role
 * @property {number} segment_id
 * @property {number | null} group_id
 * @property {string} host
 * @property {string} address
 * @property {string} release
 * @property {number} since
 * @property {boolean} connected
 * @property {number | null} generation
 * @property {number | null} refused
 * @property {string[]} problems
 * @property {string} status
 * @property {Record<string, any> | null} [state] what it answers to `status`
 *
 * @typedef {object} Happened
 * @property {number} id
 * @property {number} at
 * @property {"info" | "warning" | "error"} severity
 * @property {string} kind
 * @property {string} what
 * @property {string | null} segment
 * @property {Record<string, string>} subject
 *
 * @typedef {object} Changed
 * @property {string} kind
 * @property {string} name
 * @property {number} [group_id]
 * @property {Record<string, unknown> | null} before
 * @property {Record<string, unknown> | null} after
 *
 * @typedef {object} Generation
 * @property {number} number
 * @property {number} at
 * @property {string} who
 * @property {string} how
 * @property {string} comment
 * @property {number} [count] in a list: resources that it changed
 * @property {Changed[]} [changes] of one, the first ones
 */

export {};
