// SPDX-License-Identifier: GPL-2.0-only
/* The data path as dfs.bpf.c has it, met by a packet of another flow at each run: for
 * bench/program.py, which runs it by BPF_PROG_TEST_RUN.  A run writes the packet's header anew,
 * because the run before translated it; `bench_floor` does only that. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../bpf/dfs.bpf.c"

struct bench_packet {
	struct ethhdr eth;
	struct iphdr ip;
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__u16 check;
	__u16 urgent;
} __attribute__((packed));

__u32 bench_flows = 1; /* a power of two */
__u32 bench_reverse = 0; /* run the node's direction */
__u32 bench_state = 1;

static __always_inline bool renew(struct __sk_buff *skb, struct context *c)
{
	struct bench_packet *p = (void *)(long)skb->data;
	__be32 client, vip = bpf_htonl(0xcb00710a), node = bpf_htonl(0x0a5a0202);
	__u32 number;

	if ((void *)(p + 1) > (void *)(long)skb->data_end)
		return false;
	bench_state = bench_state * 1664525 + 1013904223;
	number = (bench_state >> 5) & (bench_flows - 1);
	client = bpf_htonl(0x0b000000 + number);
	p->ip.ttl = 64;
	if (bench_reverse) {
		p->ip.saddr = node;
		p->ip.daddr = client;
		p->sport = bpf_htons(8080);
		p->dport = bpf_htons(40000);
	} else {
		p->ip.saddr = client;
		p->ip.daddr = vip;
		p->sport = bpf_htons(40000);
		p->dport = bpf_htons(80);
	}
	return true;
}

SEC("tc")
int bench_floor(struct __sk_buff *skb)
{
	struct context c = { .raw = skb, .ifindex = skb->ifindex };

	return renew(skb, &c) ? TC_ACT_OK : TC_ACT_SHOT;
}

SEC("tc")
int bench_tc(struct __sk_buff *skb)
{
	struct context c = { .raw = skb, .ifindex = skb->ifindex };
	struct packet p;

	if (!renew(skb, &c))
		return TC_ACT_SHOT;
	return process(&c, &p, true);
}

/* The flow table's look-up alone, and one word of what it finds: what no program can avoid. */
SEC("tc")
int bench_lookup(struct __sk_buff *skb)
{
	struct context c = { .raw = skb, .ifindex = skb->ifindex };
	struct packet p;
	struct flow *f;

	if (!renew(skb, &c) || parse(&c, &p) != KIND_TRANSPORT)
		return TC_ACT_SHOT;
	f = bpf_map_lookup_elem(&flows, &p.key);
	return f && f->new_dport ? TC_ACT_REDIRECT : TC_ACT_SHOT;
}
