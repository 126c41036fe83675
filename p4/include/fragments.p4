// SPDX-License-Identifier: Apache-2.0
// The ports of fragmented packets, which only their first fragment carries.
//
//   crc32(addresses, protocol, identification) -> place -> key, ports, time
//
// A place holds one datagram; the next one that falls on it takes it over.  The whole key is kept
// and compared, so that a foreign fragment never goes a flow's way.
#ifndef SPLITPLANE_FRAGMENTS_P4
#define SPLITPLANE_FRAGMENTS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

const bit<48> FRAGMENT_LIFE = 30000000; // us; as long as Linux waits (net.ipv4.ipfrag_time)

control Fragments(inout metadata_t meta, in bit<48> now) {
    @id(FRAGMENT_KEYS_ID)
    register<bit<296>>(FRAGMENTS) fragment_keys;
    @id(FRAGMENT_PORTS_ID)
    register<bit<32>>(FRAGMENTS) fragment_ports;
    @id(FRAGMENT_TIMES_ID)
    register<bit<48>>(FRAGMENTS) fragment_times;

    bit<32> place = 0;
    bit<296> key = 0;
    bit<296> kept = 0;
    bit<32> ports = 0;
    bit<48> seen = 0;

    @hidden action find_place() {
        hash(place, HashAlgorithm.crc32, 32w0,
             { meta.key.src_addr, meta.key.dst_addr, meta.ip.identification, meta.key.protocol },
             (bit<32>)FRAGMENTS);
        key = meta.key.src_addr ++ meta.key.dst_addr ++ meta.ip.identification
              ++ meta.key.protocol;
    }

    @hidden action note() {
        fragment_keys.write(place, key);
        fragment_ports.write(place, meta.key.src_port ++ meta.key.dst_port);
        fragment_times.write(place, now);
    }

    @hidden action recall() {
        fragment_keys.read(kept, place);
        fragment_ports.read(ports, place);
        fragment_times.read(seen, place);
    }

    @hidden action take_ports() {
        meta.key.src_port = ports[31:16];
        meta.key.dst_port = ports[15:0];
        meta.kind = KIND_FRAGMENT;
    }

    @hidden action lose() {
        meta.kind = KIND_LOST;
    }

    apply {
        find_place();
        if (meta.rare == RARE_FIRST_FRAGMENT) {
            note();
        } else {
            recall();
            if (kept == key && now - seen <= FRAGMENT_LIFE) {
                take_ports();
            } else {
                lose();
            }
        }
    }
}

#endif
