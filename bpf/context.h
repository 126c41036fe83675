/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between the two places to attach to, and nothing else.  `xdp` is a constant in
 * each program, so that the compiler drops the other half.
 */
#ifndef SPLITPLANE_CONTEXT_H
#define SPLITPLANE_CONTEXT_H

#include "maps.h"

/* Keep the compiler from proving away a bound that the verifier needs to see checked. */
#define KNOWN(value) asm volatile("" : "+r"(value))
/* A loop's variable whose range the verifier forgets at each turn, or it would follow all paths. */
#define FORGOTTEN volatile __u8

struct context {
	void *raw;
	__u32 ifindex; /* where the packet came in; of an injected one, where it first came in */
	bool xdp;
	bool injected;
};

#define SKB(c) ((struct __sk_buff *)(c)->raw)
#define XDP(c) ((struct xdp_md *)(c)->raw)

static __always_inline __u8 *context_data(struct context *c)
{
	return (__u8 *)(long)(c->xdp ? XDP(c)->data : SKB(c)->data);
}

static __always_inline __u8 *context_end(struct context *c)
{
	return (__u8 *)(long)(c->xdp ? XDP(c)->data_end : SKB(c)->data_end);
}

/* The place at `offset`, NULL beyond `limit`: the verifier wants the bound checked first. */
static __always_inline __u8 *context_at(struct context *c, __u32 offset, __u32 limit)
{
	KNOWN(offset);
	return offset > limit ? NULL : context_data(c) + offset;
}

static __always_inline __u32 context_length(struct context *c)
{
	__u64 length;

	if (!c->xdp)
		return SKB(c)->len;
	length = context_end(c) - context_data(c);
	KNOWN(length); /* or the compiler computes with halves of pointers */
	return length;
}

static __always_inline int context_pass(struct context *c)
{
	/* not TC_ACT_OK: other programs and filters on the interface are to see it too */
	return c->xdp ? XDP_PASS : TC_ACT_UNSPEC;
}

static __always_inline int context_drop(struct context *c, __u32 why)
{
	count(why);
	return c->xdp ? XDP_DROP : TC_ACT_SHOT;
}

/* Make the first octets readable; what pointers there were are void. */
static __always_inline void context_pull(struct context *c, __u32 octets)
{
	if (c->xdp)
		return;
	if (octets > SKB(c)->len)
		octets = SKB(c)->len;
	bpf_skb_pull_data(SKB(c), octets);
}

/* Segments that the packet will be on the wire, and the payload of each (0: not offloaded). */
static __always_inline __u32 context_segments(struct context *c, __u32 *payload)
{
	if (c->xdp)
		return 1;
	*payload = SKB(c)->gso_size;
	return SKB(c)->gso_segs > 1 ? SKB(c)->gso_segs : 1;
}

#endif
