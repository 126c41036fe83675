/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between the two attach points, and nothing else.  `xdp` is a constant in
 * each program, so that the compiler drops the other half.
 */
#ifndef SPLITPLANE_CONTEXT_H
#define SPLITPLANE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "shared.h"

/* A loop variable whose range the verifier does not track, or it would follow every path. */
#define UNTRACKED volatile __u8

/* By the agent: a packet that waited for its flow, or a fragment that may belong to none. */
enum injected {
	INJECTED = 1,
	INJECTED_FRAGMENT = 2,
	/* the program's own SYN to a node, in a client's name */
	INJECTED_SYN = 3
};

struct context {
	void *raw;
	__u32 ifindex; /* the ingress interface; of an injected packet, the original one */
	bool xdp;
	__u8 injected; /* enum injected */
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

/* The octet at `offset`, NULL beyond `limit`: the verifier wants the bound checked first. */
static __always_inline __u8 *context_at(struct context *c, __u32 offset, __u32 limit)
{
	barrier_var(offset);
	return offset > limit ? NULL : context_data(c) + offset;
}

static __always_inline __u32 context_length(struct context *c)
{
	__u64 length;

	if (!c->xdp)
		return SKB(c)->len;
	length = context_end(c) - context_data(c);
	barrier_var(length); /* otherwise the compiler computes with halves of pointers */
	return length;
}

static __always_inline int context_pass(struct context *c)
{
	/* not TC_ACT_OK: other programs and filters on the interface see it too */
	return c->xdp ? XDP_PASS : TC_ACT_UNSPEC;
}

static __always_inline int context_drop(struct context *c, enum counter reason)
{
	count(reason);
	return c->xdp ? XDP_DROP : TC_ACT_SHOT;
}

/* Make the first octets readable; pointers into the packet become invalid. */
static __always_inline void context_pull(struct context *c, __u32 octets)
{
	if (c->xdp)
		return;
	if (octets > SKB(c)->len)
		octets = SKB(c)->len;
	bpf_skb_pull_data(SKB(c), octets);
}

/* How many segments the packet becomes on the wire; *payload is that of each, where offloaded. */
static __always_inline __u32 context_segments(struct context *c, __u32 *payload)
{
	if (c->xdp)
		return 1;
	*payload = SKB(c)->gso_size;
	return SKB(c)->gso_segs > 1 ? SKB(c)->gso_segs : 1;
}

#endif
