// SPDX-License-Identifier: Apache-2.0
// The data flow segment as a P4 program for v1model (BMv2, and what else speaks P4Runtime).
// The ingress decides, the egress does.  docs/design/0003-p4.md says why.
//
//  parser -> VerifyChecksums -> ingress:
//
//   Arrival      interfaces              ours? external? internal?           -> drop "local"
//   Classify                             headers that contradict each other  -> drop "malformed"
//   Addresses    local_addresses, virtual_addresses     (where it matters)
//   Martians, Sources  own_sources, virtual_sources     (the same)
//   Answer                               ARP, neighbour solicitations        -> answered
//   Fragments    registers               a later fragment's ports
//   Flows        flows                   a flow's packet, or an error about one
//   Held         registers               its handshakes are not complete        -> agent
//   WalkOptions                          TCP options, where they must be read
//   Track        registers               counts, the end of a flow           -> copy to the agent
//                                        a SYN that its node does not answer -> agent
//   Asleep       asleep                  a node goes on with a flow that is gone -> agent
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
#include "include/asleep.p4"
#include "include/checksums.p4"
#include "include/classify.p4"
#include "include/deparser.p4"
#include "include/flows.p4"
#include "include/fragments.p4"
#include "include/held.p4"
#include "include/icmp_errors.p4"
#include "include/leave.p4"
#include "include/neighbours.p4"
#include "include/next_hops.p4"
#include "include/options.p4"
#include "include/parser.p4"
#include "include/rewrite.p4"
#include "include/sources.p4"
#include "include/track.p4"
#include "include/up_calls.p4"
#include "include/virtual_servers.p4"

// An echo request whose answer is the same packet turned around.
#define IS_PING(headers, meta) \
    (headers.icmp.isValid() && headers.icmp.code == 0 && meta.rare == 0 \
     && (headers.ipv4.isValid() ? headers.icmp.kind == 8 && headers.ipv4.ihl == 5 \
                                : headers.icmp.kind == 128 \
                                  && headers.ipv6.next_header == PROTOCOL_ICMPV6))

control SegmentIngress(inout headers_t headers, inout metadata_t meta,
                       inout standard_metadata_t standard) {
    @id(FLOW_STATES_ID)
    register<bit<288>>(FLOW_ENTRIES) flow_states; // see track.p4
    @id(FLOW_ENDS_ID)
    register<bit<96>>(FLOW_ENTRIES) flow_ends; // fin_end 32 | gap_from 32 | gap_to 32; and see held.p4
    @id(LISTENING_ID)
    register<bit<48>>(1) listening; // see up_calls.p4

    Arrival() arrival;
    Asleep() asleep;
    Classify() classify;
    Addresses() addresses;
    Answer() answer;
    Fragments() fragments;
    Flows() flows;
    Held(flow_states, flow_ends) held;
    SwapOffsets() swap_offsets;
    WalkOptions() walk_options;
    Track(flow_states, flow_ends, listening) track;
    Martians() error_martians;
    Martians() martians;
    Sources() sources;
    VirtualServers() virtual_servers;
    NextHops() next_hops;
    UpCalls(listening) up_calls;

    state_t state;
    bit<48> until;

    @id(OUTCOMES_ID)
    counter(COUNTERS, CounterType.packets) outcomes;

    @hidden action want_destination() {
        meta.towards = headers.ipv4.isValid() ? IPV4_PREFIX ++ headers.ipv4.dst_addr
                                              : headers.ipv6.dst_addr;
    }

    @hidden action want_arp_target() {
        meta.towards = IPV4_PREFIX ++ headers.arp.target;
    }

    @hidden action want_nd_target() {
        meta.towards = headers.nd_target.target;
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

    // The key of the packets that answer this one, or back again.
    @hidden action exchange(kind_t kind) {
        address_t address = meta.key.src_addr;
        bit<16> port = meta.key.src_port;
        meta.kind = kind;
        meta.key.src_addr = meta.key.dst_addr;
        meta.key.dst_addr = address;
        meta.key.src_port = meta.key.dst_port;
        meta.key.dst_port = port;
    }

    @hidden action who_listens() {
        listening.read(until, 0);
    }

    // A SYN to somebody of whom we know nothing: is he a node, and does a flow have the client's port?  A
    // table is applied once a packet, so it begins anew, and is looked up with the other key.
    @hidden action look_again() {
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_AGAIN;
        meta.rare = RARE_AGAIN;
        meta.came_by = standard.ingress_port;
        resubmit_preserving_field_list(FIELDS_AGAIN);
    }

    // What has no way does not count as its flow's: it comes again, in pieces or when there is one.
    @hidden action uncount() {
        flow_states.read(state, meta.flow.index);
        flow_states.write(meta.flow.index, (state[STATE_COUNTS] - ONE_PACKET) ++ state[159:0]);
    }

    @hidden action has_source_route() {
        meta.kind = KIND_SOURCE_ROUTED;
    }

    @hidden action count_as(bit<32> outcome) {
        meta.counter = outcome;
    }

    @hidden action not_a_question() { // its checksum is wrong
        meta.kind = KIND_ICMP;
    }

    @hidden action route_by_destination() {
        meta.counter = COUNTER_PASSED;
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
        // most frames are TCP or UDP as it should be
        if ((meta.kind == KIND_TCP
             ? headers.tcp.data_offset < 5
               || meta.ip.payload < (bit<16>)headers.tcp.data_offset << 2
             : meta.kind != KIND_UDP || meta.ip.payload < 8)
            || standard.parser_error != error.NoError || meta.rare != 0
            || standard.packet_length < FRAME_LENGTH(meta)) {
            if (meta.verdict == VERDICT_OPEN) {
                classify.apply(headers, meta, standard);
                if (meta.rare & RARE_SOURCE_ROUTED != 0
                    && (meta.kind == KIND_TCP || meta.kind == KIND_UDP)) {
                    has_source_route();
                }
                if (meta.kind == KIND_LATER
                    || (meta.rare == RARE_FIRST_FRAGMENT
                        && (meta.kind == KIND_TCP || meta.kind == KIND_UDP))) {
                    fragments.apply(meta, standard.ingress_global_timestamp);
                }
                if (meta.rare == RARE_AGAIN && meta.kind == KIND_TCP) {
                    exchange(KIND_AGAIN);
                }
            }
        }
        if (meta.kind >= KIND_TCP && meta.kind <= KIND_AGAIN) {
            flows.apply(headers, meta);
        }
        if (meta.direction != DIRECTION_NONE) {
            if (meta.has_offsets == 1 && meta.kind >= KIND_QUOTED) {
                swap_offsets.apply(meta);
            }
            if (meta.has_offsets == 1 || headers.tcp.flags & TCP_SYN != 0) {
                if (headers.tcp.isValid() && headers.tcp.data_offset > 5
                    && meta.kind != KIND_QUOTED_PART) {
                    walk_options.apply(headers, meta);
                }
            }
            count_as(COUNTER_FLOW_PACKETS);
            if (meta.kind < KIND_QUOTED || meta.kind == KIND_DECIDED) { // or the agent asks
                if (meta.direction == DIRECTION_RETURNING && meta.flow.is_outside == 1) {
                    drop(COUNTER_DROP_RETURN_OUTSIDE); // made up
                } else if (meta.direction != DIRECTION_ASKED && meta.flow.is_held == 1) {
                    held.apply(headers, meta, standard);
                } else {
                    track.apply(headers, meta, standard);
                }
            } else if (meta.kind == KIND_SOURCE_ROUTED) {
                drop(COUNTER_DROP_SOURCE_ROUTED);
            } else if (meta.kind == KIND_AGAIN) {
                exchange(KIND_TCP);
                to_agent(REASON_COLLISION, COUNTER_UP_CALLS);
            } else {
                error_martians.apply(headers, meta);
                if (meta.whose.from_nobody == 1) {
                    drop(COUNTER_DROP_MARTIAN);
                } else if (meta.flow.is_held == 1) {
                    to_agent(REASON_HELD, COUNTER_UP_CALLS);
                } else if (meta.rare == RARE_FIRST_FRAGMENT) { // its checksum covers all of it
                    drop(COUNTER_DROP_FRAGMENT);
                } else if (meta.is_expired == 1) {
                    drop(COUNTER_DROP_TTL);
                } else {
                    count_as(COUNTER_ICMP_TRANSLATED);
                }
            }
        }
        if (meta.direction == DIRECTION_NONE && meta.verdict == VERDICT_OPEN) {
            if (meta.kind == KIND_SOLICITATION && standard.checksum_error == 1) {
                not_a_question();
            }
            if (meta.kind == KIND_ARP) {
                want_arp_target();
            } else if (meta.kind == KIND_SOLICITATION) {
                want_nd_target();
            } else {
                want_destination();
            }
            addresses.apply(meta);
            if (headers.ipv4.isValid() || headers.ipv6.isValid()) {
                martians.apply(headers, meta);
                sources.apply(headers, meta);
            }
            asleep.apply(headers, meta);
            if (meta.verdict != VERDICT_OPEN) {
                // it goes up, or no further
            } else if (meta.kind == KIND_LOST) {
                if (meta.whose.is_virtual == 1
                    || (meta.arrival.internal == 1 && meta.is_local == 0
                        && headers.ethernet.dst_addr[40:40] == 0)) {
                    if (headers.packet_out.isValid()) { // its first one did not come meanwhile
                        drop(COUNTER_DROP_FRAGMENT);
                    } else {
                        to_agent(REASON_EARLY_FRAGMENT, COUNTER_UP_CALLS);
                    }
                } else if (headers.packet_out.isValid()
                           && headers.packet_out.value != INJECT_ARRIVAL) {
                    drop(COUNTER_DROP_FRAGMENT);
                }
            } else if (meta.kind == KIND_SOURCE_ROUTED && meta.whose.is_virtual == 1) {
                drop(COUNTER_DROP_SOURCE_ROUTED);
            } else if (headers.packet_out.isValid()
                       && headers.packet_out.value != INJECT_ARRIVAL) {
                // a flow's packet must find the flow; what waited for its next hop arrives again
                drop(COUNTER_DROP_INJECT_UNMATCHED);
            } else if (meta.kind >= KIND_TCP && meta.kind <= KIND_AGAIN
                       && meta.kind != KIND_QUOTED && meta.kind != KIND_QUOTED_PART) {
                if (meta.kind == KIND_AGAIN) {
                    exchange(KIND_TCP);
                }
                if (meta.kind == KIND_TCP && IS_SYN(headers) && meta.rare == 0
                    && !headers.packet_out.isValid() && meta.whose.is_virtual == 0
                    && meta.whose.is_own == 0 && headers.ethernet.dst_addr[40:40] == 0) {
                    who_listens();
                    if (standard.ingress_global_timestamp <= until) {
                        look_again();
                    }
                }
                if (meta.verdict == VERDICT_OPEN) {
                    virtual_servers.apply(headers, meta);
                }
            } else if (meta.whose.is_owned == 1 && meta.kind != KIND_ARP
                       && meta.kind != KIND_SOLICITATION && meta.kind != KIND_NEIGHBOUR) {
                // routed, it would come back from the router
                if (headers.icmp.isValid()
                    && (meta.whose.from_own == 1 || meta.whose.from_virtual == 1)) {
                    drop(COUNTER_DROP_OWN_SOURCE);
                } else if (headers.icmp.isValid() && meta.whose.from_nobody == 1) {
                    drop(COUNTER_DROP_MARTIAN);
                } else if (IS_PING(headers, meta)) {
                    to_agent(REASON_UNSERVED, COUNTER_DROP_UNSERVED);
                } else {
                    drop(COUNTER_DROP_UNSERVED);
                }
            } else if (meta.kind == KIND_ARP || meta.kind == KIND_SOLICITATION) {
                answer.apply(headers, meta, standard);
            }
            if (meta.kind == KIND_NEIGHBOUR) {
                to_agent(REASON_NEIGHBOUR, COUNTER_LOCAL);
            } else if (meta.verdict == VERDICT_OPEN) { // what any router would do with it
                if (meta.whose.is_own == 1 && headers.ethernet.dst_addr[40:40] == 0
                    && IS_PING(headers, meta) && meta.whose.from_own == 0
                    && meta.whose.from_nobody == 0) {
                    to_agent(REASON_UNSERVED, COUNTER_LOCAL);
                } else if (meta.whose.is_own == 1 || headers.ethernet.dst_addr[40:40] == 1
                    || !(headers.ipv4.isValid() || headers.ipv6.isValid())) {
                    drop(COUNTER_LOCAL);
                } else if (meta.whose.from_own == 1) {
                    drop(COUNTER_DROP_OWN_SOURCE);
                } else if (meta.whose.from_nobody == 1 || meta.whose.is_nobodys == 1) {
                    drop(COUNTER_DROP_MARTIAN);
                } else if (headers.ipv4.isValid() && meta.rare & RARE_SOURCE_ROUTED != 0) {
                    drop(COUNTER_DROP_SOURCE_ROUTED);
                } else if (meta.is_expired == 1) {
                    to_agent(REASON_TTL, COUNTER_DROP_TTL);
                } else {
                    route_by_destination();
                }
            }
        }
        if (meta.verdict <= VERDICT_ROUTE) {
            next_hops.apply(headers, meta, standard);
        }
        if (meta.verdict != VERDICT_LEAVE) {
            if (meta.direction != DIRECTION_NONE && meta.kind < KIND_QUOTED
                && meta.counter >= COUNTER_DROP_TOO_BIG
                && meta.counter <= COUNTER_DROP_NO_NEIGHBOUR) {
                uncount();
            }
            up_calls.apply(headers, meta, standard);
            if (meta.verdict == VERDICT_DROP) {
                end();
            } else if (meta.verdict == VERDICT_TO_AGENT) {
                leave(PORT_AGENT);
            }
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

    apply {
        if (meta.verdict == VERDICT_LEAVE) {
            if (meta.direction != DIRECTION_NONE) {
                if (meta.kind < KIND_QUOTED) {
                    rewrite.apply(headers, meta);
                } else {
                    translate_error.apply(headers, meta);
                }
            }
            leave.apply(headers, meta);
        } else if (standard.egress_port == PORT_AGENT) {
            tell_agent.apply(headers, meta, standard);
        }
    }
}

V1Switch(FrameParser(), VerifyChecksums(), SegmentIngress(), SegmentEgress(), ComputeChecksums(),
         FrameDeparser()) main;
