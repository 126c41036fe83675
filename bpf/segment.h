/* SPDX-License-Identifier: GPL-2.0-only */
/* A TCP segment's numbers, and whether they continue what both ends of its flow said before: only
 * then does it count (wire protocol 9.7).  Sequence numbers are the client side's.
 */
#ifndef SPLITPLANE_SEGMENT_H
#define SPLITPLANE_SEGMENT_H

#include <stdbool.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "parse.h"
#include "shared.h"

/* A window at least, whatever its scale: what was announced may have grown meanwhile.  Pieces
 * beyond holes belong together within this distance, too. */
#define WINDOW_MINIMUM 0x10000
#define SCALE_MAX 14 /* RFC 7323 2.3 */

struct segment {
	__u32 seq;
	__u32 ack;
	__u32 end; /* the number after it */
	__u16 window;
	__u8 flags;
};

static __always_inline bool is_later(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

static __always_inline void set_close(struct flow *f, __u32 bits)
{
	if ((f->close & bits) != bits)
		__sync_fetch_and_or(&f->close, bits);
}

static __always_inline void clear_close(struct flow *f, __u32 bits)
{
	if (f->close & bits)
		__sync_fetch_and_and(&f->close, ~bits);
}

static __always_inline void note_flags(struct flow *f, __u8 flags)
{
	if ((f->tcp_flags | flags) != f->tcp_flags)
		f->tcp_flags |= flags;
}

/* The client sent SYN, and has acknowledged no answer yet.  A flow that a SYN begins is entered so:
 * before its SYN has passed there are no numbers (CLOSE_HAVE_SEQ). */
static __always_inline bool is_half_open(const struct flow *home)
{
	return (home->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
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

static __always_inline bool read_segment(struct context *c, struct packet *p, struct flow *f,
					 struct segment *s)
{
	__u8 *h = context_at(c, p->l4, L4_MAX);
	__u32 header = p->l4 - p->l3 + p->payload_at;

	if (!h || h + 20 > context_end(c))
		return false;
	s->flags = p->tcp_flags;
	s->seq = bpf_ntohl(*(__be32 *)(h + 4));
	s->ack = bpf_ntohl(*(__be32 *)(h + 8));
	s->window = bpf_ntohs(*(__be16 *)(h + 14));
	if (f->bits & FLOW_RETURN && f->bits & FLOW_OFFSETS) {
		s->seq += f->seq_add;
		s->ack += f->ack_add;
	}
	s->end = s->seq + (p->length > header ? p->length - header : 0) + !!(s->flags & TCP_SYN) +
		 !!(s->flags & TCP_FIN);
	return true;
}

/* --- what counts ------------------------------------------------------------------------- */

/* Whether this end may have acknowledged so much since its last window. */
static __always_inline bool in_window(const struct flow *f, __u32 distance)
{
	/* without its SYN the scale is unknown */
	__u32 scale = f->tcp_flags & TCP_SYN ? f->scale & 15 : SCALE_MAX;

	return distance <= WINDOW_MINIMUM || distance <= (__u32)f->window << scale;
}

/* Whether an acknowledgement is within a window of the last one. */
static __always_inline bool is_near(const struct flow *f, __u32 ack)
{
	if (!(f->close & CLOSE_HAVE_ACK))
		return true;
	return in_window(f, is_later(f->ack, ack) ? f->ack - ack : ack - f->ack);
}

/* Or acknowledges what the other end sent. */
static __always_inline bool is_plausible(const struct flow *f, const struct flow *opposite,
					 __u32 ack)
{
	if (is_near(f, ack))
		return true;
	return is_later(ack, f->ack) && opposite->close & CLOSE_HAVE_SEQ &&
	       !is_later(ack,
			 opposite->close & CLOSE_GAP ? opposite->gap_to : opposite->next_seq);
}

/* A client's SYN on a living entry may be another connection from the same port, or forged: it
 * changes nothing until the node answers it.  Until then the return entry's unused opened_ms
 * holds its sequence number and window scale. */
#define SYN_PENDING (1ull << 40)

static __always_inline bool answers_syn(const struct flow *f, __u32 ack)
{
	return f->bits & FLOW_RETURN && f->opened_ms & SYN_PENDING && (__u32)f->opened_ms == ack;
}

/* It has the very number that the other end expects (RFC 5961 3.2): what that one acknowledged
 * last, or what comes after all that went there since.  Or it answers a SYN (RFC 9293 3.10.7.3). */
static __always_inline bool valid_reset(const struct flow *f, const struct flow *opposite,
					const struct segment *s)
{
	if (s->flags & TCP_ACK && answers_syn(f, s->ack))
		return true;
	if (f->close & CLOSE_HAVE_SEQ && s->seq == f->next_seq)
		return true;
	if (opposite->close & CLOSE_HAVE_ACK && s->seq == opposite->ack)
		return true;
	return s->flags & TCP_ACK && !(opposite->tcp_flags & TCP_ACK) &&
	       opposite->close & CLOSE_HAVE_SEQ && s->ack == opposite->next_seq;
}

/* Whether a node that has not answered the client's SYN may mean it.  One that has an earlier
 * connection from the same port acknowledges a number of that, and the client resets it. */
static __always_inline bool means_syn(const struct flow *home, const struct flow *back, __u32 ack)
{
	return !is_half_open(home) || back->close & CLOSE_HAVE_SEQ ||
	       !(home->close & CLOSE_HAVE_SEQ) || home->next_seq - ack < WINDOW_MINIMUM;
}

/* The end goes on that is said to have sent a RST: then it was not its own.  What the other end
 * sends may have been on its way. */
static __always_inline bool goes_on(const struct flow *f, const struct flow *opposite,
				    const struct segment *s)
{
	return f->close & CLOSE_OWN_RST && f->close & CLOSE_HAVE_SEQ &&
	       (s->flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK &&
	       s->seq + 1 - f->next_seq < WINDOW_MINIMUM && is_plausible(f, opposite, s->ack);
}

/* The client has received the node's answer: it knows its number.  Where the node has
 * the address `dst` itself and answers need not pass here, the client's own number has to do. */
static __always_inline bool establishes(struct flow *home, struct flow *back, const __be32 *dst,
					const struct segment *s)
{
	if (!(home->close & CLOSE_HAVE_SEQ) || home->next_seq - s->seq >= WINDOW_MINIMUM)
		return false;
	if (!(back->close & CLOSE_HAVE_SEQ))
		return same_address(home->new_dst, dst);
	if (s->ack == back->next_seq)
		return true;
	if (s->ack != home->ack)
		return false;
	if (back->next_seq - s->ack >= WINDOW_MINIMUM)
		back->next_seq = s->ack; /* it took an earlier one of several (SYN cookies) */
	return true;
}

#endif
