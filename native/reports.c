// SPDX-License-Identifier: Apache-2.0
// Takes what the eBPF program has reported out of its ring, by group and kind (docs/design/0008-grants.md).
//
// Nothing is decided, allocated or kept here: every structure belongs to the caller, which is
// data_flow_segment/targets/bpf/native_reports.py; the two must agree on them.  The ring is the kernel's
// (Documentation/bpf/ringbuf.rst), with its data pages mapped twice, so that no record is split.

#include <stdint.h>
#include <string.h>

#define API __attribute__((visibility("default")))

// The caller compares it with its own: another one is not loaded.
#define LAYOUT 1

#define AT_ONCE 4096 // records
#define PARTS 64 // that they may belong to; the next one is left for the next call
#define OCTETS 120 // of a report, behind group, kind and what fills up
#define RECORD_HEADER 8
#define BUSY 0x80000000u
#define DISCARDED 0x40000000u

struct report {
	uint16_t group_id;
	uint8_t kind;
	uint8_t pad[5];
	uint8_t octets[OCTETS];
};

// What is of one group and kind.
struct part {
	uint16_t group_id;
	uint8_t kind;
	uint8_t size; // of each
	uint32_t count;
	uint32_t start; // in `octets`
	uint32_t length;
};

struct taken {
	uint8_t sizes[256]; // by kind; 0: of no use to anybody
	struct part parts[PARTS];
	uint8_t part_of[AT_ONCE];
	uint8_t octets[AT_ONCE * OCTETS];
};

static uint32_t part_of(struct taken *taken, uint32_t *parts, const struct report *report)
{
	uint32_t at = 0;

	while (at < *parts && (taken->parts[at].group_id != report->group_id ||
			       taken->parts[at].kind != report->kind))
		at++;
	if (at == *parts && at < PARTS) {
		taken->parts[at] = (struct part){
			.group_id = report->group_id,
			.kind = report->kind,
			.size = taken->sizes[report->kind],
		};
		*parts += 1;
	}
	return at;
}

static void lay_out(struct part *parts, uint32_t count)
{
	uint32_t start = 0;

	for (uint32_t at = 0; at < count; at++) {
		parts[at].start = start;
		start += parts[at].count * parts[at].size;
	}
}

static uint64_t behind(uint64_t place, uint32_t length)
{
	return place + ((RECORD_HEADER + (uint64_t)(length & ~DISCARDED) + 7) & ~7ULL);
}

static uint32_t length_at(const uint8_t *data, uint64_t place)
{
	return __atomic_load_n((const uint32_t *)(data + place), __ATOMIC_ACQUIRE);
}

// Take records until one is busy or of another size, and consume them; the number of parts.
API uint32_t take(uint64_t *consumer, const uint64_t *producer, const uint8_t *data,
		  uint64_t mask, struct taken *taken)
{
	uint64_t end = __atomic_load_n(producer, __ATOMIC_ACQUIRE), begin = *consumer;
	uint64_t place = begin;
	uint32_t count = 0, parts = 0, at = 0;

	while (place < end && count < AT_ONCE) {
		uint32_t length = length_at(data, place & mask), part;
		const struct report *report =
			(const void *)(data + (place & mask) + RECORD_HEADER);

		if (length & BUSY)
			break;
		if (!(length & DISCARDED)) {
			if (length != sizeof(*report))
				break;
			part = part_of(taken, &parts, report);
			if (part == PARTS)
				break;
			taken->parts[part].count++;
			taken->part_of[count++] = part;
		}
		place = behind(place, length);
	}
	lay_out(taken->parts, parts);
	for (uint64_t from = begin; from < place;) {
		uint32_t length = length_at(data, from & mask);
		const struct report *report =
			(const void *)(data + (from & mask) + RECORD_HEADER);

		if (!(length & DISCARDED)) {
			struct part *part = &taken->parts[taken->part_of[at++]];

			memcpy(taken->octets + part->start + part->length, report->octets,
			       part->size);
			part->length += part->size;
		}
		from = behind(from, length);
	}
	__atomic_store_n(consumer, place, __ATOMIC_RELEASE);
	return parts;
}

API uint32_t layout(void)
{
	return LAYOUT;
}

// With LAYOUT, what the caller checks before it uses the structure.
API uint32_t sizes(void)
{
	return sizeof(struct taken);
}
