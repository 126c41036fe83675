// SPDX-License-Identifier: Apache-2.0
// Headers that contradict each other end here.
#ifndef SPLITPLANE_CLASSIFY_P4
#define SPLITPLANE_CLASSIFY_P4

#include "headers.p4"
#include "metadata.p4"

control Classify(inout headers_t headers, inout metadata_t meta,
                 inout standard_metadata_t standard) {
    bit<32> link_length = 14;
    bit<16> payload = 0;

    @hidden action malformed() {
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_DROP_MALFORMED;
    }

    @hidden action unreadable_arp() {
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_LOCAL;
    }

    @hidden action transport() {
        meta.ip.is_transport = 1;
    }

    @hidden action measure() {
        payload = meta.ip.length - meta.ip.header_length;
    }


    apply {
        if (headers.vlan[1].isValid()) {
            link_length = 22;
        } else if (headers.vlan[0].isValid()) {
            link_length = 18;
        }
        measure();
        if (standard.parser_error != error.NoError && !headers.icmp.isValid()) {
            // an ICMP error that quotes too little is one about nothing of ours
            if (headers.ethernet.isValid()
                && (headers.ethernet.ether_type == TYPE_ARP
                    || (headers.vlan[0].isValid() && headers.vlan[0].ether_type == TYPE_ARP))) {
                unreadable_arp();
            } else {
                malformed();
            }
        } else if (headers.ipv4.isValid() || headers.ipv6.isValid()) {
            if ((headers.ipv4.isValid() && (headers.ipv4.version != 4 || headers.ipv4.ihl < 5))
                || (headers.ipv6.isValid() && headers.ipv6.version != 6)
                || meta.ip.length < meta.ip.header_length
                || meta.arrival.length < link_length + (bit<32>)meta.ip.length) {
                malformed();
            } else if (meta.key.protocol == PROTOCOL_TCP && meta.ip.later_fragment == 1
                       || meta.key.protocol == PROTOCOL_UDP && meta.ip.later_fragment == 1) {
                transport();
            } else if (headers.icmp.isValid()) {
                if (payload < 8) {
                    malformed();
                }
            } else if (headers.tcp.isValid()) {
                if (headers.tcp.data_offset < 5
                    || payload < (bit<16>)headers.tcp.data_offset << 2) {
                    malformed();
                } else {
                    transport();
                }
            } else if (headers.udp.isValid()) {
                if (payload < 8) {
                    malformed();
                } else {
                    transport();
                }
            }
        }
    }
}

#endif
