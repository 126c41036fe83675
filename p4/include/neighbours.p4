// SPDX-License-Identifier: Apache-2.0
// Whose a destination is, and the answers to "who has this address?".
//
//   address -> local_addresses   -> ours | ours to keep wildcards off
//   address -> virtual_addresses -> a virtual server's, answered for | silent
//
// ARP is RFC 826, neighbour discovery RFC 4861 7.2.
#ifndef SPLITPLANE_NEIGHBOURS_P4
#define SPLITPLANE_NEIGHBOURS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"
#include "sums.p4"

// Of `towards`: a packet's destination, or the address that is asked for.
control Addresses(inout metadata_t meta) {
    @hidden action begin() {
        meta.is_local = 0;
        meta.whose.is_own = 0;
        meta.whose.is_virtual = 0;
        meta.whose.is_answered = 0;
    }

    @id(OWN_ADDRESS_ID)
    action own() {
        meta.whose.is_own = 1;
        meta.is_local = 1;
        meta.whose.is_answered = 1;
    }

    @id(RESERVED_ADDRESS_ID)
    action reserved() {
        meta.is_local = 1;
    }

    @id(ANSWERED_ADDRESS_ID)
    action answered() {
        meta.whose.is_virtual = 1;
        meta.whose.is_answered = 1;
    }

    @id(SILENT_ADDRESS_ID)
    action silent() {
        meta.whose.is_virtual = 1;
    }

    @id(NOT_LOCAL_ID)
    action not_local() {}

    @id(NOT_VIRTUAL_ID)
    action not_virtual() {}

    @id(LOCAL_ADDRESSES_ID)
    table local_addresses {
        key = {
            meta.towards : exact @id(1) @name("address");
        }
        actions = {
            own;
            reserved;
            @defaultonly not_local;
        }
        const default_action = not_local();
        size = LOCAL_ADDRESSES;
    }

    @id(VIRTUAL_ADDRESSES_ID)
    table virtual_addresses {
        key = {
            meta.towards : exact @id(1) @name("address");
        }
        actions = {
            answered;
            silent;
            @defaultonly not_virtual;
        }
        const default_action = not_virtual();
        size = VIRTUAL_ADDRESSES;
    }

    apply {
        begin();
        local_addresses.apply();
        virtual_addresses.apply();
    }
}

control Answer(inout headers_t headers, inout metadata_t meta,
               inout standard_metadata_t standard) {
    @hidden action refuse(bit<32> outcome) {
        meta.verdict = VERDICT_DROP;
        meta.counter = outcome;
    }

    @hidden action send_back(mac_t receiver) {
        meta.verdict = VERDICT_ANSWER;
        meta.counter = COUNTER_ARP_ANSWERED;
        standard.egress_spec = standard.ingress_port;
        // a frame that is not to a group is to our address
        meta.arrival.mac = headers.ethernet.dst_addr[40:40] == 1 ? meta.arrival.mac
                                                                  : headers.ethernet.dst_addr;
        headers.ethernet.dst_addr = receiver;
        headers.ethernet.src_addr = meta.arrival.mac;
    }

    @hidden action arp_reply() {
        bit<32> asker = headers.arp.sender;
        headers.arp.operation = 2;
        headers.arp.target_mac = headers.arp.sender_mac;
        headers.arp.sender_mac = meta.arrival.mac;
        headers.arp.sender = headers.arp.target;
        headers.arp.target = asker;
    }

    @hidden action advertisement(address_t receiver, bit<32> flags) {
        headers.ipv6.payload_length = 32;
        headers.ipv6.traffic_class = 0;
        headers.ipv6.flow_label = 0;
        headers.ipv6.src_addr = headers.nd_target.target;
        headers.ipv6.dst_addr = receiver;
        headers.icmp.kind = ICMPV6_ADVERTISEMENT;
        headers.icmp.rest = flags;
        headers.nd_options.setInvalid();
        headers.nd_link_address.setValid();
        headers.nd_link_address.kind = 2;
        headers.nd_link_address.length = 1;
        headers.nd_link_address.mac = meta.arrival.mac;
    }

    @hidden action sum_advertisement() {
        CHECKSUM(headers.icmp.checksum,
                 { headers.ipv6.src_addr, headers.ipv6.dst_addr, 16w0, headers.ipv6.payload_length,
                   24w0, PROTOCOL_ICMPV6, headers.icmp.kind, headers.icmp.code, headers.icmp.rest,
                   headers.nd_target.target, headers.nd_link_address.kind,
                   headers.nd_link_address.length, headers.nd_link_address.mac })
    }

    apply {
        if (headers.arp.isValid()) {
            if (headers.arp.operation == 2) {
                meta.kind = KIND_NEIGHBOUR;
            } else if (headers.arp.hardware == 1 && headers.arp.protocol == TYPE_IPV4
                       && headers.arp.hardware_length == 6 && headers.arp.protocol_length == 4
                       && headers.arp.operation == 1 && meta.whose.is_answered == 1) {
                if (headers.ethernet.src_addr[40:40] == 1 || headers.arp.sender_mac[40:40] == 1) {
                    refuse(COUNTER_DROP_GROUP_SOURCE); // answered, it reaches all (802.3 3.2.3)
                } else {
                    send_back(headers.arp.sender_mac);
                    arp_reply();
                }
            } else if (headers.arp.operation == 1 && headers.arp.sender == headers.arp.target) {
                meta.kind = KIND_NEIGHBOUR; // it tells everybody where it is now
            } else {
                refuse(COUNTER_LOCAL);
            }
        } else if (meta.whose.is_answered == 0
                   || headers.nd_target.target[127:32] == IPV4_PREFIX) { // nobody's on a link
            refuse(COUNTER_LOCAL);
        } else if (headers.ethernet.src_addr[40:40] == 1) {
            refuse(COUNTER_DROP_GROUP_SOURCE);
        } else if (headers.ipv6.src_addr[127:120] == 0xff) {
            refuse(COUNTER_DROP_MARTIAN);
        } else if (headers.ipv6.src_addr == 0) { // somebody is about to take the address: tell all
            send_back(48w0x333300000001);
            advertisement(128w0xff020000000000000000000000000001, ADVERTISEMENT_OVERRIDE);
            sum_advertisement();
        } else {
            send_back(headers.ethernet.src_addr);
            advertisement(headers.ipv6.src_addr, ADVERTISEMENT_SOLICITED | ADVERTISEMENT_OVERRIDE);
            sum_advertisement();
        }
    }
}

#endif
