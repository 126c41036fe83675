/* SPDX-License-Identifier: GPL-2.0-only */
/* SYN cookies (docs/design/0012-content.md): what a client's SYN said is in the sequence number of its
 * answer, so that nothing is kept.  Octet for octet as splicing/cookies.py makes and reads them.
 */
#ifndef SPLITPLANE_COOKIE_H
#define SPLITPLANE_COOKIE_H

#include <stdbool.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "filter.h"
#include "maps.h"
#include "parse.h"
#include "segment.h"
#include "shared.h"
#include "siphash.h"

#define COOKIE_HASH_MASK 0x3fffffu /* the lowest 22 bits; above them is what the SYN said */
#define COOKIE_SACK (1u << 22)
#define COOKIE_SCALE_SHIFT 23
#define COOKIE_MSS_SHIFT 27
#define COOKIE_NUMBER_SHIFT 30
#define TCP_HEADER 20

/* what is hashed; in the scratch */
struct cookie_input {
	__be32 src[4];
	__be32 dst[4];
	__be16 sport;
	__be16 dport;
	__be32 isn; /* of the client */
	__be32 facts; /* the cookie without its hash */
};

_Static_assert(sizeof(struct cookie_input) == 44, "as splicing/cookies.py packs it");

static __always_inline struct cookie_secrets *secrets_of(__u32 group_id)
{
	return bpf_map_lookup_elem(&cookies, &group_id);
}

/* The hash of a cookie with these facts for the packet's sender; false if its secret is not good. */
static __always_inline bool hash_cookie(const struct cookie_secrets *secrets,
					struct flow_key *key, __u32 isn, __u32 facts, __u32 *hash)
{
	struct hashing hashing = { .from = 0, .length = sizeof(struct cookie_input) };
	__u32 zero = 0, number = facts >> COOKIE_NUMBER_SHIFT;
	struct cookie_input *input = bpf_map_lookup_elem(&scratch, &zero);

	if (!input || !(secrets->valid & 1 << (number & 3)))
		return false;
	hashing.key[0] = secrets->keys[(number & 3) * 2];
	hashing.key[1] = secrets->keys[(number & 3) * 2 + 1];
	__builtin_memcpy(input->src, key->src, 16);
	__builtin_memcpy(input->dst, key->dst, 16);
	input->sport = key->sport;
	input->dport = key->dport;
	input->isn = bpf_htonl(isn);
	input->facts = bpf_htonl(facts);
	if (siphash(&hashing))
		return false;
	*hash = little_endian(hashing.hash) & COOKIE_HASH_MASK;
	return true;
}

static __always_inline bool has_something_to_say(const struct packet *p)
{
	return p->length > p->l4 - p->l3 + p->payload_at || p->tcp_flags & TCP_FIN;
}

/* Whether it acknowledges a cookie of ours, and is the first segment that its client sends. */
static __always_inline int has_cookie(struct context *c, struct packet *p)
{
	__u8 *h = context_at(c, p->l4, L4_MAX);
	struct cookie_secrets *secrets = secrets_of(p->group_id);
	__u32 cookie, isn, hash = 0;

	if (!secrets || !h || h + TCP_HEADER > context_end(c))
		return false;
	isn = bpf_ntohl(*(__be32 *)(h + 4)) - 1;
	cookie = bpf_ntohl(*(__be32 *)(h + 8)) - 1;
	return hash_cookie(secrets, &p->key, isn, cookie & ~COOKIE_HASH_MASK, &hash) &&
	       (cookie & COOKIE_HASH_MASK) == hash;
}

GLOBAL_FUNCTION(has_cookie, (), ())

/* Whether a client's packet has no number of the connection that its flow had.  What it acknowledges
 * tells less: most bits of two cookies for one client are the same. */
static __always_inline bool is_far(struct context *c, struct packet *p, const struct flow *f)
{
	__u8 *h = context_at(c, p->l4, L4_MAX);
	__u32 first = f->next_seq - WINDOW_MINIMUM;

	return f->close & CLOSE_HAVE_SEQ && h && h + TCP_HEADER <= context_end(c) &&
	       bpf_ntohl(*(__be32 *)(h + 4)) - first >= 2 * WINDOW_MINIMUM;
}

/* A packet of a flow that ended and lingers: whether its client has begun another connection, whose
 * SYN met no entry.  For the packets of spliced flows only.  The node would reset what it sends. */
static __always_inline int begins_anew(struct context *c, struct packet *p, struct flow *f)
{
	struct virtual_server_key key = {
		.protocol = PROTOCOL_TCP,
		.port = p->key.dport,
	};
	struct virtual_server *server;
	bool far;

	if (!f || (p->tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK ||
	    p->fragment != WHOLE)
		return false;
	far = is_far(c, p, f);
	if (!far && !has_something_to_say(p))
		return false;
	__builtin_memcpy(key.address, p->key.dst, 16);
	server = match_port(&key);
	if (!server) {
		__builtin_memset(key.address, 0, 16);
		key.port = p->key.dport;
		server = match_port(&key);
	}
	if (!server || !(server->flags & VIRTUAL_SERVER_PROXIED))
		return false;
	p->group_id = server->group_id;
	return far || has_cookie(c, p);
}

GLOBAL_FUNCTION(begins_anew, (struct flow *f), (f))

#endif
