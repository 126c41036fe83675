// SPDX-License-Identifier: Apache-2.0
// Whose a destination is, and the answers to "who has this address?": ../include/neighbours.p4.
//
//   address -> local_addresses   -> ours | ours to keep wildcards off
//   address -> virtual_addresses -> a virtual server's, answered for | silent
//
// An advertisement's checksum follows the solicitation's by difference: to a wrong question comes
// a wrong answer, which nobody believes.
#ifndef SPLITPLANE_TNA_NEIGHBOURS_P4
#define SPLITPLANE_TNA_NEIGHBOURS_P4

#include "../include/ids.p4"
#include "headers.p4"
#include "metadata.p4"

control Addresses(inout metadata_t meta) {
    @id(OWN_ADDRESS_ID)
    action own() {
        meta.is_own = 1;
        meta.is_local = 1;
        meta.is_answered = 1;
    }

    @id(RESERVED_ADDRESS_ID)
    action reserved() {
        meta.is_local = 1;
    }

    @id(ANSWERED_ADDRESS_ID)
    action answered() {
        meta.is_virtual = 1;
        meta.is_answered = 1;
    }

    @id(SILENT_ADDRESS_ID)
    action silent() {
        meta.is_virtual = 1;
    }

    @id(NOT_LOCAL_ID)
    action not_local() {}

    @id(NOT_VIRTUAL_ID)
    action not_virtual() {}

    @id(LOCAL_ADDRESSES_ID)
    table local_addresses {
        key = {
            meta.wanted : exact @id(1) @name("address");
        }
        actions = {
            own;
            reserved;
            @defaultonly not_local;
        }
        const default_action = not_local();
        size = TNA_LOCAL_ADDRESSES;
    }

    @id(VIRTUAL_ADDRESSES_ID)
    table virtual_addresses {
        key = {
            meta.wanted : exact @id(1) @name("address");
        }
        actions = {
            answered;
            silent;
            @defaultonly not_virtual;
        }
        const default_action = not_virtual();
        size = TNA_VIRTUAL_ADDRESSES;
    }

    apply {
        local_addresses.apply();
        virtual_addresses.apply();
    }
}

control Answer(inout frame_t headers, inout metadata_t meta) {
    @hidden action send_back() {
        meta.verdict = VERDICT_ANSWER;
        meta.outcome = (outcome_t)COUNTER_ARP_ANSWERED;
        meta.way.port = meta.arrival.port;
        headers.ethernet.src_addr = meta.arrival.mac;
    }

    @hidden action arp_reply() {
        headers.ethernet.dst_addr = headers.arp.sender_mac;
        headers.arp.operation = 2;
        headers.arp.target_mac = headers.arp.sender_mac;
        headers.arp.target = headers.arp.sender;
        headers.arp.sender_mac = meta.arrival.mac;
        headers.arp.sender = meta.wanted[31:0];
    }

    @hidden action advertise() {
        headers.ipv6.payload_length = 32;
        headers.ipv6.traffic_class = 0;
        headers.ipv6.flow_label = 0;
        headers.ipv6.src_addr = meta.wanted;
        headers.icmp.kind = ICMPV6_ADVERTISEMENT;
        headers.nd_option.setInvalid();
        headers.nd_link_address.setValid();
        headers.nd_link_address.kind = 2;
        headers.nd_link_address.length = 1;
        headers.nd_link_address.mac = meta.arrival.mac;
    }

    @hidden action to_asker() {
        headers.ethernet.dst_addr = headers.ethernet.src_addr;
        headers.ipv6.dst_addr = headers.ipv6.src_addr;
        headers.icmp.rest = ADVERTISEMENT_SOLICITED | ADVERTISEMENT_OVERRIDE;
    }

    @hidden action to_all() { // somebody is about to take the address
        headers.ethernet.dst_addr = 48w0x333300000001;
        headers.ipv6.dst_addr = 128w0xff020000000000000000000000000001;
        headers.icmp.rest = ADVERTISEMENT_OVERRIDE;
    }

    @hidden table askers {
        key = {
            headers.ipv6.src_addr : exact;
        }
        actions = {
            to_all;
            to_asker;
        }
        const entries = {
            0 : to_all();
        }
        const default_action = to_asker();
        size = 1;
    }

    apply {
        if (headers.arp.isValid()) {
            arp_reply();
        } else {
            askers.apply();
            advertise();
        }
        send_back();
    }
}

#endif
