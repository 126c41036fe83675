/* SPDX-License-Identifier: GPL-2.0-only */
/* The short way of content-aware flows (docs/design/0012-content.md): the REPLY to an APP_QUERY of the
 * program's own becomes the SYN to the node, and the node's SYN-ACK the ACK with what the client said.
 * Who takes a request out of the map has the connection: the program, or by `hand_over` the agent.
 */
#ifndef SPLITPLANE_SPLICE_H
#define SPLITPLANE_SPLICE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "answer.h"
#include "ask.h"
#include "context.h"
#include "cookie.h"
#include "entries.h"
#include "maps.h"
#include "parse.h"
#include "proxy.h"
#include "segment.h"
#include "shared.h"
#include "ssmb.h"
#include "sums.h"
#include "upcall.h"

/* what is done from where the stack has room for it */
#define HOLD -4 /* by `hold` */
#define JOIN -6 /* by `join` */
#define JOINED -7 /* the packet is another one now, and goes through the flow's entry */

#define MSS_DEFAULT 536 /* RFC 9293 3.7.1 */
#define MSS_MIN 216 /* as splicing/node_side.py has it */
#define REQUEST_AT                                                                               \
	(PARKED_AT - offsetof(struct request, frame)) /* over what was read of a REPLY */

_Static_assert(sizeof(struct request) == 536,
	       "as data_flow_segment/targets/bpf/layout.py packs it");
_Static_assert(REQUEST_FRAME == SSMB_FRAME_MAX, "any frame that comes back");

/* The entries of splicing/cookies.py's table. */
static __always_inline __u16 mss_of(__u32 facts)
{
	switch (facts >> COOKIE_MSS_SHIFT & 7) {
	case 0:
		return 536;
	case 1:
		return 1220;
	case 2:
		return 1300;
	case 3:
		return 1360;
	case 4:
		return 1400;
	case 5:
		return 1440;
	case 6:
		return 1460;
	default:
		return 8900;
	}
}

static __always_inline __u8 scale_of(__u32 facts)
{
	return facts >> COOKIE_SCALE_SHIFT & 15;
}

/* Whether the program is to complete the handshake with the node of this client's flow. */
static __always_inline bool goes_short(const struct flow_key *client)
{
	struct flow *home = bpf_map_lookup_elem(&flows, client);

	return home && !(home->bits & FLOW_RETURN) && home->flags & SSMB_PARKED;
}

/* --- the SYN ------------------------------------------------------------------------------ */

/* The packet, a client's first segment that a REPLY has brought back, becomes the SYN to its node in
 * the client's name; the segment is kept.  The REPLY still lies in the scratch. */
__noinline int become_syn(struct __sk_buff *skb, struct packet *p, __u32 frame)
{
	__u32 zero = 0, l4, ip, length, window, facts;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct making *made = bpf_map_lookup_elem(&making, &zero);
	struct syn_options o = { .scale = NO_SCALE };
	struct request *kept;
	__u8 *h, *tcp, *end;
	bool ecn;

	if (!p || !s || !made || frame > REQUEST_FRAME || p->l3 != LINK_HEADER)
		return false;
	l4 = p->l4;
	barrier_var(l4);
	if (l4 > L4_MAX)
		return false;
	h = (__u8 *)(long)skb->data + l4;
	if (h + TCP_HEADER > (__u8 *)(long)skb->data_end)
		return false;
	kept = (void *)s + REQUEST_AT;
	kept->client_isn = bpf_ntohl(*(__be32 *)(h + 4)) - 1;
	kept->own_isn = bpf_ntohl(*(__be32 *)(h + 8)) - 1;
	window = bpf_ntohs(*(__be16 *)(h + 14));
	read_syn_tc(skb, l4, p->payload_at, &o);
	kept->own_timestamp = bpf_ntohl(o.ts_echo);
	kept->length = frame;
	kept->l4 = l4;
	kept->has_timestamps = o.has_timestamps;
	__builtin_memset(kept->pad, 0, sizeof(kept->pad));
	if (bpf_map_update_elem(&requests, &made->decision.key, kept, BPF_ANY))
		return false;
	facts = kept->own_isn;
	ecn = o.has_timestamps && kept->own_timestamp & 1;
	o.scale = scale_of(facts);
	o.has_sack = !!(facts & COOKIE_SACK);
	o.ts_echo = 0;
	ip = p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	o.mss = mss_of(facts);
	if (o.mss > ETHERNET_MTU - TCP_HEADER - ip)
		o.mss = ETHERNET_MTU - TCP_HEADER - ip;
	if (o.scale != NO_SCALE)
		window <<= o.scale;
	if (window > 0xffff)
		window = 0xffff;
	tcp = s->frame + ip;
	*(__be32 *)(tcp + 4) = bpf_htonl(kept->client_isn);
	end = write_options(tcp + TCP_HEADER, &o);
	length = end - tcp;
	*(__be16 *)tcp = p->key.sport;
	*(__be16 *)(tcp + 2) = p->key.dport;
	*(__be32 *)(tcp + 8) = 0;
	tcp[12] = length / 4 << 4;
	tcp[13] = TCP_SYN | (ecn ? TCP_ECE | TCP_CWR : 0);
	*(__be16 *)(tcp + 14) = bpf_htons(window);
	*(__be32 *)(tcp + 16) = 0;
	*(__u16 *)(tcp + 16) = ~fold((__u64)pseudo_sum(p, length) + (__u32)sum_frame(ip, length));
	write_ip(s->frame, p->version, p->key.src, p->key.dst, p->tos & 0xfc, length);
	length += ip;
	barrier_var(length);
	if (length < sizeof(struct iphdr) + TCP_HEADER || length > ANSWER_MAX)
		return false;
	return !bpf_skb_change_tail(skb, LINK_HEADER + length, 0) &&
	       !bpf_skb_store_bytes(skb, LINK_HEADER, s->frame, length,
				    BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
}

/* --- the splice --------------------------------------------------------------------------- */

/* Copy a request's frame to the scratch. */
static __always_inline bool fetch(struct scratch *s, const struct request *kept)
{
	return !bpf_probe_read_kernel(s->frame, REQUEST_FRAME, kept->frame);
}

/* Whether the node has agreed to all that was agreed with its client, and takes the request in one
 * segment. */
static __always_inline bool agrees(const struct request *kept, const struct syn_options *theirs)
{
	__u32 facts = kept->own_isn, mss = theirs->mss ? theirs->mss : MSS_DEFAULT;

	if (scale_of(facts) != NO_SCALE && theirs->scale == NO_SCALE)
		return false;
	if (facts & COOKIE_SACK && !theirs->has_sack)
		return false;
	if (kept->has_timestamps && !theirs->has_timestamps)
		return false;
	if (mss < MSS_MIN)
		mss = MSS_MIN;
	return kept->length <= kept->l4 + TCP_HEADER + mss;
}

/* From now on both directions get offsets (wire protocol 9.6), and nothing is known of the flow's
 * numbers.  `isn`: the node's. */
static __always_inline void splice(struct flow *home, struct flow *back,
				   const struct request *kept, __u32 isn,
				   const struct syn_options *theirs)
{
	__u32 ack = isn - kept->own_isn, facts = kept->own_isn;
	__u32 time = kept->has_timestamps ? kept->own_timestamp - bpf_ntohl(theirs->ts_value) : 0;

	home->ack_add = ack;
	home->ts_echo_add = -time;
	home->ts_offset = time;
	back->seq_add = -ack;
	back->ts_value_add = time;
	if (scale_of(facts) != NO_SCALE)
		back->window_shift = (__s8)theirs->scale - OWN_SCALE;
	home->tcp_flags = TCP_ACK;
	back->tcp_flags = TCP_ACK;
	clear_close(home, CLOSE_BITS);
	clear_close(back, CLOSE_BITS);
	home->flags = (home->flags & ~SHORT_WAY) | SSMB_ADD_TCP_OFFSETS;
	barrier();
	back->bits = (back->bits & ~FLOW_HELD) | FLOW_OFFSETS;
	home->bits = (home->bits & ~FLOW_HELD) | FLOW_OFFSETS;
}

/* The packet, whose checksum was left to the NIC if `unfinished`, becomes the `length` octets of the
 * scratch's frame, whose TCP header begins at `l4`. */
static __always_inline bool become_request(struct __sk_buff *skb, struct scratch *s,
					   const struct flow_key *client, __u32 length, __u32 l4,
					   bool unfinished)
{
	barrier_var(l4);
	barrier_var(length);
	if (l4 > REQUEST_FRAME - TCP_HEADER || length < l4 + TCP_HEADER || length > REQUEST_FRAME)
		return false;
	if (unfinished)
		*(__u16 *)&s->frame[l4 + 16] =
			sum_of_pseudo(client->src, client->dst, PROTOCOL_TCP, length - l4);
	return !bpf_skb_change_tail(skb, length, 0) &&
	       !bpf_skb_store_bytes(skb, 0, s->frame, length,
				    BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
}

/* A node's SYN-ACK on a held flow, whose client's key lies in `making`.  JOINED: the packet is the
 * client's request, and `p` describes it; HOLD: nothing was changed, and the agent goes on. */
__noinline int join(struct __sk_buff *skb, struct packet *p)
{
	struct context c = { .raw = skb };
	__u32 zero = 0, length, l4, isn, answered;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct making *made = bpf_map_lookup_elem(&making, &zero);
	struct syn_options theirs = { .scale = NO_SCALE };
	struct flow *home, *back;
	struct request *kept;
	bool unfinished;
	__u8 *h;

	if (!p || !s || !made || !goes_short(&made->decision.key))
		return HOLD;
	home = bpf_map_lookup_elem(&flows, &made->decision.key);
	back = bpf_map_lookup_elem(&flows, &p->key);
	kept = bpf_map_lookup_elem(&requests, &made->decision.key);
	if (!home || !back || !kept || p->l3 != LINK_HEADER || skb->vlan_present)
		return HOLD;
	if (!sum_is_right_tc(skb, p))
		return context_drop(&c, COUNTER_DROP_CHECKSUM);
	h = context_at(&c, p->l4, L4_MAX);
	if (!h || h + TCP_HEADER > context_end(&c))
		return HOLD;
	isn = bpf_ntohl(*(__be32 *)(h + 4));
	answered = bpf_ntohl(*(__be32 *)(h + 8));
	unfinished = sum_is_left(&c, p, *(__u16 *)(h + 16));
	read_syn_tc(skb, p->l4, p->payload_at, &theirs);
	length = kept->length;
	l4 = kept->l4;
	if (answered != kept->client_isn + 1 || !agrees(kept, &theirs) ||
	    (unfinished && l4 != p->l4) || !fetch(s, kept))
		return HOLD;
	made->kept = *kept;
	if (bpf_map_delete_elem(&requests, &made->decision.key))
		return HOLD;
	splice(home, back, &made->kept, isn, &theirs);
	count(COUNTER_SHORT_SPLICED);
	if (!become_request(skb, s, &made->decision.key, length, l4, unfinished))
		return context_drop(&c, COUNTER_DROP_NO_ROOM);
	__builtin_memcpy(&c.ifindex, s->frame + 8, 4);
	c.injected = INJECTED;
	return parse_all(&c, p) == KIND_TRANSPORT ? JOINED :
						    context_drop(&c, COUNTER_DROP_MALFORMED);
}

/* --- the general way ---------------------------------------------------------------------- */

/* Something came of a flow of the short way that the agent has to see, whose client's key lies in
 * `making`: it gets the request first, and has the connection from then on. */
__noinline int hand_over(void)
{
	__u32 zero = 0, length;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct making *made = bpf_map_lookup_elem(&making, &zero);
	struct request *kept;
	struct flow *home;

	if (!s || !made || !is_listening())
		return 0;
	home = bpf_map_lookup_elem(&flows, &made->decision.key);
	kept = bpf_map_lookup_elem(&requests, &made->decision.key);
	if (!home || !kept || !fetch(s, kept))
		return 0;
	length = kept->length;
	if (bpf_map_delete_elem(&requests, &made->decision.key))
		return 0; /* another CPU was first */
	__builtin_memset(&s->event, 0, sizeof(s->event));
	s->event.kind = EVENT_PACKET;
	s->event.reason = REASON_KEPT;
	s->event.tcp_flags = TCP_ACK;
	s->event.tos = home->tos;
	__builtin_memcpy(&s->event.ifindex, s->frame + 8, 4);
	s->event.frame_length = length;
	s->event.key = made->decision.key;
	if (length > REQUEST_FRAME || !send_event(s)) {
		count(COUNTER_DROP_UP_CALL_FULL);
		return 0;
	}
	count(COUNTER_SHORT_LEFT);
	return 1;
}

#endif
