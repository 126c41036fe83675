// SPDX-License-Identifier: Apache-2.0
// The data flow segment as a P4 program for v1model (BMv2, and what else speaks P4Runtime).
// The ingress decides, the egress does.  docs/design/0003-p4.md says why.
//
//  parser -> VerifyChecksums -> ingress:
//
//   Arrival      interfaces              ours? external? internal?           -> drop "local"
//   Classify                             headers that contradict each other  -> drop "malformed"
//   Addresses    local_addresses, virtual_addresses     (where it matters)
//   Answer                               ARP, neighbour solicitations        -> answered
//   Fragments    registers               a later fragment's ports
//   Flows        flows                   a flow's packet, or an error about one
//   WalkOptions                          TCP options, where they must be read
//   Track        registers               counts, the end of a flow           -> copy to the agent
//   VirtualServers  virtual_servers      no flow                             -> agent
//   NextHops     routes, neighbours, next_hops, tunnel_sources
//   UpCalls      meter, register         nobody listens, or too many         -> drop
//
//  egress:
//
//   TellAgent                            packet_in, reports
//   Rewrite | TranslateError             addresses, ports, offsets, checksums
//   Leave                                time to live, tunnel, link header
//
//  -> ComputeChecksums -> deparser
#include <core.p4>
#include <v1model.p4>

#include "include/arrival.p4"
#include "include/checksums.p4"
#include "include/classify.p4"
#include "include/deparser.p4"
#include "include/flows.p4"
#include "include/fragments.p4"
#include "include/icmp_errors.p4"
#include "include/leave.p4"
#include "include/neighbours.p4"
#include "include/next_hops.p4"
#include "include/options.p4"
#include "include/parser.p4"
#include "include/rewrite.p4"
#include "include/track.p4"
#include "include/up_calls.p4"
#include "include/virtual_servers.p4"

control SegmentIngress(inout headers_t headers, inout metadata_t meta,
                       inout standard_metadata_t standard) {
    Arrival() arrival;
    Classify() classify;
    Addresses() addresses;
    Answer() answer;
    Fragments() fragments;
    Flows() flows;
    SwapOffsets() swap_offsets;
    WalkOptions() walk_options;
    Track() track;
    VirtualServers() virtual_servers;
    NextHops() next_hops;
    UpCalls() up_calls;

    address_t wanted = 0;

    @id(OUTCOMES_ID)
    counter(COUNTERS, CounterType.packets) outcomes;

    @hidden action want_destination() {
        wanted = headers.ipv4.isValid() ? IPV4_PREFIX ++ headers.ipv4.dst_addr
                                        : headers.ipv6.dst_addr;
    }

    @hidden action want_arp_target() {
        wanted = IPV4_PREFIX ++ headers.arp.target;
    }

    @hidden action want_nd_target() {
        wanted = headers.nd_target.target;
    }

    @hidden action drop(bit<32> outcome) {
        meta.verdict = VERDICT_DROP;
        meta.counter = outcome;
    }

    @hidden action to_agent(bit<8> reason, bit<32> outcome) {
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = outcome;
        meta.up.reason = reason;
    }

    @hidden action route_flow(bit<32> outcome) {
        meta.verdict = VERDICT_ROUTE;
        meta.counter = outcome;
    }

    @hidden action route_by_destination() {
        meta.verdict = VERDICT_ROUTE;
        meta.counter = COUNTER_PASSED;
        meta.way.next_hop = 0;
        meta.way.towards = wanted;
    }

    @hidden action leave(port_t port) {
        standard.egress_spec = port;
    }

    @hidden action end() {
        mark_to_drop(standard);
    }

    @hidden action count() {
        outcomes.count(meta.counter);
    }

    apply {
        arrival.apply(headers, meta, standard);
        if (meta.verdict == VERDICT_OPEN && meta.is_asked == 0) {
            classify.apply(headers, meta, standard);
        }
        if (meta.verdict == VERDICT_OPEN) {
            if (meta.ip.is_transport == 1
                && (meta.ip.first_fragment == 1 || meta.ip.later_fragment == 1)) {
                fragments.apply(meta, standard.ingress_global_timestamp);
            }
            if (meta.ip.is_transport == 1 && meta.ip.ports_unknown == 0 || meta.ip.quoted == 1) {
                flows.apply(meta);
            }
            if (meta.flow.found == 1 && headers.tcp.isValid()) {
                if (meta.ip.quoted == 1) {
                    swap_offsets.apply(meta);
                }
                if (headers.tcp.data_offset > 5 && meta.ip.options_missing == 0
                    && (meta.flow.has_offsets == 1 || headers.tcp.flags & TCP_SYN != 0)) {
                    walk_options.apply(headers, meta);
                }
            }
            if (meta.flow.found == 1 && meta.ip.quoted == 0 || meta.is_asked == 1) {
                track.apply(headers, meta, standard.ingress_global_timestamp);
            }
        }
        if (meta.verdict == VERDICT_OPEN) {
            if (meta.flow.found == 1) {
                if (meta.ip.quoted == 0) {
                    route_flow(COUNTER_FLOW_PACKETS);
                } else if (meta.ip.ttl <= 1) {
                    drop(COUNTER_DROP_TTL);
                } else {
                    route_flow(COUNTER_ICMP_TRANSLATED);
                }
            } else {
                if (headers.arp.isValid()) {
                    want_arp_target();
                } else if (meta.is_solicitation == 1 && standard.checksum_error == 0) {
                    want_nd_target();
                } else {
                    want_destination();
                }
                addresses.apply(wanted, meta);
                if (meta.ip.ports_unknown == 1) {
                    if (meta.arrival.injected == 1 || meta.is_virtual == 1) {
                        drop(COUNTER_DROP_FRAGMENT);
                    }
                } else if (meta.arrival.injected == 1) {
                    drop(COUNTER_DROP_INJECT_UNMATCHED);
                } else if (meta.ip.is_transport == 1) {
                    virtual_servers.apply(meta);
                } else if (headers.arp.isValid()
                           || (meta.is_solicitation == 1 && standard.checksum_error == 0)) {
                    answer.apply(headers, meta);
                }
                if (meta.is_neighbour == 1) {
                    to_agent(REASON_NEIGHBOUR, COUNTER_LOCAL);
                } else if (meta.verdict == VERDICT_OPEN) { // what any router would do with it
                    if (meta.is_own == 1 || headers.ethernet.dst_addr[40:40] == 1
                        || !(headers.ipv4.isValid() || headers.ipv6.isValid())) {
                        drop(COUNTER_LOCAL);
                    } else if (meta.ip.ttl <= 1) {
                        to_agent(REASON_TTL, COUNTER_DROP_TTL);
                    } else {
                        route_by_destination();
                    }
                }
            }
        }
        if (meta.verdict == VERDICT_ROUTE) {
            next_hops.apply(headers, meta);
        }
        up_calls.apply(headers, meta, standard.ingress_global_timestamp);
        if (meta.verdict == VERDICT_DROP) {
            end();
        } else if (meta.verdict == VERDICT_TO_AGENT) {
            leave(PORT_AGENT);
        } else {
            leave(meta.way.port);
        }
        count();
    }
}

control SegmentEgress(inout headers_t headers, inout metadata_t meta,
               inout standard_metadata_t standard) {
    TellAgent() tell_agent;
    TranslateError() translate_error;
    Rewrite() rewrite;
    Leave() leave;

    @hidden action begin() {
        headers.packet_out.setInvalid();
        headers.old_sum.setValid(); // or nothing of it would count
    }

    apply {
        begin();
        if (standard.egress_port == PORT_AGENT) {
            tell_agent.apply(headers, meta);
        } else if (meta.verdict == VERDICT_LEAVE) {
            if (meta.flow.found == 1) {
                if (meta.ip.quoted == 1) {
                    translate_error.apply(headers, meta);
                } else {
                    rewrite.apply(headers, meta);
                }
            }
            leave.apply(headers, meta);
        }
    }
}

V1Switch(FrameParser(), VerifyChecksums(), SegmentIngress(), SegmentEgress(), ComputeChecksums(),
         FrameDeparser()) main;
