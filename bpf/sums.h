/* SPDX-License-Identifier: GPL-2.0-only */
/* Checksums over a packet's data, which is copied to the scratch for it. */
#ifndef SPLITPLANE_SUMS_H
#define SPLITPLANE_SUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "maps.h"
#include "parse.h"

#define CHUNK 512 /* what bpf_csum_diff takes at once before Linux 6.13 */

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The sum of the scratch's octets [from, from + length); what follows them is zero up to the next
 * multiple of four.  Global: the verifier follows its loop once, not once a caller. */
__noinline int sum_scratch(__u32 from, __u32 length)
{
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	__u64 sum = 0;
	int i;

	if (!s)
		return 0;
	for (i = 0; i < FRAME_MAX / CHUNK + 1; i++) {
		__u32 n = (length > CHUNK ? CHUNK : length + 3) & ~3u;
		__u32 at = from;

		barrier_var(at);
		barrier_var(n);
		if (n == 0 || n > CHUNK || at > sizeof(*s) - CHUNK)
			break;
		sum += fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)((__u8 *)s + at), n, 0));
		from += n;
		length = length > CHUNK ? length - CHUNK : 0;
	}
	return fold(sum);
}

static __always_inline int sum_frame(__u32 from, __u32 length)
{
	return sum_scratch(offsetof(struct scratch, frame) + from, length);
}

/* Of a pseudo header (RFC 9293 3.1, RFC 8200 8.1).  IPv4's prefix ::ffff sums to zero, so both
 * families sum alike with 16 octets. */
static __always_inline __u16 sum_of_pseudo(const __be32 *src, const __be32 *dst, __u8 protocol,
					   __u32 length)
{
	return fold((__u64)(__u32)bpf_csum_diff(NULL, 0, (__be32 *)src, 16, 0) +
		    (__u32)bpf_csum_diff(NULL, 0, (__be32 *)dst, 16, 0) + bpf_htons(protocol) +
		    bpf_htons(length));
}

static __always_inline __u16 pseudo_sum(struct packet *p, __u32 length)
{
	return sum_of_pseudo(p->key.src, p->key.dst, p->key.protocol, length);
}

/* Whether the receiver of a packet will find its checksums right.  They are computed only where a
 * SYN, FIN or RST or a new flow depends on them.  Not looked at: a packet that its sender's kernel left for the
 * NIC to finish, which has only the pseudo header's sum; several in one (GRO, segmentation
 * offload), which were checked when they were put together; one longer than the scratch. */
static __always_inline int sum_is_right(struct context *c, struct packet *p)
{
	__u32 zero = 0, gso = 0, length = p->length, header = p->l4 - p->l3,
	      rest = length - header, check_at = 16, after;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	__u16 pseudo;

	if (p->fragment != WHOLE || !s)
		return false; /* the rest of its data is not here */
	context_segments(c, &gso);
	if (gso || length > FRAME_MAX)
		return true;
	barrier_var(length);
	barrier_var(header);
	if (length < 20 || length > FRAME_MAX || header > L4_MAX)
		return false;
	if (c->xdp ? bpf_xdp_load_bytes(XDP(c), p->l3, s->frame, length) :
		     bpf_skb_load_bytes(SKB(c), p->l3, s->frame, length))
		return false;
	__builtin_memset(&s->frame[length], 0, 4);
	if (p->version == 4 && sum_frame(0, header) != 0xffff)
		return false;
	if (p->key.protocol == PROTOCOL_UDP) {
		__u32 udp_length = bpf_ntohs(*(__be16 *)&s->frame[header + 4]);

		check_at = 6;
		if (udp_length < 8 || udp_length > rest)
			return false;
		if (!*(__u16 *)&s->frame[header + 6]) /* none was made, RFC 768 */
			return p->version == 4;
		rest = udp_length;
		after = header + rest;
		barrier_var(after);
		if (after > FRAME_MAX)
			return false;
		__builtin_memset(&s->frame[after], 0, 4); /* it is not covered */
	}
	pseudo = pseudo_sum(p, rest);
	return fold((__u64)sum_frame(header, rest) + pseudo) == 0xffff ||
	       *(__u16 *)&s->frame[header + check_at] == pseudo;
}

GLOBAL_FUNCTION(sum_is_right, (), ())

#endif
