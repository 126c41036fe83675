// SPDX-License-Identifier: Apache-2.0
// What the headers say (ReadIp), and what becomes of the packet (Decide): one table of constants,
// of which the first line that matches counts; a chain of questions would take stage after stage.
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
control ReadIp(inout frame_t headers, inout metadata_t meta,
               in ingress_intrinsic_metadata_from_parser_t parsing) {
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

    @hidden action see_ports() {
        meta.ports = headers.ports.src_port ++ headers.ports.dst_port;
    }

    @hidden action see_udp_sum() {
        meta.has_udp_sum = 1;
    }

    @hidden action contradict() {
        meta.ip.contradictory = 1;
    }

    apply {
        read_headers.apply();
        if (headers.ports.isValid()) {
            see_ports();
        }
        if (headers.tcp.isValid()) {
            see_tcp();
        } else if (headers.udp.isValid() && headers.udp.checksum != 0) {
            see_udp_sum();
        }
        if (parsing.parser_err != 0) {
            contradict();
        } else if (headers.ipv4.isValid()) {
            if (headers.ipv4.version != 4 || headers.ipv4.ihl[3:2] == 0 || headers.ipv4.ihl == 4) {
                contradict();
            }
        } else if (headers.ipv6.isValid() && headers.ipv6.version != 6) {
            contradict();
        }
    }
}

control Decide(inout frame_t headers, inout metadata_t meta) {
    @hidden action drop(outcome_t outcome) {
        meta.verdict = VERDICT_DROP;
        meta.outcome = outcome;
    }

    @hidden action to_agent(bit<8> reason, outcome_t outcome) {
        meta.verdict = VERDICT_TO_AGENT;
        meta.outcome = outcome;
        meta.reason = reason;
    }

    @hidden action route(outcome_t outcome) {
        meta.verdict = VERDICT_ROUTE;
        meta.outcome = outcome;
    }

    @hidden action answer() {
        meta.verdict = VERDICT_ANSWER;
        meta.outcome = (outcome_t)COUNTER_ARP_ANSWERED;
    }

#define OUTCOME(name) (outcome_t)COUNTER_##name
#define USED_UP 0 &&& 0xfe // of a time to live: 0 and 1

    @hidden table verdicts {
        key = {
            meta.ip.contradictory : ternary @name("contradictory");
            meta.ip.bad_checksum : ternary @name("bad_sum");
            meta.flow.found : ternary @name("flow");
            meta.ip.ttl : ternary @name("ttl");
            meta.flow.has_offsets : ternary @name("offsets");
            meta.tcp.options_unreadable : ternary @name("odd");
            meta.ip.is_transport : ternary @name("transport");
            meta.ip.later_fragment : ternary @name("later");
            meta.tcp.left : ternary @name("left");
            meta.ip.ports_unknown : ternary @name("unknown");
            meta.is_virtual : ternary @name("virtual");
            meta.arrival.injected : ternary @name("injected");
            meta.has_server : ternary @name("server");
            meta.is_bridged : ternary @name("bridged");
            meta.ip.unreadable : ternary @name("unreadable");
            meta.arrival.internal : ternary @name("internal");
            meta.arrival.outbound_query : ternary @name("query");
            meta.is_local : ternary @name("local");
            meta.ip.is_error : ternary @name("error");
            meta.is_neighbour : ternary @name("neighbour");
            meta.is_question : ternary @name("question");
            meta.is_answered : ternary @name("answered");
            meta.is_own : ternary @name("own");
            headers.ethernet.dst_addr[40:40] : ternary @name("multicast");
            headers.ipv4.isValid() : ternary @name("ipv4");
            headers.ipv6.isValid() : ternary @name("ipv6");
        }
        actions = {
            drop;
            to_agent;
            route;
            answer;
        }
        const entries = { // the first that matches
            // contradictory
            (1, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : drop(OUTCOME(DROP_MALFORMED));
            // transport, later: no, left: below 0
            (_, _, _, _, _, _, 1, 0, BELOW_0, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : drop(OUTCOME(DROP_MALFORMED));
            // bad_sum
            (_, true, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : drop(OUTCOME(DROP_CHECKSUM));
            // flow, used up, unknown: no
            (_, _, 1, USED_UP, _, _, _, _, _, 0, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : to_agent(REASON_TTL, OUTCOME(DROP_TTL));
            // flow, offsets, odd, unknown: no
            (_, _, 1, _, 1, 1, _, _, _, 0, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : to_agent(REASON_UNREADABLE, OUTCOME(UP_CALLS));
            // flow, unknown: no
            (_, _, 1, _, _, _, _, _, _, 0, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : route(OUTCOME(FLOW_PACKETS));
            // unknown, virtual
            (_, _, _, _, _, _, _, _, _, 1, 1, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : drop(OUTCOME(DROP_FRAGMENT));
            // unknown, injected
            (_, _, _, _, _, _, _, _, _, 1, _, 1, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : drop(OUTCOME(DROP_FRAGMENT));
            // injected
            (_, _, _, _, _, _, _, _, _, _, _, 1, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : drop(OUTCOME(DROP_INJECT_UNMATCHED));
            // transport, unknown: no, server, bridged: no
            (_, _, _, _, _, _, 1, _, _, 0, _, _, 1, 0, _, _, _, _, _, _, _, _, _, _, _, _)
                : to_agent(REASON_NEW_FLOW, OUTCOME(UP_CALLS));
            // transport, unknown: no, server, bridged
            (_, _, _, _, _, _, 1, _, _, 0, _, _, 1, 1, _, _, _, _, _, _, _, _, _, _, _, _)
                : to_agent(REASON_BRIDGED, OUTCOME(UP_CALLS));
            // transport, unknown: no, internal, query, local: no
            (_, _, _, _, _, _, 1, _, _, 0, _, _, _, _, _, 1, 1, 0, _, _, _, _, _, _, _, _)
                : to_agent(REASON_OUTBOUND, OUTCOME(UP_CALLS));
            // virtual, unreadable
            (_, _, _, _, _, _, _, _, _, _, 1, _, _, _, 1, _, _, _, _, _, _, _, _, _, _, _)
                : to_agent(REASON_UNREADABLE, OUTCOME(UP_CALLS));
            // unreadable, internal
            (_, _, _, _, _, _, _, _, _, _, _, _, _, _, 1, 1, _, _, _, _, _, _, _, _, _, _)
                : to_agent(REASON_UNREADABLE, OUTCOME(UP_CALLS));
            // error
            (_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, 1, _, _, _, _, _, _, _)
                : to_agent(REASON_ICMP_ERROR, OUTCOME(UP_CALLS));
            // neighbour
            (_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, 1, _, _, _, _, _, _)
                : to_agent(REASON_NEIGHBOUR, OUTCOME(LOCAL));
            // question, answered
            (_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, 1, 1, _, _, _, _)
                : answer();
            // question
            (_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, 1, _, _, _, _, _)
                : drop(OUTCOME(LOCAL));
            // own
            (_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, 1, _, _, _)
                : drop(OUTCOME(LOCAL));
            // multicast
            (_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, 1, _, _)
                : drop(OUTCOME(LOCAL));
            // ipv4: no, ipv6: no
            (_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, false, false)
                : drop(OUTCOME(LOCAL));
            // used up
            (_, _, _, USED_UP, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _)
                : to_agent(REASON_TTL, OUTCOME(DROP_TTL));
        }
        const default_action = route((outcome_t)COUNTER_PASSED);
        size = 32;
    }

    apply {
        verdicts.apply();
    }
}

#endif
