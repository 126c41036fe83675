// SPDX-License-Identifier: Apache-2.0
// What the headers say (ReadIp), and what becomes of the packet (Decide).
//
//   contradictory headers      -> drop "malformed", "checksum"
//   a flow's packet            -> its way | agent: time to live, options out of the ordinary
//   a later fragment unknown   -> drop "fragment", if it is for a virtual server
//   for a virtual server       -> agent
//   ARP, neighbour discovery   -> answer | agent
//   an ICMP error              -> agent: whether it is about a flow
//   anything else              -> routed by its destination
#ifndef SPLITPLANE_TNA_DECIDE_P4
#define SPLITPLANE_TNA_DECIDE_P4

#include "headers.p4"
#include "metadata.p4"

// Also says where a packet without a flow goes, and what the switch is asked for.
control ReadIp(inout frame_t headers, inout metadata_t meta) {
    @hidden action read_ipv4() {
        meta.wanted = IPV4_PREFIX ++ headers.ipv4.dst_addr;
        meta.way.towards = IPV4_PREFIX ++ headers.ipv4.dst_addr;
        meta.ip.length = headers.ipv4.total_length;
        meta.ip.protocol = headers.ipv4.protocol;
        meta.ip.ttl = headers.ipv4.ttl;
    }

    @hidden action read_ipv6() {
        meta.wanted = headers.ipv6.dst_addr;
        meta.way.towards = headers.ipv6.dst_addr;
        meta.ip.length = headers.ipv6.payload_length + 40;
        meta.ip.protocol = headers.ipv6.next_header;
        meta.ip.ttl = headers.ipv6.hop_limit;
    }

    @hidden action read_ipv6_fragment() {
        meta.wanted = headers.ipv6.dst_addr;
        meta.way.towards = headers.ipv6.dst_addr;
        meta.ip.length = headers.ipv6.payload_length + 40;
        meta.ip.protocol = headers.ipv6_fragment.next_header;
        meta.ip.ttl = headers.ipv6.hop_limit;
    }

    @hidden action read_arp() {
        meta.wanted = IPV4_PREFIX ++ headers.arp.target;
    }

    @hidden action read_solicitation() {
        meta.wanted = headers.nd_target.target;
        meta.ip.length = headers.ipv6.payload_length + 40;
        meta.ip.protocol = PROTOCOL_ICMPV6;
        meta.ip.ttl = headers.ipv6.hop_limit;
    }

    @hidden table read_headers {
        key = {
            headers.ipv4.isValid() : exact;
            headers.ipv6.isValid() : exact;
            headers.ipv6_fragment.isValid() : exact;
            headers.arp.isValid() : exact;
            headers.nd_target.isValid() : exact;
        }
        actions = {
            read_ipv4;
            read_ipv6;
            read_ipv6_fragment;
            read_arp;
            read_solicitation;
            NoAction;
        }
        const entries = {
            (true, false, false, false, false) : read_ipv4();
            (false, true, false, false, false) : read_ipv6();
            (false, true, true, false, false) : read_ipv6_fragment();
            (false, false, false, true, false) : read_arp();
            (false, true, false, false, true) : read_solicitation();
        }
        const default_action = NoAction();
        size = 8;
    }

    @hidden action see_tcp() {
        meta.tcp.seq = headers.tcp.seq;
        meta.tcp.ack = headers.tcp.ack;
    }

    @hidden action see_udp_sum() {
        meta.has_udp_sum = 1;
    }

    apply {
        read_headers.apply();
        if (headers.tcp.isValid()) {
            see_tcp();
        } else if (headers.udp.isValid() && headers.udp.checksum != 0) {
            see_udp_sum();
        }
    }
}

control Decide(inout frame_t headers, inout metadata_t meta,
               in ingress_intrinsic_metadata_from_parser_t parsing) {
    @hidden action drop(outcome_t outcome) {
        meta.verdict = VERDICT_DROP;
        meta.outcome = outcome;
    }

    @hidden action to_agent(bit<8> reason, outcome_t outcome) {
        meta.verdict = VERDICT_TO_AGENT;
        meta.outcome = outcome;
        meta.reason = reason;
    }

    @hidden action new_flow() { // for the reason that virtual_servers found
        meta.verdict = VERDICT_TO_AGENT;
        meta.outcome = (outcome_t)COUNTER_UP_CALLS;
    }

    @hidden action route_flow() {
        meta.verdict = VERDICT_ROUTE;
        meta.outcome = (outcome_t)COUNTER_FLOW_PACKETS;
    }

    @hidden action route_by_destination() {
        meta.verdict = VERDICT_ROUTE;
        meta.outcome = (outcome_t)COUNTER_PASSED;
    }

    @hidden action answer() {
        meta.verdict = VERDICT_ANSWER;
        meta.outcome = (outcome_t)COUNTER_ARP_ANSWERED;
    }

    apply {
        if (parsing.parser_err != 0
            || headers.ipv4.isValid() && (headers.ipv4.version != 4 || headers.ipv4.ihl[3:2] == 0
                                          || headers.ipv4.ihl == 4)
            || headers.ipv6.isValid() && headers.ipv6.version != 6
            || headers.ports.isValid() && meta.tcp.left[15:15] == 1) {
            drop((outcome_t)COUNTER_DROP_MALFORMED);
        } else if (meta.ip.bad_checksum) {
            drop((outcome_t)COUNTER_DROP_CHECKSUM);
        } else if (meta.flow.found == 1 && meta.flow.over == 0) {
            if (meta.ip.ttl[7:1] == 0) {
                to_agent(REASON_TTL, (outcome_t)COUNTER_DROP_TTL);
            } else if (meta.flow.has_offsets == 1 && meta.tcp.options_unreadable == 1) {
                to_agent(REASON_UNREADABLE, (outcome_t)COUNTER_UP_CALLS);
            } else {
                route_flow();
            }
        } else if (meta.ip.ports_unknown == 1 && (meta.arrival.injected == 1
                                                  || meta.is_virtual == 1)) {
            drop((outcome_t)COUNTER_DROP_FRAGMENT);
        } else if (meta.arrival.injected == 1) {
            drop((outcome_t)COUNTER_DROP_INJECT_UNMATCHED);
        } else if (meta.reason != 0 && meta.ip.is_transport == 1 && meta.ip.ports_unknown == 0) {
            new_flow();
        } else if (meta.ip.unreadable == 1
                   && (meta.is_virtual == 1 || meta.arrival.internal == 1)) {
            to_agent(REASON_UNREADABLE, (outcome_t)COUNTER_UP_CALLS);
        } else if (meta.ip.is_error == 1) {
            to_agent(REASON_ICMP_ERROR, (outcome_t)COUNTER_UP_CALLS);
        } else if (meta.is_neighbour == 1) {
            to_agent(REASON_NEIGHBOUR, (outcome_t)COUNTER_LOCAL);
        } else if (meta.is_question == 1) {
            if (meta.is_answered == 1) {
                answer();
            } else {
                drop((outcome_t)COUNTER_LOCAL);
            }
        } else if (meta.is_own == 1 || meta.flow.found == 1
                   || headers.ethernet.dst_addr[40:40] == 1
                   || !(headers.ipv4.isValid() || headers.ipv6.isValid())) {
            drop((outcome_t)COUNTER_LOCAL);
        } else if (meta.ip.ttl[7:1] == 0) {
            to_agent(REASON_TTL, (outcome_t)COUNTER_DROP_TTL);
        } else {
            route_by_destination();
        }
    }
}

#endif
