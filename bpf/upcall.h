/* SPDX-License-Identifier: GPL-2.0-only */
/* Events to the agent: packets that need a decision, and packets that an ICMP error answers. */
#ifndef SPLITPLANE_UPCALL_H
#define SPLITPLANE_UPCALL_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "maps.h"
#include "parse.h"
#include "shared.h"
#include "sums.h"

#define REASON_NEW_FLOW 1
#define REASON_BRIDGED 2
#define REASON_OUTBOUND 3
#define REASON_UNANSWERED 10
#define REASON_UNSERVED 11
#define REASON_ASLEEP 12
#define REASON_COLLISION 13
#define REASON_OF_NODE 15
#define REASON_PROXIED 20
#define REASON_HELD 21
#define REASON_KEPT 22

#define NOTIFY_PERIOD_NS 100000000ull
#define NOTIFY_MAX 100
/* places of the map rate_limit, beside the event kinds EVENT_TTL and EVENT_TOO_BIG */
#define RATE_FRAGMENT 0
#define RATE_SPLIT 1
#define RATE_STRAY 4
#define RATE_NODE 5
#define RATE_ECHO 6
#define RATE_UNSERVED 7
#define RATE_BRIDGED 8
#define QUOTE_MAX 1280 /* of a packet that an ICMP error is about (RFC 4443 2.4) */

enum checksums { CHECKSUMS_WRONG, CHECKSUMS_RIGHT, CHECKSUMS_FINISHED };

/* Whether the checksums of the frame in the scratch are right.  A packet that its sender's kernel
 * left for the NIC to finish has only the pseudo header's sum; it is finished here. */
static __always_inline enum checksums finish_checksums(struct scratch *s, struct packet *p,
						       __u32 length)
{
	__u32 l4 = p->l4, rest = p->length - (p->l4 - p->l3), check_at, at;
	__u16 field, pseudo, sum;
	__u8 behind[4];
	bool has_more;

	if (p->version == 4 && sum_frame(p->l3, p->l4 - p->l3) != 0xffff)
		return CHECKSUMS_WRONG;
	if (p->key.protocol == PROTOCOL_ICMP)
		return sum_frame(l4, rest) == 0xffff ? CHECKSUMS_RIGHT : CHECKSUMS_WRONG;
	if (p->key.protocol == PROTOCOL_ICMPV6)
		return fold((__u64)sum_frame(l4, rest) + pseudo_sum(p, rest)) == 0xffff ?
			       CHECKSUMS_RIGHT :
			       CHECKSUMS_WRONG;
	if (p->fragment != WHOLE)
		return CHECKSUMS_RIGHT; /* the rest of its data is not here */
	if (l4 > L4_MAX)
		return CHECKSUMS_WRONG;
	check_at = l4 + (p->key.protocol == PROTOCOL_TCP ? 16 : 6);
	if (p->key.protocol == PROTOCOL_UDP) {
		__u32 udp_length = bpf_ntohs(*(__be16 *)&s->frame[l4 + 4]);

		if (udp_length < 8 || udp_length > rest)
			return CHECKSUMS_WRONG;
		rest = udp_length;
	}
	field = *(__u16 *)&s->frame[check_at];
	/* none was made (RFC 768), which IPv6 does not allow (RFC 8200 8.1) */
	if (field == 0 && p->key.protocol == PROTOCOL_UDP)
		return p->version == 4 ? CHECKSUMS_RIGHT : CHECKSUMS_WRONG;
	pseudo = pseudo_sum(p, rest);
	/* the octets after the end of a UDP datagram (its options, RFC 9868) are not covered */
	at = l4 + rest;
	barrier_var(at);
	has_more = p->key.protocol == PROTOCOL_UDP && rest & 3 && at < SCRATCH_FRAME - 4 &&
		   at < length;
	if (has_more) {
		__builtin_memcpy(behind, &s->frame[at], sizeof(behind));
		__builtin_memset(&s->frame[at], 0, sizeof(behind));
	}
	sum = sum_frame(l4, rest);
	if (has_more && at < SCRATCH_FRAME - 4)
		__builtin_memcpy(&s->frame[at], behind, sizeof(behind));
	/* of one in 65,536 the pseudo header's sum is right, and the NIC would finish it all the same */
	if (field != pseudo)
		return fold((__u64)sum + pseudo) == 0xffff ? CHECKSUMS_RIGHT : CHECKSUMS_WRONG;
	sum = ~sum;
	if (sum == 0 && p->key.protocol == PROTOCOL_UDP)
		sum = 0xffff;
	*(__u16 *)&s->frame[check_at] = sum;
	return CHECKSUMS_FINISHED;
}

static __always_inline struct scratch *copy_frame(struct context *c, struct packet *p,
						  __u32 length)
{
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);

	if (!s)
		return NULL;
	if (length > FRAME_MAX)
		length = FRAME_MAX;
	barrier_var(length);
	if (length < 14 || length > FRAME_MAX)
		return NULL;
	if (c->xdp ? bpf_xdp_load_bytes(XDP(c), 0, s->frame, length) :
		     bpf_skb_load_bytes(SKB(c), 0, s->frame, length))
		return NULL;
	__builtin_memset(&s->frame[length], 0, 4);
	__builtin_memset(&s->event, 0, sizeof(s->event));
	s->event.tcp_flags = p->tcp_flags;
	s->event.tos = p->tos;
	s->event.ifindex = c->ifindex;
	s->event.frame_length = length;
	s->event.key = p->key;
	if (!c->xdp && SKB(c)->vlan_present) {
		s->event.vlan_tci = SKB(c)->vlan_tci;
		s->event.vlan_proto = SKB(c)->vlan_proto;
	}
	return s;
}

static __always_inline bool send_event(struct scratch *s)
{
	__u64 size = sizeof(s->event) + s->event.frame_length;

	barrier_var(size);
	if (size > sizeof(s->event) + FRAME_MAX)
		return false;
	return bpf_ringbuf_output(&events, &s->event, size, 0) == 0;
}

static __always_inline bool is_listening(void)
{
	__u32 zero = 0;
	struct meta *m = bpf_map_lookup_elem(&meta, &zero);

	return m && m->listening;
}

/* Several segments in one, of which the frame in the scratch is the beginning: make that a packet of
 * its own, whose end is not the sender's. */
static __always_inline bool cut(struct scratch *s, struct packet *p)
{
	__u32 l3 = p->l3, l4 = p->l4;

	barrier_var(l3);
	barrier_var(l4);
	if (p->key.protocol != PROTOCOL_TCP || l3 > L3_MAX || l4 > L4_MAX)
		return false;
	p->length = FRAME_MAX - p->l3;
	if (p->version == 4) {
		__u8 *ip = &s->frame[l3];

		*(__be16 *)(ip + 2) = bpf_htons(p->length);
		*(__u16 *)(ip + 10) = 0;
		*(__u16 *)(ip + 10) = ~(__u16)sum_frame(p->l3, p->l4 - p->l3);
	} else {
		*(__be16 *)&s->frame[l3 + 4] = bpf_htons(p->length - sizeof(struct ipv6hdr));
	}
	s->frame[l4 + 13] &= ~TCP_FIN;
	/* left to be finished, as by a NIC */
	*(__u16 *)&s->frame[l4 + 16] = pseudo_sum(p, p->length - (p->l4 - p->l3));
	return true;
}

/* Up to the agent; the packet ends here.  `server` may be NULL; `key` is the signature's. */
static __always_inline int send_up(struct context *c, struct packet *p, __u8 reason,
				   struct virtual_server_key *server, const struct flow_key *key)
{
	__u32 length = context_length(c), gso = 0;
	struct scratch *s;

	if (!is_listening())
		return context_drop(c, reason == REASON_UNSERVED ? COUNTER_DROP_UNSERVED :
								   COUNTER_DROP_DETACHED);
	context_segments(c, &gso);
	if (length > FRAME_MAX && !(gso && reason >= REASON_PROXIED))
		return context_drop(c, COUNTER_DROP_UP_CALL_TOO_LONG);
	s = copy_frame(c, p, length);
	if (!s || (length > FRAME_MAX && !cut(s, p)))
		return context_drop(c, COUNTER_DROP_MALFORMED);
	length = s->event.frame_length;
	s->event.key = *key;
	if (!finish_checksums(s, p, length))
		return context_drop(c, COUNTER_DROP_CHECKSUM);
	s->event.kind = EVENT_PACKET;
	s->event.reason = reason;
	if (server)
		s->event.server = *server;
	if (!send_event(s))
		return context_drop(c, COUNTER_DROP_UP_CALL_FULL);
	return context_drop(c,
			    reason == REASON_UNSERVED ? COUNTER_DROP_UNSERVED : COUNTER_UP_CALLS);
}

/* Of the packet's own key.  `server` is NULL for OUTBOUND. */
static __always_inline int up_call(struct context *c, struct packet *p, __u8 reason,
				   struct virtual_server_key *server)
{
	return send_up(c, p, reason, server, &p->key);
}

/* The senders of packets that cannot be forwarded decide how many come: unlimited, they would
 * take the agent's time and the ring from new flows.  Of the same order as the kernel's
 * icmp_msgs_per_sec. */
static __always_inline bool may_notify(__u32 kind)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct rate_limit *t = bpf_map_lookup_elem(&rate_limit, &kind);

	if (!t)
		return false;
	if (t->since + NOTIFY_PERIOD_NS < now) {
		t->since = now;
		t->number = 0;
	}
	return t->number++ < NOTIFY_MAX;
}

/* A later fragment came before its first one: up to the agent, which puts it back after a while. */
static __always_inline int hold_fragment(struct context *c, struct packet *p)
{
	__u32 length = context_length(c);
	struct scratch *s;

	if (!is_listening())
		return context_drop(c, COUNTER_DROP_DETACHED);
	if (length > FRAME_MAX)
		return context_drop(c, COUNTER_DROP_UP_CALL_TOO_LONG);
	if (!may_notify(RATE_FRAGMENT)) /* nobody needs many, and anybody can send them */
		return context_drop(c, COUNTER_DROP_UP_CALL_FULL);
	s = copy_frame(c, p, length);
	if (!s)
		return context_drop(c, COUNTER_DROP_MALFORMED);
	s->event.kind = EVENT_FRAGMENT;
	if (!send_event(s))
		return context_drop(c, COUNTER_DROP_UP_CALL_FULL);
	return context_drop(c, COUNTER_UP_CALLS);
}

GLOBAL_FUNCTION(hold_fragment, (), ())

/* The packet is dropped for `reason`; the agent notifies its sender by ICMP. */
static __always_inline int notify_sender(struct context *c, struct packet *p, __u32 kind,
					 __u32 mtu, enum counter reason)
{
	__u32 length = context_length(c);
	struct scratch *s;

	if (!is_listening() || !may_notify(kind))
		return context_drop(c, reason);
	s = copy_frame(c, p, length > QUOTE_MAX ? QUOTE_MAX : length);
	if (s) {
		s->event.kind = kind;
		s->event.mtu = mtu;
		send_event(s);
	}
	return context_drop(c, reason);
}

/* The packet is too long for its route and may be fragmented, which no program can do: the agent
 * splits it, and injects the pieces. */
static __always_inline int split(struct context *c, struct packet *p, __u32 mtu)
{
	__u32 length = context_length(c);
	struct scratch *s;

	if (length > FRAME_MAX || !is_listening() || !may_notify(RATE_SPLIT))
		return context_drop(c, COUNTER_DROP_TOO_BIG);
	s = copy_frame(c, p, length);
	if (!s)
		return context_drop(c, COUNTER_DROP_MALFORMED);
	if (!finish_checksums(s, p, length))
		return context_drop(c, COUNTER_DROP_CHECKSUM);
	s->event.kind = EVENT_SPLIT;
	s->event.mtu = mtu;
	return context_drop(c, send_event(s) ? COUNTER_UP_CALLS : COUNTER_DROP_TOO_BIG);
}

GLOBAL_FUNCTION(split, (__u32 mtu), (mtu))

GLOBAL_FUNCTION(notify_sender, (__u32 kind, __u32 mtu, enum counter reason), (kind, mtu, reason))

#endif
