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
#include "include/virtual_servers.p4"

control Ingress(inout headers_t headers, inout metadata_t meta,
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

    address_t wanted = 0;

    @id(OUTCOMES_ID)
    counter(COUNTERS, CounterType.packets) outcomes;
    @id(UP_CALL_METER_ID)
    meter(1, MeterType.packets) up_calls; // as many new flows a second as the agent can take
    bit<32> colour = 0;

    action want_destination() {
        wanted = headers.ipv4.isValid() ? IPV4_PREFIX ++ headers.ipv4.dst_addr
                                        : headers.ipv6.dst_addr;
    }

    action want_arp_target() {
        wanted = IPV4_PREFIX ++ headers.arp.target;
    }

    action want_nd_target() {
        wanted = headers.nd_target.target;
    }

    action drop(bit<32> counter) {
        meta.verdict = VERDICT_DROP;
        meta.counter = counter;
    }

    action to_agent(bit<8> reason, bit<32> counter) {
        meta.verdict = VERDICT_TO_AGENT;
        meta.up.reason = reason;
        meta.counter = counter;
    }

    action route_flow(bit<32> counter) {
        meta.verdict = VERDICT_ROUTE;
        meta.counter = counter;
    }

    action route_by_destination() {
        meta.verdict = VERDICT_ROUTE;
        meta.counter = COUNTER_PASSED;
        meta.way.next_hop = 0;
        meta.way.towards = wanted;
    }

    action measure_up_call() {
        up_calls.execute_meter(0, colour);
    }

    action leave(port_t port) {
        standard.egress_spec = port;
    }

    action end() {
        mark_to_drop(standard);
    }

    action count() {
        outcomes.count(meta.counter);
    }

    apply {
        arrival.apply(headers, meta, standard);
        if (meta.verdict == VERDICT_OPEN) {
            classify.apply(headers, meta, standard);
        }
        if (meta.verdict == VERDICT_OPEN) {
            if (headers.tcp.isValid() || headers.udp.isValid() || headers.tcp_beginning.isValid()) {
                flows.apply(meta); // a flow's packets, or an error about one
            }
        }
    }
}
