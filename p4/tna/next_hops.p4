// SPDX-License-Identifier: Apache-2.0
// Where a packet leaves: ../include/next_hops.p4.
//
//   towards -> routes -+- via(next hop) ---------------------------+-> next_hops -> port, MACs, MTU
//     (LPM)            +- connected(port) -> neighbours(address) --+
//   a flow's explicit next hop ------------------------------------+
//   port -> tunnel_sources -> our address at the near end of a tunnel
//
// The way is looked up before it is known whether the packet takes it: that is Correct's to say,
// and a look-up for nothing costs nothing.
#ifndef SPLITPLANE_TNA_NEXT_HOPS_P4
#define SPLITPLANE_TNA_NEXT_HOPS_P4

#include "../include/ids.p4"
#include "../include/sizes.p4"
#include "headers.p4"
#include "metadata.p4"

control NextHops(inout frame_t headers, inout metadata_t meta) {
    @id(VIA_ID)
    action via(@id(1) bit<32> next_hop) {
        meta.way.next_hop = next_hop;
    }

    @id(CONNECTED_ID)
    action connected(@id(1) bit<16> port) {
        meta.way.port = port[8:0];
    }

    @id(NO_ROUTE_ID)
    action no_route() {
        meta.way.trouble = TROUBLE_NO_ROUTE;
    }

    @id(ROUTES_ID)
    table routes {
        key = {
            meta.way.towards : lpm @id(1) @name("address");
        }
        actions = {
            via;
            connected;
            @defaultonly no_route;
        }
        const default_action = no_route();
        size = TNA_ROUTES;
    }

    @id(SET_NEIGHBOUR_ID)
    action set_neighbour(@id(1) bit<32> next_hop) {
        meta.way.next_hop = next_hop;
    }

    // The agent finds the MAC address out; meanwhile the packet is lost.
    @id(NO_NEIGHBOUR_ID)
    action no_neighbour() {
        meta.way.trouble = TROUBLE_NO_NEIGHBOUR;
    }

    @id(NEIGHBOURS_ID)
    table neighbours {
        key = {
            meta.way.towards : exact @id(1) @name("address");
        }
        actions = {
            set_neighbour;
            @defaultonly no_neighbour;
        }
        const default_action = no_neighbour();
        size = TNA_NEIGHBOURS;
    }

    @id(FORWARD_ID)
    action forward(@id(1) bit<16> port, @id(2) mac_t src_mac, @id(3) mac_t dst_mac,
                   @id(4) bit<16> mtu) {
        meta.way.port = port[8:0];
        meta.way.mtu = 16w0 ++ mtu;
        meta.way.room = mtu - meta.ip.leaving;
        headers.ethernet.src_addr = src_mac;
        headers.ethernet.dst_addr = dst_mac;
    }

    @id(NO_NEXT_HOP_ID)
    action no_next_hop() {
        meta.way.trouble = TROUBLE_NO_NEXT_HOP;
    }

    @id(NEXT_HOPS_ID)
    table next_hops {
        key = {
            meta.way.next_hop : exact @id(1) @name("next_hop");
        }
        actions = {
            forward;
            @defaultonly no_next_hop;
        }
        const default_action = no_next_hop();
        size = TNA_NEXT_HOPS;
    }

    @id(SET_TUNNEL_SOURCE_ID)
    action set_tunnel_source(@id(1) bit<32> ipv4_addr, @id(2) address_t ipv6_addr) {
        headers.outer_ipv4.src_addr = ipv4_addr;
        headers.outer_ipv6.src_addr = ipv6_addr;
    }

    @id(NO_TUNNEL_SOURCE_ID)
    action no_tunnel_source() {
        meta.way.trouble = TROUBLE_NO_ROUTE;
    }

    @id(TUNNEL_SOURCES_ID)
    table tunnel_sources {
        key = {
            meta.way.port : exact @id(1) @name("port");
        }
        actions = {
            set_tunnel_source;
            @defaultonly no_tunnel_source;
        }
        const default_action = no_tunnel_source();
        size = INTERFACES;
    }

    @hidden action leave_room_ipv4() {
        meta.ip.leaving = meta.ip.length + 20;
    }

    @hidden action leave_room_ipv6() {
        meta.ip.leaving = meta.ip.length + 40;
    }

    @hidden action leave_alone() {
        meta.ip.leaving = meta.ip.length;
    }

    apply {
        if (meta.flow.is_tunnel == 0) {
            leave_alone();
        } else if (headers.ipv4.isValid()) {
            leave_room_ipv4();
        } else {
            leave_room_ipv6();
        }
        if (meta.way.next_hop == 0) {
            routes.apply();
            if (meta.way.next_hop == 0 && meta.way.trouble == TROUBLE_NONE) {
                neighbours.apply();
            }
        }
        if (meta.way.trouble == TROUBLE_NONE) {
            next_hops.apply();
            if (meta.flow.is_tunnel == 1) {
                tunnel_sources.apply();
            }
        }
    }
}

// What has turned out since Decide: trouble on the way, or a flow that was over.
control Correct(inout frame_t headers, inout metadata_t meta) {
    @hidden action leave() {
        meta.verdict = VERDICT_LEAVE;
    }

    @hidden action drop(outcome_t outcome) {
        meta.verdict = VERDICT_DROP;
        meta.outcome = outcome;
    }

    @hidden action resolve() {
        meta.verdict = VERDICT_TO_AGENT;
        meta.outcome = (outcome_t)COUNTER_DROP_NO_NEIGHBOUR;
        meta.reason = REASON_RESOLVE;
    }

    @hidden action too_big(bit<32> minus_outer_header) { // nothing subtracts an entry's number
        meta.verdict = VERDICT_TO_AGENT;
        meta.outcome = (outcome_t)COUNTER_DROP_TOO_BIG;
        meta.reason = REASON_TOO_BIG;
        meta.value = meta.way.mtu + minus_outer_header;
    }

    @hidden action new_flow(bit<8> reason) {
        meta.verdict = VERDICT_TO_AGENT;
        meta.outcome = (outcome_t)COUNTER_UP_CALLS;
        meta.reason = reason;
    }

    @hidden table corrections {
        key = {
            meta.flow.over : ternary;
            meta.arrival.injected : ternary;
            meta.has_server : ternary;
            meta.is_bridged : ternary;
            meta.way.trouble : ternary;
            meta.way.room : ternary;
            meta.flow.is_tunnel : ternary;
            headers.ipv4.isValid() : ternary;
        }
        actions = {
            leave;
            drop;
            resolve;
            too_big;
            new_flow;
        }
        const entries = { // the first that matches
            (1, 1, _, _, _, _, _, _) : drop((outcome_t)COUNTER_DROP_INJECT_UNMATCHED);
            (1, _, 0, _, _, _, _, _) : drop((outcome_t)COUNTER_LOCAL);
            (1, _, _, 0, _, _, _, _) : new_flow(REASON_NEW_FLOW);
            (1, _, _, 1, _, _, _, _) : new_flow(REASON_BRIDGED);
            (_, _, _, _, TROUBLE_NO_ROUTE, _, _, _) : drop((outcome_t)COUNTER_DROP_NO_ROUTE);
            (_, _, _, _, TROUBLE_NO_NEIGHBOUR, _, _, _) : resolve();
            (_, _, _, _, TROUBLE_NO_NEXT_HOP, _, _, _) : drop((outcome_t)COUNTER_DROP_NO_NEIGHBOUR);
            (_, _, _, _, _, BELOW_0, 0, _) : too_big(0);
            (_, _, _, _, _, BELOW_0, 1, true) : too_big(0x100000000 - 20);
            (_, _, _, _, _, BELOW_0, 1, false) : too_big(0x100000000 - 40);
        }
        const default_action = leave();
        size = 16;
    }

    apply {
        corrections.apply();
    }
}

#endif
