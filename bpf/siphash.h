/* SPDX-License-Identifier: GPL-2.0-only */
/* SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF") of octets in the scratch: the
 * tags of SSMB (wire protocol 12.4) and the serials of flows.
 */
#ifndef SPLITPLANE_SIPHASH_H
#define SPLITPLANE_SIPHASH_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

#define HASHED_MAX 704 /* octets; the longest datagram that this program seals or opens */

/* By pointer, because a global function returns an int. */
struct hashing {
	__u64 key[2];
	__u64 hash; /* the result, as the machine stores its eight octets in order */
	__u32 from; /* in the scratch */
	__u32 length;
};

struct hash_state {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 little_endian(__u64 word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap64(word);
#else
	return word;
#endif
}

static __always_inline __u64 rotate(__u64 word, int bits)
{
	return word << bits | word >> (64 - bits);
}

static __always_inline void hash_round(struct hash_state *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32) + s->v3;
	s->v2 += s->v1;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v2 = rotate(s->v2, 32);
}

static __always_inline void hash_word(struct hash_state *s, __u64 word)
{
	s->v3 ^= word;
	hash_round(s);
	hash_round(s);
	s->v0 ^= word;
}

/* Global: the verifier follows its loop once, not once a caller. */
__noinline int siphash(struct hashing *h)
{
	struct hash_state s;
	struct scratch *scratched;
	__u32 zero = 0, left, at;
	__u64 word = 0;
	__u8 *octets;
	int i;

	scratched = bpf_map_lookup_elem(&scratch, &zero);
	if (!h || !scratched || h->length > HASHED_MAX || h->from > HASHED_MAX)
		return -1;
	octets = (__u8 *)scratched;
	s.v0 = h->key[0] ^ 0x736f6d6570736575ull;
	s.v1 = h->key[1] ^ 0x646f72616e646f6dull;
	s.v2 = h->key[0] ^ 0x6c7967656e657261ull;
	s.v3 = h->key[1] ^ 0x7465646279746573ull;
	left = h->length;
	at = h->from;
	for (i = 0; i < HASHED_MAX / 8 + 1; i++) {
		barrier_var(at);
		if (at > 2 * HASHED_MAX)
			return -1;
		word = little_endian(*(__u64 *)(octets + at));
		if (left < 8)
			break;
		hash_word(&s, word);
		at += 8;
		left -= 8;
	}
	word &= (1ull << ((left & 7) * 8)) - 1;
	hash_word(&s, word | (__u64)h->length << 56);
	s.v2 ^= 0xff;
	hash_round(&s);
	hash_round(&s);
	hash_round(&s);
	hash_round(&s);
	h->hash = little_endian(s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
	return 0;
}

#endif
