/* SPDX-License-Identifier: GPL-2.0-only */
/* What a flow's packets change in its entry: counters, time, the four steps of a TCP close, and
 * which RST ends it (wire protocol 9.7).  Sequence numbers are the client side's.  An ordinary
 * packet touches its own entry only; SYN, FIN, RST and the acknowledgement of a FIN also look up
 * the opposite entry.
 */
#ifndef SPLITPLANE_TRACK_H
#define SPLITPLANE_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "maps.h"
#include "parse.h"
#include "shared.h"

/* How far past the acknowledged octets a RST may lie where the window scale is unknown. */
#define WINDOW_MINIMUM 0x10000
#define SCALE_MAX 14 /* RFC 7323 2.3 */
#define CLOSE_PROGRESS                                                                           \
	(CLOSE_HAVE_SEQ | CLOSE_HAVE_ACK | CLOSE_OWN_FIN | CLOSE_OPPOSITE_FIN |                  \
	 CLOSE_OPPOSITE_FIN_ACKED | CLOSE_OWN_FIN_ACKED)

static __always_inline void set_close(struct flow *f, __u32 bits)
{
	if ((f->close & bits) != bits)
		__sync_fetch_and_or(&f->close, bits);
}

/* The key of the packets that answer those of `f`. */
static __always_inline void opposite_key(struct flow *f, __u8 protocol, struct flow_key *key)
{
	__builtin_memcpy(key->src, f->new_dst, 16);
	__builtin_memcpy(key->dst, f->new_src, 16);
	key->sport = f->new_dport;
	key->dport = f->new_sport;
	key->protocol = protocol;
	__builtin_memset(key->pad, 0, sizeof(key->pad));
}

static __always_inline void report_closed(struct flow *home, struct flow *back,
					  struct flow_key *home_key, __u32 bits)
{
	__u32 zero = 0;
	struct event_closed *event;

	if (__sync_fetch_and_or(&home->close, bits | CLOSE_CLOSED) & CLOSE_CLOSED)
		return; /* another CPU was first */
	event = bpf_map_lookup_elem(&scratch_closed, &zero);
	if (!event)
		return;
	event->kind = EVENT_CLOSED;
	event->by_rst = bits & CLOSE_BY_RST ? 1 : 0;
	event->opposite_tcp_flags = back->tcp_flags;
	event->key = *home_key;
	event->home = *home;
	event->opposite_last_seen = back->last_seen;
	event->opposite_packets = back->packets;
	event->opposite_bytes = back->bytes;
	if (bpf_ringbuf_output(&events, event, sizeof(*event), 0))
		count(COUNTER_EVENT_LOST);
	else
		set_close(home, CLOSE_REPORTED);
}

/* A client's SYN on a living entry may be another connection from the same port, or forged: it
 * changes nothing until the node answers it.  Until then the return entry's unused opened_ms
 * holds its sequence number and window scale. */
#define SYN_PENDING (1ull << 40)

static __always_inline bool answers_syn(struct flow *back, __u32 ack)
{
	return back->bits & FLOW_RETURN && back->opened_ms & SYN_PENDING &&
	       (__u32)back->opened_ms == ack;
}

static __always_inline void adopt_answered_syn(struct flow *home, struct flow *back)
{
	__u64 syn = back->opened_ms;

	back->opened_ms = 0;
	__sync_fetch_and_and(&home->close, ~CLOSE_PROGRESS);
	__sync_fetch_and_and(&back->close, ~CLOSE_PROGRESS);
	home->next_seq = syn;
	home->scale = syn >> 32;
	set_close(home, CLOSE_HAVE_SEQ);
}

static __always_inline bool valid_reset(struct flow *f, struct flow *opposite, __u8 flags,
					__u32 seq, __u32 ack)
{
	if (flags & TCP_ACK && answers_syn(f, ack))
		return true;
	if (opposite->close & CLOSE_HAVE_ACK) {
		__u32 window = (__u32)opposite->window << (opposite->scale & 15);

		return seq - opposite->ack < (window > WINDOW_MINIMUM ? window : WINDOW_MINIMUM);
	}
	if (flags & TCP_ACK && opposite->close & CLOSE_HAVE_SEQ)
		return ack == opposite->next_seq; /* the answer to a SYN, RFC 9293 3.10.7.3 */
	return f->close & CLOSE_HAVE_SEQ && seq == f->next_seq;
}

/* The window scale that a SYN offers; 0 without the option. */
static __always_inline int window_scale(__u8 *data, __u8 *end, __u32 l4, __u32 stop)
{
	UNTRACKED next = 20;
	int i;

	if (l4 > L4_MAX)
		return 0;
	data += l4;
	for (i = 0; i < 40; i++) {
		__u32 at = next;
		__u8 *option = data + at;

		if (at + 3 > stop || at > 57 || option + 3 > end || option[0] == 0)
			return 0;
		if (option[0] == 1) {
			next = at + 1;
			continue;
		}
		if (option[0] == 3)
			return option[2] > SCALE_MAX ? SCALE_MAX : option[2];
		if (option[1] < 2)
			return 0;
		next = at + option[1];
	}
	return 0;
}

__noinline int window_scale_tc(struct __sk_buff *skb, __u32 l4, __u32 stop)
{
	return window_scale((void *)(long)skb->data, (void *)(long)skb->data_end, l4, stop);
}

__noinline int window_scale_xdp(struct xdp_md *xdp, __u32 l4, __u32 stop)
{
	return window_scale((void *)(long)xdp->data, (void *)(long)xdp->data_end, l4, stop);
}

static __always_inline int track_tcp(struct context *c, struct packet *p, struct flow *f)
{
	__u8 *h = context_at(c, p->l4, L4_MAX), flags = p->tcp_flags;
	__u32 seq, ack, last, l4 = p->l4, header = l4 - p->l3 + p->payload_at;
	struct flow *opposite = NULL, *home, *back;
	struct flow_key key;
	__u16 window;

	if (!f || !h || h + 20 > context_end(c))
		return 0;
	seq = bpf_ntohl(*(__be32 *)(h + 4));
	ack = bpf_ntohl(*(__be32 *)(h + 8));
	window = bpf_ntohs(*(__be16 *)(h + 14));
	if (f->bits & FLOW_RETURN && f->bits & FLOW_OFFSETS) {
		seq += f->seq_add;
		ack += f->ack_add;
	}
	if ((f->tcp_flags | flags) != f->tcp_flags)
		f->tcp_flags |= flags;
	last = seq + (p->length > header ? p->length - header : 0) + !!(flags & TCP_SYN) +
	       !!(flags & TCP_FIN);

	if (flags & (TCP_SYN | TCP_FIN | TCP_RST) ||
	    (f->close & (CLOSE_OPPOSITE_FIN | CLOSE_OPPOSITE_FIN_ACKED)) == CLOSE_OPPOSITE_FIN) {
		opposite_key(f, p->key.protocol, &key);
		opposite = bpf_map_lookup_elem(&flows, &key);
	}
	if (opposite) {
		home = f->bits & FLOW_RETURN ? opposite : f;
		back = f->bits & FLOW_RETURN ? f : opposite;
		if (f->bits & FLOW_RETURN ? home->close & CLOSE_CLOSED : f->close & CLOSE_CLOSED)
			return 0;
		if (flags & TCP_RST) {
			if (valid_reset(f, opposite, flags, seq, ack)) {
				if (!(f->bits & FLOW_RETURN))
					key = p->key;
				report_closed(home, back, &key, CLOSE_BY_RST);
			}
			return 0;
		}
		if (flags & TCP_SYN) {
			__u8 scale = c->xdp ? window_scale_xdp(XDP(c), p->l4, p->payload_at) :
					      window_scale_tc(SKB(c), p->l4, p->payload_at);

			if (!(flags & TCP_ACK) && !(f->bits & FLOW_RETURN) &&
			    f->close & CLOSE_HAVE_SEQ && f->next_seq != seq + 1) {
				opposite->opened_ms =
					SYN_PENDING | (__u64)scale << 32 | (seq + 1);
				return 0;
			}
			if (flags & TCP_ACK && answers_syn(f, ack))
				adopt_answered_syn(opposite, f);
			f->scale = scale;
		}
	} else if (flags & TCP_RST) {
		return 0;
	}
	if (!(f->close & CLOSE_HAVE_SEQ) || (__s32)(last - f->next_seq) >= 0) {
		f->next_seq = last;
		set_close(f, CLOSE_HAVE_SEQ);
	}
	if (opposite && flags & TCP_FIN) {
		opposite->fin_end = last;
		set_close(f, CLOSE_OWN_FIN);
		set_close(opposite, CLOSE_OPPOSITE_FIN);
	}
	if (!(flags & TCP_ACK))
		return 0;
	if (!(f->close & CLOSE_HAVE_ACK) || (__s32)(ack - f->ack) >= 0) {
		f->ack = ack;
		f->window = window;
		set_close(f, CLOSE_HAVE_ACK);
	}
	if (!opposite || !(f->close & CLOSE_OPPOSITE_FIN) || (__s32)(ack - f->fin_end) < 0)
		return 0;
	set_close(f, CLOSE_OPPOSITE_FIN_ACKED);
	if (f->bits & FLOW_RETURN)
		set_close(opposite, CLOSE_OWN_FIN_ACKED);
	home = f->bits & FLOW_RETURN ? opposite : f;
	back = f->bits & FLOW_RETURN ? f : opposite;
	if ((home->close & (CLOSE_OPPOSITE_FIN_ACKED | CLOSE_OWN_FIN_ACKED)) ==
	    (CLOSE_OPPOSITE_FIN_ACKED | CLOSE_OWN_FIN_ACKED)) {
		if (!(f->bits & FLOW_RETURN))
			key = p->key;
		report_closed(home, back, &key, 0);
	}
	return 0;
}

GLOBAL_FUNCTION(track_tcp, (struct flow *f), (f))

static __always_inline void observe(struct context *c, struct packet *p, struct flow *f,
				    __u64 now)
{
	__u32 gso = 0, segments = context_segments(c, &gso),
	      header = p->l4 - p->l3 + p->payload_at;

	__sync_fetch_and_add(&f->packets, segments);
	__sync_fetch_and_add(&f->bytes, p->length + (segments - 1) * header);
	f->last_seen = now;
	if (p->key.protocol == PROTOCOL_TCP && p->fragment != LATER_FRAGMENT)
		CALL(track_tcp, c, p, f);
}

#endif
