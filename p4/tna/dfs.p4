// SPDX-License-Identifier: Apache-2.0
// The data flow segment as a P4 program for Tofino (TNA and T2NA).  It has never run: neither on
// the chip nor on its model.  docs/design/0003-p4.md says what differs from ../dfs.p4 and why.
//
// The ingress decides and rewrites, and sends past the egress.  What goes up to the agent is a
// mirror copy of the frame as it arrived; the egress only puts the words in front of it.
//
//  parser -> ingress:
//
//   Arrival      interfaces              ours? external? internal?           -> drop "local"
//   Addresses    local_addresses, virtual_addresses
//   Fragments    registers               a later fragment's ports
//   Flows        flows_ipv4, flows_ipv6  addresses, way
//   VirtualServers  virtual_servers      whom a packet without a flow is for
//   Offsets      flow_offsets            sequence numbers, options
//   Decide                               one verdict, one counter            -> agent, answer, drop
//   NextHops     routes, neighbours, next_hops, tunnel_sources
//   Track        registers               counts, the end of a flow           -> copy to the agent
//   Correct                              no route, too big, the flow is over -> agent, drop
//   Leave                                ports, time to live, tunnel, window
//   Listening    register                nobody listens                      -> drop
//
// Stages are few (12, on Tofino 2: 20) and nothing waits for what it does not need: tables are
// asked before it is known whether their answer counts.
//
//  -> deparser (checksums by difference) -> a port
//                                        -> copies: egress TellAgent, LimitCopies (meter) -> the
//                                                   agent's port
#include <core.p4>
#if __TARGET_TOFINO__ == 2
#include <t2na.p4>
#else
#include <tna.p4>
#endif

#include "arrival.p4"
#include "copies.p4"
#include "decide.p4"
#include "deparser.p4"
#include "flows.p4"
#include "fragments.p4"
#include "leave.p4"
#include "neighbours.p4"
#include "next_hops.p4"
#include "offsets.p4"
#include "parser.p4"
#include "track.p4"
#include "up_calls.p4"
#include "virtual_servers.p4"

// What the agent asks about has none of these headers read: see parser.p4, parse_only_ethernet.
@pa_mutually_exclusive("ingress", "headers.registers", "headers.arp")
@pa_mutually_exclusive("ingress", "headers.registers", "headers.ipv4")
@pa_mutually_exclusive("ingress", "headers.registers", "headers.ipv6")
@pa_mutually_exclusive("ingress", "headers.registers", "headers.tcp")
@pa_auto_init_metadata // what nobody set is 0
control SegmentIngress(inout frame_t headers, inout metadata_t meta,
                       in ingress_intrinsic_metadata_t intrinsic,
                       in ingress_intrinsic_metadata_from_parser_t parsing,
                       inout ingress_intrinsic_metadata_for_deparser_t deparsing,
                       inout ingress_intrinsic_metadata_for_tm_t sending) {
    ReadIp() read_ip;
    Arrival() arrival;
    Addresses() addresses;
    Fragments() fragments;
    FlowsIpv4() flows_ipv4;
    FlowsIpv6() flows_ipv6;
    VirtualServers() virtual_servers;
    Measure() measure;
    Offsets() offsets;
    Track() track;
    Decide() decide;
    Answer() answer;
    NextHops() next_hops;
    Leave() leave;
    ShiftWindow() shift_window;
    Correct() correct;
    Listening() listening;

    @id(OUTCOMES_ID)
    Counter<bit<64>, outcome_t>(COUNTERS, CounterType_t.PACKETS) outcomes;

    @hidden action begin() {
        meta.now = parsing.global_tstamp[47:16];
    }

    @hidden action end() {
        deparsing.drop_ctl = 1;
    }

    @hidden action go() { // nothing of it is left for the egress to do
        sending.ucast_egress_port = meta.way.port;
        sending.bypass_egress = 1;
    }

    @hidden action copy_up() {
        deparsing.mirror_type = MIRROR_UP;
        meta.session = MIRROR_SESSION_AGENT;
        meta.up_port = 7w0 ++ meta.arrival.port;
    }

    @hidden action copy_up_resolve() {
        deparsing.mirror_type = MIRROR_RESOLVE;
        meta.session = MIRROR_SESSION_AGENT;
        meta.copy_kind = meta.copy_kind + 1; // COPY_..._RESOLVE
        meta.up_port = 7w0 ++ meta.arrival.port;
        meta.up_out_port = 7w0 ++ meta.way.port;
    }

    @hidden action nobody_listens() {
        meta.outcome = (outcome_t)COUNTER_DROP_DETACHED;
    }

    @hidden action tell_end() {
        meta.reason = REASON_ENDED;
        meta.value = meta.flow.index;
    }

    @hidden action head_report() {
        headers.packet_in.setValid();
        headers.packet_in.reason = REASON_REPORT_TNA;
        headers.packet_in.protocol = 0;
        headers.packet_in.port = 0;
        headers.packet_in.src_port = 0;
        headers.packet_in.dst_port = 0;
        headers.packet_in.server = 0;
        headers.packet_in.value = meta.flow.index;
    }

    @hidden action strip() {
        headers.packet_out.setInvalid();
    }

    @hidden action count() {
        outcomes.count(meta.outcome);
    }

    apply {
        begin();
        read_ip.apply(headers, meta, parsing);
        listening.apply(headers, meta);
        arrival.apply(headers, meta, intrinsic);
        addresses.apply(meta);
        if (meta.ip.first_fragment == 1 || meta.ip.later_fragment == 1) {
            fragments.apply(headers, meta);
        }
        measure.apply(headers, meta);
        virtual_servers.apply(meta);
        if (meta.ip.is_transport == 1 && meta.is_own_packet == 0) {
            if (headers.ipv4.isValid()) {
                flows_ipv4.apply(headers, meta);
            } else {
                flows_ipv6.apply(headers, meta);
            }
        }
        if (meta.flow.has_offsets == 1 && headers.tcp.isValid()) {
            offsets.apply(headers, meta);
        }
        if (meta.verdict == VERDICT_OPEN) {
            decide.apply(headers, meta);
        }
        if (meta.verdict == VERDICT_ANSWER && meta.is_asked == 0) {
            if (meta.is_question == 1) {
                answer.apply(headers, meta);
            }
        } else if (headers.ipv4.isValid() || headers.ipv6.isValid()) {
            next_hops.apply(headers, meta);
        }
        if (meta.is_asked == 1
            || meta.flow.found == 1 && meta.outcome == (outcome_t)COUNTER_FLOW_PACKETS) {
            track.apply(headers, meta);
        }
        if (meta.verdict == VERDICT_ROUTE) {
            correct.apply(headers, meta);
        }
        if (meta.verdict == VERDICT_LEAVE) {
            leave.apply(headers, meta);
            if (meta.tcp.shift_window != 0 && headers.tcp.window != 0
                && headers.tcp.flags[1:1] == 0) { // a SYN's is never scaled (RFC 7323 2.2)
                shift_window.apply(headers, meta);
            }
        }
        if (meta.is_asked == 1) {
            head_report();
        }
        if (meta.verdict == VERDICT_TO_AGENT) {
            end();
            if (meta.detached == 1) { // what is dropped for another reason keeps its counter
                if (meta.outcome == (outcome_t)COUNTER_UP_CALLS) {
                    nobody_listens();
                }
            } else if (meta.reason == REASON_RESOLVE) {
                copy_up_resolve();
            } else {
                copy_up();
            }
        } else if (meta.verdict == VERDICT_DROP) {
            end();
        } else {
            go();
            if (meta.flow.ended == 1) {
                tell_end();
                copy_up();
            }
        }
        strip();
        count();
    }
}

Pipeline(SegmentParser(), SegmentIngress(), SegmentDeparser(), CopyParser(), TellAgent(),
         CopyDeparser()) pipe;

Switch(pipe) main;
