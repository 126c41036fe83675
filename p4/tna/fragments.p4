// SPDX-License-Identifier: Apache-2.0
// The ports of fragmented packets, which only their first fragment carries.
//
//   crc32(addresses, protocol, identification) -> place -> another crc of them 32 | ports 32
//                                                       -> when, 2^16 ns
//
// A place holds one datagram; the next one that falls on it takes it over.  Of the key a second
// hash of 32 bits is kept: that much a stateful ALU compares.
#ifndef SPLITPLANE_TNA_FRAGMENTS_P4
#define SPLITPLANE_TNA_FRAGMENTS_P4

#include "headers.p4"
#include "metadata.p4"

typedef bit<TNA_FRAGMENT_BITS> fragment_place_t;

struct fragment_seen_t {
    bit<32> mark;
    bit<32> ports;
}

control Fragments(inout frame_t headers, inout metadata_t meta) {
    CRCPolynomial<bit<32>>(32w0x1edc6f41, true, false, false, 32w0xffffffff,
                           32w0xffffffff) castagnoli;
    Hash<fragment_place_t>(HashAlgorithm_t.CRC32) place_ipv4;
    Hash<fragment_place_t>(HashAlgorithm_t.CRC32) place_ipv6;
    Hash<bit<32>>(HashAlgorithm_t.CUSTOM, castagnoli) mark_ipv4;
    Hash<bit<32>>(HashAlgorithm_t.CUSTOM, castagnoli) mark_ipv6;
    Register<fragment_seen_t, fragment_place_t>(TNA_FRAGMENTS) fragments_seen;
    Register<bit<32>, fragment_place_t>(TNA_FRAGMENTS) fragment_times;

    fragment_place_t place = 0;
    bit<32> mark = 0;
    bit<32> age = 0;

    RegisterAction<fragment_seen_t, fragment_place_t, bit<32>>(fragments_seen) note_ports = {
        void apply(inout fragment_seen_t kept) {
            kept.mark = mark;
            kept.ports = meta.ports;
        }
    };

    RegisterAction<fragment_seen_t, fragment_place_t, bit<32>>(fragments_seen) recall_ports = {
        void apply(inout fragment_seen_t kept, out bit<32> found) {
            if (kept.mark == mark) {
                found = kept.ports;
            } else {
                found = 0;
            }
        }
    };

    RegisterAction<bit<32>, fragment_place_t, bit<32>>(fragment_times) note_time = {
        void apply(inout bit<32> seen) {
            seen = meta.now;
        }
    };

    RegisterAction<bit<32>, fragment_place_t, bit<32>>(fragment_times) recall_time = {
        void apply(inout bit<32> seen, out bit<32> found) {
            found = seen;
        }
    };

    // Two actions, because one can take in 32 bits of hashes.
    @hidden action find_ipv4() {
        place = place_ipv4.get({ headers.ipv4.src_addr, headers.ipv4.dst_addr,
                                 headers.ipv4.identification, headers.ipv4.protocol });
    }

    @hidden action tell_ipv4_apart() {
        mark = mark_ipv4.get({ headers.ipv4.src_addr, headers.ipv4.dst_addr,
                               headers.ipv4.identification, headers.ipv4.protocol });
    }

    @hidden action find_ipv6() {
        place = place_ipv6.get({ headers.ipv6.src_addr, headers.ipv6.dst_addr,
                                 headers.ipv6_fragment.identification,
                                 headers.ipv6_fragment.next_header });
    }

    @hidden action tell_ipv6_apart() {
        mark = mark_ipv6.get({ headers.ipv6.src_addr, headers.ipv6.dst_addr,
                               headers.ipv6_fragment.identification,
                               headers.ipv6_fragment.next_header });
    }

    @hidden action note() {
        note_ports.execute(place);
    }

    @hidden action time() {
        note_time.execute(place);
    }

    @hidden action recall() {
        meta.ports = recall_ports.execute(place);
    }

    @hidden action recall_when() {
        age = recall_time.execute(place);
    }

    @hidden action measure() {
        age = meta.now - age;
    }

    @hidden action lose() {
        meta.ip.ports_unknown = 1;
    }

    apply {
        if (headers.ipv4.isValid()) {
            find_ipv4();
            tell_ipv4_apart();
        } else {
            find_ipv6();
            tell_ipv6_apart();
        }
        if (meta.ip.first_fragment == 1) {
            note();
            time();
        } else {
            recall();
            recall_when();
            measure();
            if (age[31:19] != 0) { // 2^35 ns; Linux waits 30 s
                lose(); // after the look-up, which may find a flow: Decide knows
            } else if (meta.ports == 0) {
                lose();
            }
        }
    }
}

#endif
