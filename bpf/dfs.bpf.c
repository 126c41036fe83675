// SPDX-License-Identifier: GPL-2.0-only
/* The data path of a Data Flow Segment.
 *
 *   packet -> parse -> ARP / neighbour discovery for virtual addresses
 *                   -> ICMP errors about flows
 *                   -> flow table    -> translate, count, send
 *                   -> virtual server -> up to the agent, which asks the Control Segment
 *                   -> everything else: the kernel, unchanged
 *
 * One program at three attach points: dfs_tc (clsact or tcx, ingress), dfs_xdp, and dfs_inject on
 * the agent's TAP device, where packets that waited for a decision are re-injected.
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
#include "endings.h"
#include "entries.h"
#include "filter.h"
#include "forward.h"
#include "grants.h"
#include "icmp.h"
#include "maps.h"
#include "neighbours.h"
#include "nodes.h"
#include "own.h"
#include "parse.h"
#include "shared.h"
#include "segment.h"
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
#define DECIDE -2 /* about a new flow; from where the stack has room for it */

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
 * may be anybody's; with direct return nobody sees what the node says. */
static __always_inline bool is_silent(struct packet *p, struct flow *f)
{
	struct flow_key key;
	struct flow *back;

	opposite_key(f, p->key.protocol, &key);
	back = bpf_map_lookup_elem(&flows, &key);
	if (!back)
		return false;
	if (!back->packets && is_half_open(f))
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
	if (!f || is_new_connection(p, f))
		return c->injected == INJECTED ? context_drop(c, COUNTER_DROP_INJECT_UNMATCHED) :
						 CALL(unmatched, c, p);
	if (f->bits & FLOW_FROM_INSIDE && f->serial != c->ifindex &&
	    CALL(reject_outside, c, p, f))
		return context_drop(c, COUNTER_DROP_RETURN_OUTSIDE);
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

static __always_inline int icmp(struct context *c, struct packet *p)
{
	struct flow_key key = {};
	struct quote q;
	struct flow *f;
	__u8 *h;

	context_pull(c, 256);
	h = context_at(c, p->l4, L4_MAX);
	if (!h || h + 8 > context_end(c))
		return pass(c);
	if (is_solicitation(c, p))
		return CALL(answer_solicitation, c, p);
	if (!is_error(p->version, h[0]) || !read_quote(c, p, &q))
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
	/* it has at most 576 or 1280 octets: nobody needs to fragment it, and its checksum covers all */
	if (p->fragment != WHOLE)
		return context_drop(c, COUNTER_DROP_FRAGMENT);
	return forward_error(c, p, &q, f);
}

GLOBAL_FUNCTION(icmp, (), ())

static __always_inline enum packet_kind parse_all(struct context *c, struct packet *p)
{
	enum packet_kind kind = parse(c, p);

	if (kind == KIND_SHORT && !c->xdp) {
		context_pull(c, 256);
		kind = parse(c, p);
	}
	return kind;
}

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
			return action == DECIDE ? context_drop(c, COUNTER_DROP_NO_ROUTE) : action;
		}
	}
	if (c->xdp)
		return asks(p->group_id) ? XDP_PASS : CALL(pass_up, c, p);
	action = ask_tc(SKB(c), p);
	return action == NOT_ASKED ? CALL(pass_up, c, p) : action;
}

/* `is_new`: the packet came in just now, and may begin a flow. */
static __always_inline int process(struct context *c, struct packet *p, bool is_new)
{
	enum packet_kind kind = parse_all(c, p);
	int action;

	switch (kind) {
	case KIND_TRANSPORT:
		action = CALL(transport, c, p);
		return is_new && action == DECIDE ? decide_new(c, p) : action;
	case KIND_ICMP:
		return c->injected ? pass(c) : CALL(icmp, c, p);
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
		/* another protocol, which comes back from the router if it is routed */
		if (p->version && !c->injected && !is_group_frame(c) && is_owned(p->key.dst))
			return context_drop(c, COUNTER_DROP_UNSERVED);
		return pass(c);
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

/* The agent writes the original ingress interface, and whether it may match no flow, over the MAC
 * addresses, which are not needed any more: they are overwritten when it leaves. */
SEC("tc")
int dfs_inject(struct __sk_buff *skb)
{
	struct context c = { .raw = skb };
	__u8 *data = (void *)(long)skb->data;
	struct making *made;
	__u32 zero = 0;

	if (data + 14 > (__u8 *)(long)skb->data_end)
		return TC_ACT_SHOT;
	c.injected = data[4] ? INJECTED_FRAGMENT : INJECTED;
	__builtin_memcpy(&c.ifindex, data + 8, 4);
	/* with those MAC addresses it is PACKET_OTHERHOST: before Linux 6.16 a packet that
	 * bpf_redirect_peer hands over keeps that type, and the receiver drops it */
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	made = bpf_map_lookup_elem(&making, &zero);
	return made ? process(&c, &made->packet, false) : TC_ACT_SHOT;
}

/* What comes in where CSs are reached: a REPLY that carries the packet which was asked about becomes
 * that packet again, and goes the way of any other. */
SEC("tc")
int dfs_ssmb(struct __sk_buff *skb)
{
	struct context c = { .raw = skb, .ifindex = skb->ifindex };
	struct packet p;
	int frame;

	if (skb->pkt_type == 3 /* PACKET_OTHERHOST */ || parse_all(&c, &p) != KIND_TRANSPORT ||
	    p.key.protocol != PROTOCOL_UDP)
		return TC_ACT_UNSPEC;
	frame = open_reply(skb, &p);
	if (frame == REPLY_LEFT)
		return TC_ACT_UNSPEC;
	if (frame == REPLY_DROPPED)
		return TC_ACT_SHOT;
	switch (enter_flow()) {
	case ENTERED_LEFT:
		return TC_ACT_UNSPEC;
	case ENTERED_STALE:
		count(COUNTER_REPLY_STALE);
		return TC_ACT_SHOT;
	case ENTERED:
		share_reply();
	}
	if (!frame || !unpack_frame(skb, &p, frame))
		return TC_ACT_SHOT;
	c.ifindex = arrival_of(skb);
	c.injected = INJECTED;
	return process(&c, &p, false);
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
	struct packet p;
	struct flow *f;
	__u32 zero = 0;
	int action;

	if (skb->pkt_type || parse_all(&c, &p) != KIND_TRANSPORT || p.fragment != WHOLE ||
	    (p.key.protocol == PROTOCOL_TCP && !is_syn(&p)))
		return TC_ACT_UNSPEC;
	f = bpf_map_lookup_elem(&flows, &p.key);
	interface = interface_at(c.ifindex);
	made = bpf_map_lookup_elem(&making, &zero);
	if ((f && !is_new_connection(&p, f)) || !interface || !made)
		return TC_ACT_UNSPEC;
	server = match(&p, interface->flags & INTERFACE_EXTERNAL, &made->server);
	if (!server || server->flags & VIRTUAL_SERVER_BRIDGED || !asks(server->group_id))
		return TC_ACT_UNSPEC;
	p.group_id = server->group_id;
	action = ask_tc(skb, &p);
	return action == NOT_ASKED ? pass_up_tc(skb, &p) : action;
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
