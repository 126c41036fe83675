// SPDX-License-Identifier: Apache-2.0
// Headers that contradict each other end here.
#ifndef SPLITPLANE_CLASSIFY_P4
#define SPLITPLANE_CLASSIFY_P4

#include "headers.p4"
#include "metadata.p4"

// What a frame has at least, by its headers' word: Ethernet and IPv4 have 34 octets.
#define FRAME_LENGTH(meta) (34 + (bit<32>)meta.extra + (bit<32>)meta.ip.payload)

control Classify(inout headers_t headers, inout metadata_t meta,
                 inout standard_metadata_t standard) {
    @hidden action malformed() {
        meta.verdict = VERDICT_DROP;
        meta.kind = KIND_DECIDED;
        meta.counter = COUNTER_DROP_MALFORMED;
    }

    @hidden action mapped() {
        malformed();
        meta.counter = COUNTER_DROP_MAPPED;
    }

    @hidden action unreadable_arp() {
        malformed();
        meta.counter = COUNTER_LOCAL;
    }

    apply {
        if (standard.parser_error != error.NoError
            && standard.parser_error != error.StackOutOfBounds && !headers.icmp.isValid()) {
            // an ICMP error that quotes too little is one about nothing of ours; more extension
            // headers than fit are no flow's, and routed
            if (headers.ethernet.isValid()
                && (headers.ethernet.ether_type == TYPE_ARP
                    || (headers.vlan[0].isValid() && headers.vlan[0].ether_type == TYPE_ARP))) {
                unreadable_arp();
            } else {
                malformed();
            }
        } else if (headers.ipv4.isValid() || headers.ipv6.isValid()) {
            if (meta.kind == KIND_MALFORMED
                || standard.packet_length < FRAME_LENGTH(meta)
                || (headers.icmp.isValid() && meta.ip.payload < 8)
                || (meta.kind == KIND_TCP
                    && (headers.tcp.data_offset < 5
                        || meta.ip.payload < (bit<16>)headers.tcp.data_offset << 2))
                || (meta.kind == KIND_UDP && meta.ip.payload < 8)) {
                malformed();
            } else if (meta.kind == KIND_MAPPED) {
                mapped();
            }
        }
    }
}

#endif
