// SPDX-License-Identifier: Apache-2.0
// The CS's datagrams by the batch: receive, open, answer (docs/design/0007-native-datagrams.md).
//
// Nothing is decided, allocated or kept here: every structure belongs to the caller, which is
// control_segment/runtime/native.py; the two must agree on them.  What comes from the network is only
// read within the length that the kernel reported.

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define API __attribute__((visibility("default")))

// The caller compares it with its own: another one is not loaded.
#define LAYOUT 2

#define BATCH 64 // datagrams
#define OCTETS 2048 // of one; SSMB_DGRAM_MAX and more, and room to grow from QUERY to REPLY
#define SOURCE 28 // struct sockaddr_in6
#define SEAL 16 // lane 1, counter 7, tag 8 (wire protocol 12.4)
#define TAG 8
#define WINDOW 1024 // counters
#define WORDS 32 // twice the window, so that a counter finds its bit without a shift

#define QUERY 52 // octets of version 2 (6.4)
#define APP_QUERY 56 // without application data, before its frame
#define APP_QUERY_TYPE 3
#define REPLY 116
#define HEAD 4
#define TAIL 68 // from 48 on: the translation
#define ZEROED 46 // tcp_flags and detail
#define PARKED 0x10 // in octet 2

enum { OPENED, TOO_SHORT, BAD_TAG, TOO_OLD, REPLAYED };

struct lane {
	uint64_t highest; // counter
	uint64_t is_known;
	uint64_t seen
		[WORDS]; // one bit for each of the WINDOW latest counters, by counter modulo 64 * WORDS
};

struct opener {
	uint8_t key[16];
	struct lane lanes[256];
};

struct sealer {
	uint8_t key[16];
	uint64_t counter; // lane and counter, as they are written
};

struct batch {
	uint8_t octets[BATCH][OCTETS];
	uint8_t sources[BATCH][SOURCE];
	uint32_t source_lengths[BATCH];
	uint32_t lengths[BATCH];
	struct opener *openers[BATCH]; // NULL: it has no seal
	uint8_t verdicts[BATCH];
};

static uint64_t little(const uint8_t *octets)
{
	uint64_t number = 0;

	for (int at = 7; at >= 0; at--)
		number = number << 8 | octets[at];
	return number;
}

static uint64_t big(const uint8_t *octets)
{
	uint64_t number = 0;

	for (int at = 0; at < 8; at++)
		number = number << 8 | octets[at];
	return number;
}

static void put_big(uint8_t *octets, uint64_t number)
{
	for (int at = 7; at >= 0; at--, number >>= 8)
		octets[at] = (uint8_t)number;
}

static void put_little(uint8_t *octets, uint64_t number)
{
	for (int at = 0; at < 8; at++, number >>= 8)
		octets[at] = (uint8_t)number;
}

#define ROTATE(number, by) ((number) << (by) | (number) >> (64 - (by)))
#define ROUND                                                                                    \
	do {                                                                                     \
		v0 += v1;                                                                        \
		v1 = ROTATE(v1, 13) ^ v0;                                                        \
		v0 = ROTATE(v0, 32);                                                             \
		v2 += v3;                                                                        \
		v3 = ROTATE(v3, 16) ^ v2;                                                        \
		v0 += v3;                                                                        \
		v3 = ROTATE(v3, 21) ^ v0;                                                        \
		v2 += v1;                                                                        \
		v1 = ROTATE(v1, 17) ^ v2;                                                        \
		v2 = ROTATE(v2, 32);                                                             \
	} while (0)

// SipHash-2-4 (Aumasson and Bernstein, 2012); the tag is its output, the lowest octet first.
static uint64_t siphash(const uint8_t key[16], const uint8_t *octets, uint32_t length)
{
	uint64_t k0 = little(key), k1 = little(key + 8);
	uint64_t v0 = k0 ^ 0x736f6d6570736575, v1 = k1 ^ 0x646f72616e646f6d;
	uint64_t v2 = k0 ^ 0x6c7967656e657261, v3 = k1 ^ 0x7465646279746573;
	uint64_t last = (uint64_t)length << 56;
	uint32_t at = 0;

	for (; at + 8 <= length; at += 8) {
		uint64_t word = little(octets + at);

		v3 ^= word;
		ROUND;
		ROUND;
		v0 ^= word;
	}
	for (uint32_t left = 0; at + left < length; left++)
		last |= (uint64_t)octets[at + left] << 8 * left;
	v3 ^= last;
	ROUND;
	ROUND;
	v0 ^= last;
	v2 ^= 0xff;
	ROUND;
	ROUND;
	ROUND;
	ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

static uint64_t bit_of(uint64_t counter)
{
	return 1ULL << (counter & 63);
}

static uint64_t *word_of(struct lane *lane, uint64_t counter)
{
	return &lane->seen[(counter >> 6) & (WORDS - 1)];
}

// Move or mark the window; only a right tag comes here.
static uint8_t note(struct lane *lane, uint64_t counter)
{
	if (!lane->is_known) {
		lane->is_known = 1;
		lane->highest = counter;
	} else if (counter > lane->highest) {
		uint64_t words = (counter >> 6) - (lane->highest >> 6);

		for (uint64_t word = 1; word <= words && word <= WORDS; word++)
			lane->seen[((lane->highest >> 6) + word) & (WORDS - 1)] = 0;
		lane->highest = counter;
	} else if (lane->highest - counter >= WINDOW) {
		return TOO_OLD;
	} else if (*word_of(lane, counter) & bit_of(counter)) {
		return REPLAYED;
	}
	*word_of(lane, counter) |= bit_of(counter);
	return OPENED;
}

// The verdict about one datagram.
API uint8_t open_one(struct opener *opener, const uint8_t *octets, uint32_t length)
{
	uint64_t counter;

	if (length <= SEAL)
		return TOO_SHORT;
	// One comparison of whole words takes the same time wherever they differ (12.5)
	if (siphash(opener->key, octets, length - TAG) != little(octets + length - TAG))
		return BAD_TAG;
	counter = big(octets + length - SEAL);
	return note(&opener->lanes[counter >> 56], counter & 0xffffffffffffff);
}

// Append counter and tag; the caller has room for SEAL octets more.
API void seal_one(struct sealer *sealer, uint8_t *octets, uint32_t length)
{
	put_big(octets + length, ++sealer->counter);
	put_little(octets + length + TAG, siphash(sealer->key, octets, length + TAG));
}

// A number that changes with every datagram that moves a window.
API uint64_t highest(const struct opener *opener)
{
	uint64_t sum = 0;

	for (uint64_t lane = 0; lane < 256; lane++)
		if (opener->lanes[lane].is_known)
			sum += lane << 56 | opener->lanes[lane].highest;
	return sum;
}

API uint32_t layout(void)
{
	return LAYOUT;
}

// With LAYOUT, what the caller checks before it uses the structures.
API uint32_t sizes(void)
{
	return sizeof(struct opener) + sizeof(struct sealer) + sizeof(struct batch);
}

// Receive what is there; the number of datagrams, or -errno.
API int32_t receive(int32_t fd, struct batch *batch)
{
	struct mmsghdr headers[BATCH];
	struct iovec parts[BATCH];
	int count;

	memset(headers, 0, sizeof(headers));
	for (int at = 0; at < BATCH; at++) {
		parts[at] = (struct iovec){ batch->octets[at], OCTETS };
		headers[at].msg_hdr = (struct msghdr){
			.msg_name = batch->sources[at],
			.msg_namelen = SOURCE,
			.msg_iov = &parts[at],
			.msg_iovlen = 1,
		};
	}
	count = recvmmsg(fd, headers, BATCH, MSG_DONTWAIT, NULL);
	if (count < 0)
		return -errno;
	for (int at = 0; at < count; at++) {
		batch->lengths[at] = headers[at].msg_len;
		batch->source_lengths[at] = headers[at].msg_hdr.msg_namelen;
	}
	return count;
}

// Open the seals of the first ones, each with its opener; what is opened is shorter by its seal.
API void open_all(struct batch *batch, uint32_t count)
{
	for (uint32_t at = 0; at < count && at < BATCH; at++) {
		struct opener *opener = batch->openers[at];

		batch->verdicts[at] = OPENED;
		if (!opener)
			continue;
		batch->verdicts[at] = open_one(opener, batch->octets[at], batch->lengths[at]);
		if (batch->verdicts[at] == OPENED)
			batch->lengths[at] -= SEAL;
	}
}

// Make a QUERY of version 2, or an APP_QUERY, with its frame, the REPLY to it; 0: it is none.
static uint32_t reply(uint8_t *octets, uint32_t length, const uint8_t *answer)
{
	uint32_t query = octets[0] == APP_QUERY_TYPE ? APP_QUERY : QUERY;

	if (length < query || length > OCTETS - (REPLY - QUERY) - SEAL)
		return 0;
	memmove(octets + REPLY, octets + query, length - query);
	memcpy(octets, answer, HEAD);
	if (length > query)
		octets[2] |= PARKED;
	octets[ZEROED] = octets[ZEROED + 1] = 0;
	memcpy(octets + ZEROED + 2, answer + HEAD, TAIL);
	return length + REPLY - query;
}

// Answer QUERYs of the batch to where they came from: `places` says which, `answers` has HEAD + TAIL
// octets for each, `sealers` may be NULL.  The number of those that the kernel did not take.
API uint32_t answer(int32_t fd, struct batch *batch, uint32_t count, const uint8_t *places,
		    const uint8_t *answers, struct sealer *const *sealers)
{
	struct mmsghdr headers[BATCH];
	struct iovec parts[BATCH];
	uint32_t made = 0, sent = 0, lost = 0;

	memset(headers, 0, sizeof(headers));
	for (uint32_t at = 0; at < count && at < BATCH; at++) {
		uint8_t place = places[at] & (BATCH - 1);
		uint8_t *octets = batch->octets[place];
		uint32_t length =
			reply(octets, batch->lengths[place], answers + at * (HEAD + TAIL));

		if (!length) {
			lost++;
			continue;
		}
		if (sealers[at]) {
			seal_one(sealers[at], octets, length);
			length += SEAL;
		}
		parts[made] = (struct iovec){ octets, length };
		headers[made].msg_hdr = (struct msghdr){
			.msg_name = batch->sources[place],
			.msg_namelen = batch->source_lengths[place],
			.msg_iov = &parts[made],
			.msg_iovlen = 1,
		};
		made++;
	}
	while (sent < made) {
		int done = sendmmsg(fd, headers + sent, made - sent, MSG_DONTWAIT);

		if (done <= 0) { // of the first one: full, or the path is down; the others go on
			lost++;
			done = 1;
		}
		sent += (uint32_t)done;
	}
	return lost;
}
