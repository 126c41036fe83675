/* SPDX-License-Identifier: GPL-2.0-only */
/* How a flow's packet is rewritten (wire protocol 9.4 and 9.6).  Checksums stay as right or
 * as wrong as they were (RFC 1624); the deltas of addresses and ports were computed by the agent,
 * because the key determines the old values.
 */
#ifndef SPLITPLANE_REWRITE_H
#define SPLITPLANE_REWRITE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "parse.h"
#include "shared.h"
#include "sums.h"

#define OPTION_SACK 5
#define OPTION_TIMESTAMPS 8

static __always_inline __u16 csum_add16(__u16 field, __u32 delta)
{
	return ~fold((__u64)(__u16)~field + delta);
}

/* Add to a 32-bit number in place; the change is added to *delta.  The number may lie at an odd
 * offset (TCP options), which swaps the weight of its octets. */
static __always_inline void add_in_place(__u8 *number, __u32 amount, bool odd, __u32 *delta)
{
	__be32 before, after;
	__u16 sum;

	__builtin_memcpy(&before, number, 4);
	after = bpf_htonl(bpf_ntohl(before) + amount);
	__builtin_memcpy(number, &after, 4);
	sum = fold((__u64)after + (__u32)~before);
	/* folded at once and without a branch, so that the verifier sees few states */
	*delta = fold((__u64)*delta + ((__u64)sum << (odd * 8)));
}

#define OPTIONS_MAX 40 /* octets, RFC 9293 3.1 */

/* What shift_options needs; by pointer, because few arguments fit a global function. */
struct shifts {
	__u32 ack_add;
	__u32 ts_value_add;
	__u32 ts_echo_add;
	__u32 l4;
	__u32 stop; /* where the options end, from l4 */
	__u32 acknowledges;
	/* between shift_option's calls */
	__u32 next; /* from l4 */
	__u32 edges; /* of SACK blocks, which follow there */
	__u32 delta; /* the change of the checksum */
};

/* Shifts one option, or one edge of a SACK block; false if there is no further one. */
static __always_inline bool shift_option(__u8 *data, __u8 *end, struct shifts *shifts)
{
	__u32 at = shifts->next, stop = shifts->stop, length, amount;
	__u8 *option;

	if (shifts->l4 > L4_MAX || at > 58)
		return false;
	option = data + shifts->l4 + at;
	if (shifts->edges) {
		if (at + 4 > stop || option + 4 > end)
			return false;
		add_in_place(option, shifts->ack_add, at & 1, &shifts->delta);
		shifts->edges--;
		shifts->next = at + 4;
		return true;
	}
	if (at + 2 > stop || option + 2 > end || option[0] == 0)
		return false;
	length = option[0] == 1 ? 1 : option[1];
	if (length < 1 || at + length > stop)
		return false; /* the receiver cannot parse the rest either */
	if (option[0] == OPTION_SACK) {
		shifts->edges = (length - 2) / 4;
		length = 2;
	} else if (option[0] == OPTION_TIMESTAMPS && length == 10) {
		if (option + 10 > end)
			return false;
		add_in_place(option + 2, shifts->ts_value_add, at & 1, &shifts->delta);
		/* without ACK the echo is not valid and 0, RFC 7323 3.2 */
		amount = shifts->acknowledges ? shifts->ts_echo_add : 0;
		add_in_place(option + 6, amount, at & 1, &shifts->delta);
	} else if (length < 2 && option[0] != 1) {
		return false;
	}
	shifts->next = at + length;
	return true;
}

/* Global and apart from the loop, in which the verifier would follow each way through an option
 * with each way through those before it: two fifths of the time that loading the program took. */
__noinline int shift_option_tc(struct __sk_buff *skb, struct shifts *shifts)
{
	if (!shifts)
		return 0;
	return shift_option((void *)(long)skb->data, (void *)(long)skb->data_end, shifts);
}

__noinline int shift_option_xdp(struct xdp_md *xdp, struct shifts *shifts)
{
	if (!shifts)
		return 0;
	return shift_option((void *)(long)xdp->data, (void *)(long)xdp->data_end, shifts);
}

/* Returns the change of the checksum. */
static __always_inline __u32 shift_options(struct context *c, struct shifts *shifts)
{
	int i;

	shifts->next = 20;
	shifts->edges = 0;
	shifts->delta = 0;
	for (i = 0; i < OPTIONS_MAX; i++) {
		if (!(c->xdp ? shift_option_xdp(XDP(c), shifts) :
			       shift_option_tc(SKB(c), shifts)))
			break;
	}
	return shifts->delta;
}

static __always_inline __u16 shifted_window(__u16 window, __s8 shift)
{
	__u32 wide = window;

	if (window == 0)
		return 0;
	if (shift >= 0) {
		wide <<= shift & 15;
		return wide > 0xffff ? 0xffff : wide;
	}
	wide >>= (-shift) & 15;
	return wide ? wide : 1;
}

static __always_inline void add_offsets(struct context *c, struct packet *p, struct flow *f,
					__u32 *delta)
{
	struct shifts shifts = {
		.ack_add = f->ack_add,
		.ts_value_add = f->ts_value_add,
		.ts_echo_add = f->ts_echo_add,
		.l4 = p->l4,
		.stop = p->payload_at,
		.acknowledges = p->tcp_flags & TCP_ACK,
	};
	__u8 *h = context_at(c, p->l4, L4_MAX);

	if (!h || h + 20 > context_end(c))
		return;
	add_in_place(h + 4, f->seq_add, false, delta);
	if (p->tcp_flags & TCP_ACK) /* without it the field is not valid */
		add_in_place(h + 8, f->ack_add, false, delta);
	/* a SYN's window is never scaled, RFC 7323 2.2 */
	if (f->bits & FLOW_RETURN && f->window_shift && !(p->tcp_flags & TCP_SYN)) {
		__u16 old = *(__u16 *)(h + 14);
		__u16 new = bpf_htons(shifted_window(bpf_ntohs(old), f->window_shift));

		*(__u16 *)(h + 14) = new;
		*delta = fold((__u64)*delta + new + (__u16)~old);
	}
	if (p->payload_at > 20)
		*delta = fold((__u64)*delta + shift_options(c, &shifts));
}

/* `address_delta` is the change that the translation will make to the sum of IPv6 addresses. */
static __always_inline bool decrement_ttl(struct context *c, struct packet *p,
					  __u16 address_delta)
{
	__u8 *h = context_at(c, p->l3, L3_MAX);

	if (!h)
		return false;
	if (p->version == 4) {
		struct iphdr *ip = (void *)h;

		if ((void *)(ip + 1) > (void *)context_end(c))
			return false;
		ip->ttl--;
		ip->check = csum_add16(ip->check, (__u16)~bpf_htons(0x0100));
	} else {
		struct ipv6hdr *ip = (void *)h;

		if ((void *)(ip + 1) > (void *)context_end(c))
			return false;
		ip->hop_limit--;
		/* skb->csum (CHECKSUM_COMPLETE) covers the whole packet: no header checksum makes up
		 * for the hop limit, and bpf_l4_csum_replace takes the addresses for IPv4's.  It
		 * returns an error where there is no such sum, which is harmless. */
		if (!c->xdp)
			bpf_csum_update(SKB(c), (__u32)address_delta + (__u16)~bpf_htons(0x0001));
	}
	return true;
}

static __always_inline bool set_addresses(struct context *c, struct packet *p, const __be32 *src,
					  const __be32 *dst, __u16 address_delta)
{
	__u8 *h = context_at(c, p->l3, L3_MAX);

	if (!h)
		return false;
	if (p->version == 4) {
		struct iphdr *ip = (void *)h;

		if ((void *)(ip + 1) > (void *)context_end(c))
			return false;
		ip->saddr = src[3];
		ip->daddr = dst[3];
		ip->check = csum_add16(ip->check, address_delta);
	} else {
		struct ipv6hdr *ip = (void *)h;

		if ((void *)(ip + 1) > (void *)context_end(c))
			return false;
		__builtin_memcpy(&ip->saddr, src, 16);
		__builtin_memcpy(&ip->daddr, dst, 16);
	}
	return true;
}

/* After this, no pointer into the packet is valid any more. */
static __always_inline bool adjust_checksum(struct context *c, struct packet *p, __u16 address,
					    __u16 rest)
{
	__u32 check_at = p->l4 + (p->key.protocol == PROTOCOL_TCP ? 16 : 6);
	__u64 flags = p->key.protocol == PROTOCOL_UDP ? BPF_F_MARK_MANGLED_0 : 0;

	if (c->xdp) {
		__u8 *h = context_at(c, check_at, L4_MAX + 16);
		__u16 field;

		if (!h || h + 2 > context_end(c))
			return false;
		field = *(__u16 *)h;
		if (field == 0 && p->key.protocol == PROTOCOL_UDP)
			return true; /* the sender made none (RFC 768), so there is none to adjust */
		field = csum_add16(field, (__u32)address + rest);
		if (field == 0 && p->key.protocol == PROTOCOL_UDP)
			field = 0xffff;
		*(__u16 *)h = field;
		return true;
	}
	/* The kernel knows whether the NIC is still to sum the packet: then only the change of
	 * the pseudo header counts. */
	if (address &&
	    bpf_l4_csum_replace(SKB(c), check_at, 0, address, flags | BPF_F_PSEUDO_HDR))
		return false;
	return !rest || bpf_l4_csum_replace(SKB(c), check_at, 0, rest, flags) == 0;
}

static __always_inline bool translate(struct context *c, struct packet *p, struct flow *f)
{
	__u32 delta = f->port_delta;
	__u8 *h;

	if (!set_addresses(c, p, f->new_src, f->new_dst, f->address_delta))
		return false;
	if (p->fragment == LATER_FRAGMENT)
		return true; /* the transport header, with its checksum, was in the first one */
	h = context_at(c, p->l4, L4_MAX);
	if (!h || h + 8 > context_end(c))
		return false;
	*(__be16 *)h = f->new_sport;
	*(__be16 *)(h + 2) = f->new_dport;
	if (f->bits & FLOW_OFFSETS && p->key.protocol == PROTOCOL_TCP)
		add_offsets(c, p, f, &delta);
	return adjust_checksum(c, p, f->address_delta, fold(delta));
}

#endif
