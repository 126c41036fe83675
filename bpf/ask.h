/* SPDX-License-Identifier: GPL-2.0-only */
/* The question about a new flow, asked by the program itself: the packet becomes a sealed QUERY that
 * carries it (PARKED, wire protocol 6.8), and nothing is kept here.  Only for tc: a packet that XDP
 * finds no flow for is passed up to it.
 */
#ifndef SPLITPLANE_ASK_H
#define SPLITPLANE_ASK_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "crowd.h"
#include "endings.h"
#include "maps.h"
#include "parse.h"
#include "shared.h"
#include "siphash.h"
#include "ssmb.h"
#include "sums.h"
#include "upcall.h"

#define NOT_ASKED -1
#define SSMB_TTL 64
#define SSMB_TRAFFIC_CLASS (48 << 2) /* DSCP CS6, wire protocol 6.8 */
#define UDP_HEADER 8
#define LINK_HEADER 14
#define UDP_SLOT_SHIFT 32 /* of the clock: some four seconds */
#define LANE_SHIFT 56

/* Where the parts of the datagram lie in the scratch, so that the frame stays where it is; `size` is
 * the message's before its frame. */
#define MESSAGE_AT(size) (offsetof(struct scratch, frame) - (size))
#define UDP_AT(size) (MESSAGE_AT(size) - UDP_HEADER)
#define IPV4_AT(size) (UDP_AT(size) - sizeof(struct iphdr))
#define IPV6_AT(size) (UDP_AT(size) - sizeof(struct ipv6hdr))

_Static_assert(IPV6_AT(sizeof(struct app_query_message)) >= LINK_HEADER,
	       "room for every header before the frame");

struct asking {
	__u32 size; /* of the message before its frame, a constant */
	__u32 length; /* of the frame */
	__u32 payload; /* of the UDP datagram */
	__u32 ifindex;
	__u8 dmac[6];
	__u8 smac[6];
	bool is_ipv4; /* the way to the CS */
	bool is_unfinished; /* the packet's checksum was left to the NIC */
};

/* What tells the flows of a session of UDP apart: the time, or that one was taken out meanwhile. */
static __always_inline __u32 datagram_slot(struct packet *p, __u64 now)
{
	__u32 *other = bpf_map_lookup_elem(&renewed, &p->key);

	return (__u32)(now >> UDP_SLOT_SHIFT) ^ (other ? *other : 0);
}

static __always_inline bool is_app(__u32 size)
{
	return size == sizeof(struct app_query_message);
}

/* A repeated SYN, or a repeated first segment, has the serial of the first one, so that it is a
 * repeated question; so have the datagrams of a client within a few seconds.  Nothing of the flow is remembered for it. */
static __always_inline __u32 make_serial(struct scratch *s, struct packet *p, __u32 size,
					 __u64 now)
{
	struct query_message *query = (void *)s + MESSAGE_AT(size);
	struct hashing hashing = {
		.from = MESSAGE_AT(size) + offsetof(struct ssmb_beginning, serial),
		.length = offsetof(struct ssmb_beginning, tos) -
			  offsetof(struct ssmb_beginning, serial),
	};
	__u32 zero = 0, l4 = p->l4;
	struct meta *m = bpf_map_lookup_elem(&meta, &zero);
	__u32 serial;

	barrier_var(l4);
	if (!m || l4 > 128)
		return 0;
	hashing.key[0] = m->serial_key[0];
	hashing.key[1] = m->serial_key[1];
	query->beginning.serial = p->key.protocol == PROTOCOL_TCP ?
					  *(__be32 *)(s->frame + l4 + 4) :
					  bpf_htonl(datagram_slot(p, now));
	if (is_app(size)) /* the client's first octet follows its SYN */
		query->beginning.serial = bpf_htonl(bpf_ntohl(query->beginning.serial) - 1);
	if (siphash(&hashing))
		return 0;
	serial = (__u32)little_endian(hashing.hash) & 0x7fffffff;
	return serial ? serial : 1;
}

static __always_inline bool write_query(struct scratch *s, struct packet *p, __u32 size)
{
	struct query_message *query = (void *)s + MESSAGE_AT(size);
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 serial;

	query->beginning.type = is_app(size) ? SSMB_APP_QUERY : SSMB_QUERY;
	query->beginning.error_code = 0;
	query->beginning.flags = bpf_htons(SSMB_PARKED | SSMB_ADDR16);
	__builtin_memcpy(query->beginning.src, p->key.src, 16);
	__builtin_memcpy(query->beginning.dst, p->key.dst, 16);
	query->beginning.sport = p->key.sport;
	query->beginning.dport = p->key.dport;
	query->beginning.protocol = p->key.protocol;
	query->beginning.tos = p->tos & 0xfc; /* without the ECN bits, wire protocol 6.2 */
	query->beginning.tcp_flags = p->tcp_flags;
	query->beginning.detail = is_app(size) ? p->app_type : 0;
	query->timestamp = bpf_htonl(now / NS_PER_MS);
	if (is_app(size))
		__builtin_memset(query + 1, 0, 4); /* app_length */
	serial = make_serial(s, p, size, now);
	query->beginning.serial = bpf_htonl(serial);
	return serial;
}

/* The frame's MAC addresses are needed no more: they say where it came in, as for dfs_back. */
static __always_inline void write_arrival(struct scratch *s, __u32 ifindex)
{
	__builtin_memset(s->frame, 0, 12);
	__builtin_memcpy(s->frame + 8, &ifindex, 4);
}

static __always_inline bool seal(struct scratch *s, struct control *control, struct asking *a)
{
	struct hashing hashing = {
		.key = { control->sealing_key[0], control->sealing_key[1] },
		.from = MESSAGE_AT(a->size),
	};
	__u32 zero = 0, at = a->length;
	__u64 *counter = bpf_map_lookup_elem(&sealed, &zero), value;
	__u32 processor = bpf_get_smp_processor_id();

	barrier_var(at);
	if (!counter || processor > 0xfe || at > SSMB_FRAME_MAX)
		return false;
	*counter += 1; /* this processor's, which nothing else uses at the same time */
	value = bpf_cpu_to_be64((__u64)(processor + 1) << LANE_SHIFT | *counter);
	__builtin_memcpy(s->frame + at, &value, 8);
	hashing.length = a->size + at + 8;
	if (siphash(&hashing))
		return false;
	__builtin_memcpy(s->frame + at + 8, &hashing.hash, 8);
	__builtin_memset(s->frame + at + 16, 0, 4);
	a->payload = a->size + at + sizeof(struct ssmb_seal);
	return true;
}

/* The way to the CS, as the kernel knows it. */
static __always_inline bool find_way(struct context *c, struct control *control, struct asking *a)
{
	struct bpf_fib_lookup fib = {};

	fib.ifindex = c->ifindex;
	fib.l4_protocol = PROTOCOL_UDP;
	fib.sport = control->own_port;
	fib.dport = control->port;
	fib.tot_len = sizeof(struct ipv6hdr) + UDP_HEADER + a->size + a->length +
		      sizeof(struct ssmb_seal);
	a->is_ipv4 = is_mapped(control->address);
	route_between(&fib, a->is_ipv4, SSMB_TRAFFIC_CLASS, control->own, control->address);
	if (bpf_fib_lookup(c->raw, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return false;
	a->ifindex = fib.ifindex;
	__builtin_memcpy(a->dmac, fib.dmac, 6);
	__builtin_memcpy(a->smac, fib.smac, 6);
	return true;
}

static __always_inline void write_headers(struct scratch *s, struct control *control,
					  struct asking *a)
{
	__u32 length = UDP_HEADER + a->payload;
	__u8 *base = (__u8 *)s, *link;
	struct iphdr *ip = (void *)(base + IPV4_AT(a->size));
	__be16 *udp = (void *)(base + UDP_AT(a->size));
	__u16 sum = 0;

	udp[0] = control->own_port;
	udp[1] = control->port;
	udp[2] = bpf_htons(length);
	udp[3] = 0;
	if (a->is_ipv4) {
		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = 5;
		ip->tos = SSMB_TRAFFIC_CLASS;
		ip->tot_len = bpf_htons(sizeof(*ip) + length);
		ip->frag_off = bpf_htons(0x4000);
		ip->ttl = SSMB_TTL;
		ip->protocol = PROTOCOL_UDP;
		ip->saddr = control->own[3];
		ip->daddr = control->address[3];
		ip->check = ~fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
		link = base + IPV4_AT(a->size) - LINK_HEADER;
		*(__be16 *)(link + 12) = bpf_htons(ETHERTYPE_IPV4);
	} else {
		struct ipv6hdr *ip6 = (void *)(base + IPV6_AT(a->size));

		__builtin_memset(ip6, 0, sizeof(*ip6));
		ip6->version = 6;
		ip6->priority = SSMB_TRAFFIC_CLASS >> 4;
		ip6->flow_lbl[0] = (SSMB_TRAFFIC_CLASS & 0xf) << 4;
		ip6->payload_len = bpf_htons(length);
		ip6->nexthdr = PROTOCOL_UDP;
		ip6->hop_limit = SSMB_TTL;
		__builtin_memcpy(&ip6->saddr, control->own, 16);
		__builtin_memcpy(&ip6->daddr, control->address, 16);
		link = base + IPV6_AT(a->size) - LINK_HEADER;
		*(__be16 *)(link + 12) = bpf_htons(ETHERTYPE_IPV6);
	}
	__builtin_memcpy(link, a->dmac, 6);
	__builtin_memcpy(link + 6, a->smac, 6);
	if (a->is_ipv4)
		return; /* the seal is enough, RFC 768; over IPv6 it has to be */
	sum = ~fold((__u64)sum_scratch(UDP_AT(a->size), length) +
		    sum_of_pseudo(control->own, control->address, PROTOCOL_UDP, length));
	udp[3] = sum ? sum : 0xffff;
}

/* Where the packet's own checksum was left to the NIC, the kernel keeps in mind where a sum is to
 * begin, at the transport header, and where it is to be written (CHECKSUM_PARTIAL).  No program can
 * change that, but the kernel drops it when the place is found to lie before the packet: so octets
 * are taken away until it does.  `total` is more than an IP header. */
static __always_inline bool forget_unfinished(struct __sk_buff *skb, struct scratch *s, __u32 l4,
					      __u32 total)
{
	return !bpf_skb_change_tail(skb, total + l4, 0) &&
	       !bpf_skb_adjust_room(skb, -(__s32)(l4 + 2), BPF_ADJ_ROOM_MAC, 0) &&
	       !bpf_skb_store_bytes(skb, 0, s, LINK_HEADER, BPF_F_RECOMPUTE_CSUM);
}

/* Make it a packet of that family; what lies behind its IP header begins at `at` then. */
static __always_inline bool change_family(struct __sk_buff *skb, struct packet *p, bool is_ipv4,
					  __u32 *at)
{
	__u32 longer = sizeof(struct ipv6hdr) - sizeof(struct iphdr);

	if (is_ipv4 && p->version == 6) {
		*at -= longer;
		return !bpf_skb_change_proto(skb, bpf_htons(ETHERTYPE_IPV4), 0);
	}
	if (!is_ipv4 && p->version == 4) {
		*at += longer;
		return !bpf_skb_change_proto(skb, bpf_htons(ETHERTYPE_IPV6), 0);
	}
	return true;
}

/* Make the packet the datagram in the scratch. */
static __always_inline bool become(struct __sk_buff *skb, struct scratch *s, struct packet *p,
				   struct asking *a)
{
	__u32 ip = a->is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 total = LINK_HEADER + ip + UDP_HEADER + a->payload;
	__u64 flags = BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH;
	__u32 l4 = p->l4;

	if (!change_family(skb, p, a->is_ipv4, &l4))
		return false;
	if (a->is_unfinished && !forget_unfinished(skb, s, l4, total))
		return false;
	barrier_var(total);
	if (total > HASHED_MAX || total < 100 || bpf_skb_change_tail(skb, total, 0))
		return false;
	if (a->is_ipv4)
		return !bpf_skb_store_bytes(skb, 0, (__u8 *)s + IPV4_AT(a->size) - LINK_HEADER,
					    total, flags);
	return !bpf_skb_store_bytes(skb, 0, (__u8 *)s + IPV6_AT(a->size) - LINK_HEADER, total,
				    flags);
}

static __always_inline bool was_refused(struct control *control, struct packet *p)
{
	__u64 *until;

	if (!(control->flags & CONTROL_REFUSED))
		return false;
	until = bpf_map_lookup_elem(&refused, &p->key);
	return until && *until > bpf_ktime_get_coarse_ns();
}

static __always_inline bool asks(__u32 group_id)
{
	struct control *control = control_of(group_id);

	return control && control->flags & CONTROL_ASKS;
}

/* Whether a client's first segment, which has a cookie, may be asked about with all that it says: it
 * has data, the end of none and nothing urgent, in one short frame. */
static __always_inline bool is_request(const struct packet *p)
{
	return p->app_type && p->fragment == WHOLE && p->l3 == LINK_HEADER &&
	       p->l3 + p->length <= SSMB_FRAME_MAX &&
	       (p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_URG | TCP_ACK)) == TCP_ACK;
}

static __always_inline void note_asked(const struct flow_key *key)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	bpf_map_update_elem(&asked, key, &now, BPF_ANY);
}

/* NOT_ASKED: nothing was changed, and the agent has to.  `size` is the message's, a constant. */
static __always_inline int ask(struct __sk_buff *skb, struct packet *p, __u32 size)
{
	struct context c = { .raw = skb };
	struct control *control;
	struct asking a = { .size = size };
	enum checksums checksums;
	struct scratch *s;

	control = control_of(p->group_id);
	if (!control || !(control->flags & CONTROL_ASKS))
		return NOT_ASKED;
	c.ifindex = p->ifindex;
	a.length = p->l3 + p->length; /* without what an Ethernet adds to short frames */
	if (p->fragment != WHOLE || p->l3 != LINK_HEADER || skb->vlan_present || skb->gso_size ||
	    a.length > SSMB_FRAME_MAX || was_refused(control, p) || !find_way(&c, control, &a))
		return NOT_ASKED;
	s = copy_frame(&c, p, a.length);
	if (!s)
		return context_drop(&c, COUNTER_DROP_MALFORMED);
	checksums = finish_checksums(s, p, a.length);
	if (checksums == CHECKSUMS_WRONG)
		return context_drop(&c, COUNTER_DROP_CHECKSUM);
	a.is_unfinished = checksums == CHECKSUMS_FINISHED;
	if (is_crowded_out(p->key.src, is_app(size)))
		return context_drop(&c, COUNTER_DROP_CROWDED);
	write_arrival(s, c.ifindex);
	if (!write_query(s, p, size) || !seal(s, control, &a))
		return NOT_ASKED;
	write_headers(s, control, &a);
	if (!become(skb, s, p, &a))
		return context_drop(&c, COUNTER_DROP_NO_ROOM);
	count(COUNTER_ASKED);
	if (is_app(size)) {
		note_asked(&p->key);
		count(COUNTER_SHORT_ASKED);
	}
	return bpf_redirect(a.ifindex, 0);
}

/* About a packet that begins a flow. */
__noinline int ask_tc(struct __sk_buff *skb, struct packet *p)
{
	if (!p || (p->key.protocol == PROTOCOL_TCP && !is_syn(p)))
		return NOT_ASKED;
	return ask(skb, p, sizeof(struct query_message));
}

/* About what a client says first to a content-aware virtual server. */
__noinline int ask_app_tc(struct __sk_buff *skb, struct packet *p)
{
	return p && is_request(p) ? ask(skb, p, sizeof(struct app_query_message)) : NOT_ASKED;
}

#endif
