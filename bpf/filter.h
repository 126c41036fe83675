/* SPDX-License-Identifier: GPL-2.0-only */
/* Which packets may begin a flow.  All of this is asked after the flow table missed, so that
 * packets of flows pay nothing for it; no flow whose client is an address of ours is installed.
 */
#ifndef SPLITPLANE_FILTER_H
#define SPLITPLANE_FILTER_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "maps.h"
#include "parse.h"
#include "shared.h"

#define OPTION_LOOSE_SOURCE_ROUTE 131
#define OPTION_STRICT_SOURCE_ROUTE 137

/* No host's address, or one of one link only: no router forwards from or to it (RFC 1812 5.3.7,
 * RFC 4291 2.5).  0.0.0.0/8, 127/8, 224/3; ::, ::1, fe80::/10, ff00::/8. */
static __always_inline bool is_martian(__u8 version, const __be32 *address)
{
	__u32 first = bpf_ntohl(address[version == 4 ? 3 : 0]), top = first >> 24;

	if (version == 4)
		return top == 0 || top == 127 || top >= 224;
	if (top == 0xff || first >> 22 == 0xfe80 >> 6)
		return true;
	return !(first | address[1] | address[2]) && bpf_ntohl(address[3]) <= 1;
}

/* A virtual address, or one of this machine. */
static __always_inline bool is_ours(const __be32 *address)
{
	__u32 *flags;

	if (bpf_map_lookup_elem(&addresses, address))
		return true;
	flags = bpf_map_lookup_elem(&local_addresses, address);
	return flags && *flags & ADDRESS_OWN;
}

/* RFC 1122 3.3.6: what was sent to a group of stations is not for one host. */
static __always_inline bool is_group_frame(struct context *c)
{
	__u8 *data = context_data(c);

	return data + 14 > context_end(c) || data[0] & 1;
}

/* No frame comes from a group of stations (IEEE 802.3 3.2.3); answered there it would reach all. */
static __always_inline bool is_from_group(struct context *c)
{
	__u8 *data = context_data(c);

	return data + 14 > context_end(c) || data[6] & 1;
}

/* Nor does a packet come from all hosts of a network. */
static __always_inline bool is_broadcast(const __be32 *address)
{
	__u32 *flags = bpf_map_lookup_elem(&local_addresses, address);

	return flags && *flags & ADDRESS_BROADCAST;
}

/* Whether an IPv4 packet says by which routers it wants to go; each octet once, for few verifier
 * paths. */
static __always_inline int has_source_route(struct context *c, struct packet *p)
{
	UNTRACKED next = 20;
	__u8 *header = context_at(c, p->l3, L3_MAX), *end = context_end(c);
	__u32 length = p->l4 - p->l3;
	int i;

	if (!header)
		return true;
	for (i = 0; i < 40; i++) {
		__u32 at = next;
		__u8 *option = header + at;

		if (at > 58 || at + 2 > length || option + 2 > end || option[0] == 0)
			return false;
		if (option[0] == OPTION_LOOSE_SOURCE_ROUTE ||
		    option[0] == OPTION_STRICT_SOURCE_ROUTE)
			return true;
		if (option[0] != 1 && option[1] < 2)
			return false;
		next = at + (option[0] == 1 ? 1 : option[1]);
	}
	return false;
}

GLOBAL_FUNCTION(has_source_route, (), ())

/* What the kernel checks of a packet that it forwards itself (net.ipv4.conf.*.rp_filter, for both
 * families).  Several external interfaces may share the routes to the clients, and a look-up gives
 * one of them only, so they count as one. */
static __always_inline int is_from_elsewhere(struct context *c, struct packet *p)
{
	struct interface *interface = interface_at(c->ifindex), *leads_to;
	struct bpf_fib_lookup fib = {};
	long result;

	if (!interface || !(interface->flags & (INTERFACE_LOOSE | INTERFACE_STRICT)))
		return false;
	fib.ifindex = c->ifindex;
	fib.l4_protocol = p->key.protocol;
	fib.sport = p->key.dport;
	fib.dport = p->key.sport;
	fib.tot_len = 1;
	route_between(&fib, p->version == 4, p->tos, p->key.dst, p->key.src);
	result = bpf_fib_lookup(c->raw, &fib, sizeof(fib), 0);
	if (result < 0 || result == BPF_FIB_LKUP_RET_FWD_DISABLED ||
	    result == BPF_FIB_LKUP_RET_UNSUPP_LWT)
		return false;
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return true;
	if (!(interface->flags & INTERFACE_STRICT) || fib.ifindex == c->ifindex)
		return false;
	leads_to = interface_at(fib.ifindex);
	return !leads_to || !(leads_to->flags & INTERFACE_EXTERNAL);
}

GLOBAL_FUNCTION(is_from_elsewhere, (), ())

/* For how long an answer of UDP may follow what the internal side sent last: as long as Linux keeps
 * such a stream in mind (nf_conntrack_udp_timeout_stream), and resolvers wait less. */
#define OUTGOING_UDP_NS 120000000000ull

/* The virtual server at an address, of a port or of all. */
static __always_inline struct virtual_server *match_port(struct virtual_server_key *key)
{
	struct virtual_server *found = bpf_map_lookup_elem(&virtual_servers, key);

	if (found)
		return found;
	key->port = 0;
	return bpf_map_lookup_elem(&virtual_servers, key);
}

/* The internal side opens a connection, or sends a datagram, and a wildcard would take the answer:
 * keep the answer's key. */
static __always_inline int note_outgoing(struct context *c, struct packet *p)
{
	struct virtual_server_key server = {
		.protocol = p->key.protocol,
		.port = p->key.sport,
	};
	struct flow_key key = {
		.sport = p->key.dport,
		.dport = p->key.sport,
		.protocol = p->key.protocol,
	};
	__u64 now;

	if ((p->key.protocol == PROTOCOL_TCP && !is_syn(p)) || !match_port(&server))
		return 0;
	__builtin_memcpy(key.src, p->key.dst, 16);
	__builtin_memcpy(key.dst, p->key.src, 16);
	now = bpf_ktime_get_coarse_ns();
	bpf_map_update_elem(&outgoing, &key, &now, BPF_ANY);
	return 0;
}

GLOBAL_FUNCTION(note_outgoing, (), ())

/* Whether a packet answers what the internal side sent of itself.  No client's connection begins
 * with SYN and ACK. */
static __always_inline bool is_answer(struct packet *p)
{
	__u64 *sent;

	if (p->key.protocol == PROTOCOL_TCP && p->tcp_flags & TCP_SYN)
		return p->tcp_flags & TCP_ACK;
	sent = bpf_map_lookup_elem(&outgoing, &p->key);
	return sent && (p->key.protocol == PROTOCOL_TCP ||
			*sent + OUTGOING_UDP_NS > bpf_ktime_get_coarse_ns());
}

static __always_inline bool is_source_routed(struct context *c, struct packet *p)
{
	if (p->version == 6)
		return p->source_routed;
	return p->l4 > p->l3 + 20 && CALL(has_source_route, c, p);
}

#endif
