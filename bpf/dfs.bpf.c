// SPDX-License-Identifier: GPL-2.0-only
/* The data path of a Data Flow Segment.
 *
 *   packet -> parse -> ARP / neighbour discovery for virtual addresses
 *                   -> ICMP errors about flows
 *                   -> flow table    -> translate, count, send
 *                   -> virtual server -> up to the agent, which asks the Control Segment
 *                   -> everything else: the kernel, unchanged
 *
 * One program at three attach points: dfs_tc (clsact or tcx, ingress), dfs_xdp, and dfs_back where
 * packets that waited for a decision come back: on the agent's TAP device, and in REPLYs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "answer.h"
#include "ask.h"
#include "context.h"
#include "cookie.h"
#include "endings.h"
#include "entries.h"
#include "filter.h"
#include "forward.h"
#include "grants.h"
#include "held.h"
#include "icmp.h"
#include "maps.h"
#include "neighbours.h"
#include "nodes.h"
#include "own.h"
#include "parse.h"
#include "proxy.h"
#include "shared.h"
#include "segment.h"
#include "splice.h"
#include "ssmb.h"
#include "sums.h"
#include "upcall.h"
#include "upgrade.h"

#define FRAGMENT_LIFETIME_NS 30000000000ull /* as long as Linux keeps fragments, ipfrag_time */

/* The least between two questions about one flow: clients repeat a SYN after a second, and a flood
 * of one flow's SYNs shall not reach the agent. */
#define ASK_AGAIN_NS 200000000ull
/* For how long a node that answered before has said nothing when it is sent a SYN that it does not
 * answer.  A living one answers (RFC 5961 4), though not every SYN: Linux one in half a second. */
#define SILENT_NS 1000000000ull
#define GO_ON -1
/* what is done from where the stack has room for it */
#define DECIDE -2 /* about a new flow */
#define PROXY -3 /* of no flow, to a proxied virtual server */

static __always_inline struct virtual_server *match(struct packet *p, bool is_external,
						    struct virtual_server_key *key)
{
	struct virtual_server *found;

	__builtin_memset(key, 0, sizeof(*key));
	key->protocol = p->key.protocol;
	__builtin_memcpy(key->address, p->key.dst, 16);
	key->port = p->key.dport;
	found = match_port(key);
	if (found)
		return found;
	/* nodes may be clients too, but wildcards are for those outside */
	if (!is_external || is_martian(p->version, p->key.dst) ||
	    bpf_map_lookup_elem(&local_addresses, p->key.dst))
		return NULL;
	__builtin_memset(key->address, 0, 16);
	key->port = p->key.dport;
	found = match_port(key);
	return found && is_answer(p) ? NULL : found;
}

static __always_inline void fragment_key_of(struct packet *p, struct fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->src, p->key.src, 16);
	__builtin_memcpy(key->dst, p->key.dst, 16);
	key->id = p->fragment_id;
	key->protocol = p->key.protocol;
}

static __always_inline void note_fragment(struct packet *p)
{
	struct fragment value = {
		.sport = p->key.sport,
		.dport = p->key.dport,
		.seen = bpf_ktime_get_coarse_ns(),
	};
	struct fragment_key key;

	fragment_key_of(p, &key);
	bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

static __always_inline bool ports_of_fragment(struct packet *p)
{
	struct fragment_key key;
	struct fragment *first;

	fragment_key_of(p, &key);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || first->seen + FRAGMENT_LIFETIME_NS < bpf_ktime_get_coarse_ns())
		return false;
	p->key.sport = first->sport;
	p->key.dport = first->dport;
	return true;
}

static __always_inline int pass(struct context *c)
{
	if (c->injected == INJECTED)
		return context_drop(c, COUNTER_DROP_INJECT_UNMATCHED);
	if (c->injected) { /* it enters where it came from, and is passed there */
		struct interface *interface = interface_at(c->ifindex);

		if (!interface || !set_macs(c, interface->mac, interface->mac))
			return context_drop(c, COUNTER_DROP_INJECT_UNMATCHED);
		return bpf_redirect(c->ifindex, BPF_F_INGRESS);
	}
	count(COUNTER_PASSED);
	return context_pass(c);
}

/* A node goes on with a connection that was idle for so long that its flow is gone: its packet must
 * not leave with the node's own address. */
static __always_inline bool is_asleep(struct interface *interface, struct packet *p)
{
	return interface->flags & INTERFACE_INTERNAL && p->key.protocol == PROTOCOL_TCP &&
	       (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN &&
	       bpf_map_lookup_elem(&asleep, &p->key);
}

/* A client opens a connection to a node itself from a port that it uses for a virtual server on that
 * node: the node's answers would be taken for that flow's. */
static __always_inline bool collides(struct packet *p)
{
	struct flow_key key = {
		.sport = p->key.dport,
		.dport = p->key.sport,
		.protocol = PROTOCOL_TCP,
	};
	struct flow *back;

	if (!is_syn(p) || !is_listening())
		return false;
	__builtin_memcpy(key.src, p->key.dst, 16);
	__builtin_memcpy(key.dst, p->key.src, 16);
	back = bpf_map_lookup_elem(&flows, &key);
	return back && back->bits & FLOW_RETURN &&
	       (back->new_sport != p->key.dport || !same_address(back->new_src, p->key.dst));
}

/* Nobody sends a SYN with one of the others; a node may take either for the one that counts. */
static __always_inline bool is_contradictory(struct packet *p)
{
	return p->key.protocol == PROTOCOL_TCP && p->tcp_flags & TCP_SYN &&
	       p->tcp_flags & (TCP_FIN | TCP_RST);
}

/* No flow: addressed to a virtual server, opened by the internal side, or left to the kernel. */
static __always_inline int unmatched(struct context *c, struct packet *p)
{
	struct interface *interface = interface_at(c->ifindex);
	struct virtual_server *server = NULL;
	__u8 reason = REASON_OUTBOUND;
	struct meta *m;
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);

	if (!interface || !made)
		return pass(c);
	if (is_asleep(interface, p)) {
		reason = REASON_ASLEEP;
	} else if (collides(p)) {
		reason = REASON_COLLISION;
	} else if (!is_group_frame(c)) {
		server = match(p, interface->flags & INTERFACE_EXTERNAL, &made->server);
		if (server)
			reason = server->flags & VIRTUAL_SERVER_BRIDGED ? REASON_BRIDGED :
									  REASON_NEW_FLOW;
		else if (is_owned(p->key.dst))
			reason = REASON_UNSERVED;
		/* behind a one-armed interface a node may answer from a virtual address itself */
		if ((reason != REASON_OUTBOUND || !(interface->flags & INTERFACE_INTERNAL)) &&
		    is_ours(p->key.src))
			return context_drop(c, COUNTER_DROP_OWN_SOURCE);
		if (reason != REASON_OUTBOUND) {
			if (is_from_group(c))
				return context_drop(c, COUNTER_DROP_GROUP_SOURCE);
			if (is_martian(p->version, p->key.src) || is_broadcast(p->key.src))
				return context_drop(c, COUNTER_DROP_MARTIAN);
			if (is_contradictory(p))
				return context_drop(c, COUNTER_DROP_TCP_FLAGS);
			if (CALL(is_from_elsewhere, c, p))
				return context_drop(c, COUNTER_DROP_REVERSE_PATH);
		}
		if (reason == REASON_UNSERVED && !may_answer(QUIET_UNSERVED, RATE_UNSERVED))
			return context_drop(c, COUNTER_DROP_UNSERVED);
		if (reason == REASON_BRIDGED && !may_notify(RATE_BRIDGED))
			return context_drop(c, COUNTER_DROP_BRIDGED);
	}
	if (server && server->flags & VIRTUAL_SERVER_PROXIED && p->key.protocol == PROTOCOL_TCP &&
	    reason == REASON_NEW_FLOW) {
		if (c->injected || p->fragment != WHOLE)
			return context_drop(c, COUNTER_DROP_FRAGMENT);
		p->group_id = server->group_id;
		p->app_type = server->app_type;
		return PROXY;
	}
	/* also of what is nobody's, from the internal side: its later ones need not wait */
	if (p->fragment == FIRST_FRAGMENT &&
	    (reason != REASON_OUTBOUND || interface->flags & INTERFACE_INTERNAL))
		note_fragment(p);
	if (reason == REASON_OUTBOUND && !is_group_frame(c)) {
		int answer = CALL(whose, c, p);

		if (answer == A_NODES_TO_DROP)
			return context_drop(c, COUNTER_DROP_NODE_UNKNOWN);
		if (answer == A_NODES)
			return up_call(c, p, REASON_OF_NODE, NULL);
	}
	m = bpf_map_lookup_elem(&meta, &zero);
	if (reason == REASON_OUTBOUND &&
	    (!m || !m->outbound_query || !(interface->flags & INTERFACE_INTERNAL) ||
	     bpf_map_lookup_elem(&local_addresses, p->key.dst))) {
		if (interface->flags & INTERFACE_INTERNAL)
			CALL(note_outgoing, c, p);
		return pass(c);
	}
	if (reason == REASON_NEW_FLOW && server && !c->injected && p->fragment == WHOLE &&
	    (p->key.protocol != PROTOCOL_TCP || is_syn(p))) {
		p->group_id = server->group_id;
		return DECIDE;
	}
	return up_call(c, p, reason, server ? &made->server : NULL);
}

GLOBAL_FUNCTION(unmatched, (), ())

/* A new flow's packet that the program does not ask about itself; its virtual server lies in `making`. */
static __always_inline int pass_up(struct context *c, struct packet *p)
{
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);

	return made ? up_call(c, p, REASON_NEW_FLOW, &made->server) : pass(c);
}

GLOBAL_FUNCTION(pass_up, (), ())

/* A client's SYN on an entry that only lingers opens another connection. */
static __always_inline bool is_new_connection(struct packet *p, struct flow *f)
{
	return f->close & CLOSE_CLOSED && !(f->bits & FLOW_RETURN) && is_syn(p);
}

/* Packets of the return direction come from the internal side, or from where the client's packets
 * leave to the node: what comes from elsewhere is made up.  The interface is noted, so that only
 * the first packet is looked at. */
static __always_inline bool is_from_inside(struct context *c, struct packet *p, struct flow *f)
{
	struct interface *interface = interface_at(c->ifindex);
	struct flow_key key;
	struct flow *home;

	if (!interface || !(interface->flags & INTERFACE_INTERNAL)) {
		opposite_key(f, p->key.protocol, &key);
		home = bpf_map_lookup_elem(&flows, &key);
		if (!home || home->fib_ifindex != c->ifindex)
			return false;
	}
	f->serial = c->ifindex;
	return true;
}

static __always_inline int reject_outside(struct context *c, struct packet *p, struct flow *f)
{
	return !f || !is_from_inside(c, p, f);
}

GLOBAL_FUNCTION(reject_outside, (struct flow *f), (f))

/* A later fragment whose first one is not known.  A flow may be meant if it is addressed to a virtual
 * server or comes from the internal side; anybody else's is routed by the kernel. */
static __always_inline int early_fragment(struct context *c, struct packet *p)
{
	struct interface *interface;

	if (c->injected)
		return context_drop(c, COUNTER_DROP_FRAGMENT);
	if (bpf_map_lookup_elem(&addresses, p->key.dst))
		return CALL(hold_fragment, c, p);
	interface = interface_at(c->ifindex);
	if (!interface || !(interface->flags & INTERFACE_INTERNAL) || is_group_frame(c) ||
	    bpf_map_lookup_elem(&local_addresses, p->key.dst))
		return pass(c);
	return CALL(hold_fragment, c, p);
}

/* Whether a node may be dead: it has never answered, or not the SYN before this one.  One SYN alone
 * may be anybody's, but before the handshake is complete there is nothing to lose by it; with direct
 * return nobody sees what the node says. */
static __always_inline bool is_silent(struct packet *p, struct flow *f)
{
	struct flow_key key;
	struct flow *back;

	opposite_key(f, p->key.protocol, &key);
	back = bpf_map_lookup_elem(&flows, &key);
	if (!back)
		return false;
	if (is_half_open(f) &&
	    (!back->packets || back->last_seen + SILENT_NS <= bpf_ktime_get_coarse_ns()))
		return true;
	return f->bits & FLOW_SYN_LAST &&
	       (!back->packets || back->last_seen + SILENT_NS <= f->last_seen);
}

/* A client's SYN on a living entry: if the node is silent, the agent asks the CS, and puts the SYN
 * back or sends it elsewhere. */
static __always_inline int ask_again(struct context *c, struct packet *p, struct flow *f)
{
	struct virtual_server_key key;
	struct virtual_server *server;

	if (!f || !f->packets || f->last_seen + ASK_AGAIN_NS > bpf_ktime_get_coarse_ns() ||
	    !is_silent(p, f) || !is_listening())
		return GO_ON;
	server = match(p, true, &key);
	if (!server || server->flags & VIRTUAL_SERVER_BRIDGED)
		return GO_ON;
	return up_call(c, p, REASON_UNANSWERED, &key);
}

GLOBAL_FUNCTION(ask_again, (struct flow *f), (f))

static __always_inline int transport(struct context *c, struct packet *p)
{
	int action;
	struct flow *f;

	if (p->fragment == LATER_FRAGMENT && !ports_of_fragment(p))
		return early_fragment(c, p);
	f = bpf_map_lookup_elem(&flows, &p->key);
	if (is_source_routed(c, p) && (f || bpf_map_lookup_elem(&addresses, p->key.dst)))
		return context_drop(c, COUNTER_DROP_SOURCE_ROUTED);
	if (!f || is_new_connection(p, f) ||
	    (f->close & CLOSE_CLOSED && f->bits & FLOW_OFFSETS && !(f->bits & FLOW_RETURN) &&
	     CALL(begins_anew, c, p, f)))
		return c->injected == INJECTED || c->injected == INJECTED_SYN ?
			       context_drop(c, COUNTER_DROP_INJECT_UNMATCHED) :
			       CALL(unmatched, c, p);
	if (f->bits & FLOW_FROM_INSIDE && f->serial != c->ifindex &&
	    CALL(reject_outside, c, p, f))
		return context_drop(c, COUNTER_DROP_RETURN_OUTSIDE);
	if (f->bits & FLOW_HELD && c->injected != INJECTED_SYN)
		return held(c, p, f);
	if (is_syn(p) && !c->injected && !(f->bits & FLOW_RETURN)) {
		action = CALL(ask_again, c, p, f);
		if (action != GO_ON)
			return action;
	}
	if (p->fragment == FIRST_FRAGMENT)
		note_fragment(p);
	return forward_flow(c, p, f);
}

GLOBAL_FUNCTION(transport, (), ())

static __always_inline int of_no_flow(struct context *c, struct packet *p)
{
	return !is_group_frame(c) && is_owned(p->key.dst) ? CALL(answer_echo, c, p) : pass(c);
}

/* An error from the internal side about a flow that fell asleep: it has a node's address, and nobody
 * knows the translation. */
static __always_inline bool is_of_sleeping(struct context *c, struct flow_key *key)
{
	struct interface *interface = interface_at(c->ifindex);

	return interface && interface->flags & INTERFACE_INTERNAL &&
	       bpf_map_lookup_elem(&asleep, key);
}

/* The first fragment; the later ones follow it. */
static __always_inline int drop_fragmented_error(struct context *c, struct packet *p)
{
	note_fragment(p);
	return context_drop(c, COUNTER_DROP_FRAGMENT);
}

GLOBAL_FUNCTION(drop_fragmented_error, (), ())

/* It has a node's address, or quotes one, so that nobody outside gets it. */
static __always_inline int would_leave(struct context *c, struct packet *p)
{
	struct interface *interface = interface_at(c->ifindex);

	if (is_group_frame(c) || is_owned(p->key.dst) || !interface ||
	    !(interface->flags & INTERFACE_INTERNAL) ||
	    bpf_map_lookup_elem(&local_addresses, p->key.dst))
		return false;
	if (p->fragment == FIRST_FRAGMENT)
		note_fragment(p);
	return true;
}

GLOBAL_FUNCTION(would_leave, (), ())

static __always_inline int icmp(struct context *c, struct packet *p)
{
	struct flow_key key = {};
	enum quote_result quoted;
	struct quote q;
	struct flow *f;
	__u8 *h;

	context_pull(c, 256);
	h = context_at(c, p->l4, L4_MAX);
	if (!h || h + 8 > context_end(c))
		return pass(c);
	if (is_solicitation(c, p))
		return CALL(answer_solicitation, c, p);
	quoted = is_error(p->version, h[0]) ? read_quote(c, p, &q) : QUOTE_OTHER;
	if (quoted == QUOTE_UNREADABLE && CALL(would_leave, c, p))
		return context_drop(c, COUNTER_DROP_ICMP_UNREADABLE);
	if (quoted != QUOTE_READ)
		return of_no_flow(c, p);
	__builtin_memcpy(key.src, q.key.dst, 16);
	__builtin_memcpy(key.dst, q.key.src, 16);
	key.sport = q.key.dport;
	key.dport = q.key.sport;
	key.protocol = q.key.protocol;
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		return is_of_sleeping(c, &key) ? context_drop(c, COUNTER_DROP_ASLEEP) :
						 of_no_flow(c, p);
	if (is_martian(p->version, p->key.src))
		return context_drop(c, COUNTER_DROP_MARTIAN);
	if (f->bits & FLOW_HELD && p->fragment == WHOLE) {
		note_holder(p, f, &key);
		return HOLD;
	}
	/* it has at most 576 or 1280 octets: nobody needs to fragment it, and its checksum covers all */
	if (p->fragment != WHOLE)
		return CALL(drop_fragmented_error, c, p);
	return forward_error(c, p, &q, f);
}

GLOBAL_FUNCTION(icmp, (), ())

/* A new flow: by a decision that was made ahead, or by the CS, which the program asks or the agent. */
static __always_inline int decide_new(struct context *c, struct packet *p)
{
	struct interface *interface = interface_at(c->ifindex);
	bool is_inside = !interface || interface->flags & INTERFACE_INTERNAL;
	int action;

	if (has_grants()) {
		if (!CALL(sum_is_right, c, p))
			return context_drop(c, COUNTER_DROP_CHECKSUM);
		if (take_grant(p, is_inside) == GRANT_USED) {
			action = CALL(transport, c, p);
			/* the flow has gone again meanwhile */
			return action <= DECIDE ? context_drop(c, COUNTER_DROP_NO_ROUTE) : action;
		}
	}
	if (c->xdp)
		return asks(p->group_id) ? XDP_PASS : CALL(pass_up, c, p);
	action = ask_tc(SKB(c), p);
	return action == NOT_ASKED ? CALL(pass_up, c, p) : action;
}

/* What a client says first, with a cookie: the CS is asked by the program, or by the agent. */
static __always_inline int ask_about_content(struct context *c, struct packet *p)
{
	int action;

	if (c->xdp)
		return XDP_PASS;
	action = ask_app_tc(SKB(c), p);
	return action == NOT_ASKED ? CALL(pass_proxied, c, p) : action;
}

/* Whether dfs_behind_xdp can complete the handshake of the flow that was noted. */
static __always_inline bool is_joined_behind(void)
{
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);
	struct flow *home = made ? bpf_map_lookup_elem(&flows, &made->decision.key) : NULL;

	return home && home->flags & SSMB_PARKED && asks(home->group_id);
}

/* A node's SYN-ACK on a held flow. */
static __always_inline int join_both(struct context *c, struct packet *p)
{
	int action;

	if (c->xdp)
		return is_joined_behind() ? XDP_PASS : CALL(hold, c, p);
	action = join(SKB(c), p);
	if (action == HOLD)
		return CALL(hold, c, p);
	return action == JOINED ? CALL(transport, c, p) : action;
}

/* What `transport` and `icmp` leave to be done from here. */
static __always_inline int finish(struct context *c, struct packet *p, int action)
{
	switch (action) {
	case DECIDE:
		return decide_new(c, p);
	case PROXY:
		action = CALL(proxied, c, p);
		return action == ASK_CONTENT ? ask_about_content(c, p) : action;
	case HOLD:
		return CALL(hold, c, p);
	case JOIN:
		return join_both(c, p);
	default:
		return action;
	}
}

/* Another protocol, which comes back from the router if it is routed to an address of ours; or a later
 * fragment of an error whose first one was dropped, and whose addresses it has. */
static __always_inline int other(struct context *c, struct packet *p)
{
	bool is_icmp = p->key.protocol == PROTOCOL_ICMP || p->key.protocol == PROTOCOL_ICMPV6;

	if (is_icmp && p->fragment == LATER_FRAGMENT && ports_of_fragment(p))
		return context_drop(c, COUNTER_DROP_FRAGMENT);
	if (p->version && !c->injected && !is_group_frame(c) && is_owned(p->key.dst))
		return context_drop(c, COUNTER_DROP_UNSERVED);
	return pass(c);
}

GLOBAL_FUNCTION(other, (), ())

/* `is_new`: the packet came in just now, and may begin a flow. */
static __always_inline int process(struct context *c, struct packet *p, bool is_new)
{
	enum packet_kind kind = parse_all(c, p);
	int action;

	switch (kind) {
	case KIND_TRANSPORT:
		action = CALL(transport, c, p);
		return is_new && action <= DECIDE ? finish(c, p, action) : action;
	case KIND_ICMP:
		if (!is_new)
			return pass(c);
		action = CALL(icmp, c, p);
		return action == HOLD ? CALL(hold, c, p) : action;
	case KIND_ARP:
		return c->injected ? pass(c) : CALL(answer_arp, c, p);
	case KIND_TAGGED: /* the kernel takes the tag off and gives it to the VLAN's interface */
		count(COUNTER_TAGGED);
		return context_pass(c);
	case KIND_MAPPED:
		return context_drop(c, COUNTER_DROP_MAPPED);
	case KIND_MALFORMED:
	case KIND_SHORT:
		return context_drop(c, COUNTER_DROP_MALFORMED);
	default:
		return CALL(other, c, p);
	}
}

SEC("tc")
int dfs_tc(struct __sk_buff *skb)
{
	struct context c = { .raw = skb, .ifindex = skb->ifindex };
	struct packet p;

	if (skb->pkt_type == 3 /* PACKET_OTHERHOST */) {
		count(COUNTER_LOCAL);
		return TC_ACT_UNSPEC;
	}
	return process(&c, &p, true);
}

static __always_inline int again(struct context *c, struct packet *p)
{
	return process(c, p, false);
}

GLOBAL_FUNCTION(again, (), ())

#define COMES_BACK 100 /* no verdict of tc */

/* The agent writes the original ingress interface, and whether it may match no flow, over the MAC
 * addresses, which are not needed any more: they are overwritten when it leaves. */
static __always_inline int of_agent(struct __sk_buff *skb, struct context *c)
{
	__u8 *data = (void *)(long)skb->data;

	if (data + 14 > (__u8 *)(long)skb->data_end)
		return TC_ACT_SHOT;
	c->injected = data[4] ? INJECTED_FRAGMENT : INJECTED;
	__builtin_memcpy(&c->ifindex, data + 8, 4);
	/* with those MAC addresses it is PACKET_OTHERHOST: before Linux 6.16 a packet that
	 * bpf_redirect_peer hands over keeps that type, and the receiver drops it */
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return COMES_BACK;
}

/* Whether the decision in `making` is of the short way. */
static __always_inline bool was_short(void)
{
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);

	return made && made->decision.is_short;
}

__noinline int parse_again(struct __sk_buff *skb, struct packet *p)
{
	struct context c = { .raw = skb };

	return p ? parse_all(&c, p) : KIND_MALFORMED;
}

/* A REPLY that carries the packet which was asked about becomes that packet again, or the SYN to its
 * node. */
static __always_inline int of_reply(struct __sk_buff *skb, struct context *c, struct packet *p)
{
	int frame;

	if (skb->pkt_type == 3 /* PACKET_OTHERHOST */ || parse_all(c, p) != KIND_TRANSPORT ||
	    p->key.protocol != PROTOCOL_UDP)
		return TC_ACT_UNSPEC;
	frame = open_reply(skb, p);
	if (frame == REPLY_LEFT)
		return TC_ACT_UNSPEC;
	if (frame == REPLY_DROPPED)
		return TC_ACT_SHOT;
	switch (enter_flow()) {
	case ENTERED_LEFT:
		return TC_ACT_UNSPEC;
	case ENTERED_BEFORE: /* of the short way: its client said it again before the first REPLY */
		if (!was_short())
			break;
		/* fall through */
	case ENTERED_STALE:
		count(COUNTER_REPLY_STALE);
		return TC_ACT_SHOT;
	case ENTERED:
		share_reply();
	}
	if (!frame || !unpack_frame(skb, p, frame))
		return TC_ACT_SHOT;
	c->ifindex = arrival_of(skb);
	c->injected = INJECTED;
	if (!was_short())
		return COMES_BACK;
	c->injected = INJECTED_SYN;
	if (parse_again(skb, p) != KIND_TRANSPORT || p->key.protocol != PROTOCOL_TCP ||
	    !become_syn(skb, p, frame)) {
		count(COUNTER_DROP_NO_ROOM);
		return TC_ACT_SHOT;
	}
	return COMES_BACK;
}

/* What waited for a decision comes back from the agent, by its TAP device, or in what comes in where
 * CSs are reached, and goes the way of any other packet.  One program for both: the kernel checks
 * all that a program calls anew for each program. */
SEC("tc")
int dfs_back(struct __sk_buff *skb)
{
	struct context c = { .raw = skb, .ifindex = skb->ifindex };
	struct interface *interface = interface_at(skb->ifindex);
	struct making *made;
	__u32 zero = 0;
	int action;

	made = bpf_map_lookup_elem(&making, &zero);
	if (!made)
		return TC_ACT_UNSPEC;
	if (interface && interface->flags & INTERFACE_TAP)
		action = of_agent(skb, &c);
	else
		action = of_reply(skb, &c, &made->packet);
	if (action != COMES_BACK)
		return action;
	made->packet.ifindex = c.ifindex;
	made->packet.injected = c.injected;
	return CALL(again, &c, &made->packet);
}

/* Behind dfs_xdp, which has no flow for a packet and passes it up: the question is asked here, where a
 * packet can grow.  XDP has looked at everything else. */
SEC("tc")
int dfs_behind_xdp(struct __sk_buff *skb)
{
	struct context c = { .raw = skb, .ifindex = skb->ifindex };
	struct virtual_server *server;
	struct interface *interface;
	struct making *made;
	struct packet *p;
	struct flow *f;
	__u32 zero = 0;
	int action;

	made = bpf_map_lookup_elem(&making, &zero);
	if (!made)
		return TC_ACT_UNSPEC;
	p = &made->packet;
	if (skb->pkt_type || parse_all(&c, p) != KIND_TRANSPORT || p->fragment != WHOLE)
		return TC_ACT_UNSPEC;
	f = bpf_map_lookup_elem(&flows, &p->key);
	if (f && f->bits & FLOW_HELD && may_join(p, f)) {
		note_holder(p, f, &p->key);
		return join_both(&c, p);
	}
	interface = interface_at(c.ifindex);
	if ((f && !(f->close & CLOSE_CLOSED)) || !interface)
		return TC_ACT_UNSPEC;
	server = match(p, interface->flags & INTERFACE_EXTERNAL, &made->server);
	if (!server || server->flags & VIRTUAL_SERVER_BRIDGED || !asks(server->group_id))
		return TC_ACT_UNSPEC;
	p->group_id = server->group_id;
	if (p->key.protocol == PROTOCOL_TCP && server->flags & VIRTUAL_SERVER_PROXIED) {
		p->app_type = server->app_type;
		return is_request(p) && has_something_to_say(p) && has_cookie_tc(skb, p) ?
			       ask_about_content(&c, p) :
			       TC_ACT_UNSPEC;
	}
	if ((p->key.protocol == PROTOCOL_TCP && !is_syn(p)) || (f && !is_new_connection(p, f)))
		return TC_ACT_UNSPEC;
	action = ask_tc(skb, p);
	return action == NOT_ASKED ? pass_up_tc(skb, p) : action;
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return *(__u16 *)a == *(__u16 *)b && *(__u16 *)(a + 2) == *(__u16 *)(b + 2) &&
	       *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

SEC("xdp")
int dfs_xdp(struct xdp_md *xdp)
{
	struct context c = { .raw = xdp, .ifindex = xdp->ingress_ifindex, .xdp = true };
	__u8 *data = context_data(&c);
	struct interface *interface;
	struct packet p;

	if (data + 14 > context_end(&c))
		return context_drop(&c, COUNTER_DROP_MALFORMED);
	if (!(data[0] & 1)) { /* a NIC in promiscuous mode receives other hosts' frames */
		interface = interface_at(c.ifindex);
		if (interface && !same_mac(data, interface->mac)) {
			count(COUNTER_LOCAL);
			return XDP_PASS;
		}
	}
	return process(&c, &p, true);
}

char LICENSE[] SEC("license") = "GPL";
