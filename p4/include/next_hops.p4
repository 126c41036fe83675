// SPDX-License-Identifier: Apache-2.0
// Where a packet leaves.
//
//   towards -> routes -+- via(next hop) ---------------------------+-> next_hops -> port, MACs, MTU
//     (LPM)            +- connected(port) -> neighbours(address) --+
//   a flow's or the agent's explicit next hop ---------------------+
//   port -> tunnel_sources -> our address at the near end of a tunnel
#ifndef SPLITPLANE_NEXT_HOPS_P4
#define SPLITPLANE_NEXT_HOPS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

control NextHops(inout headers_t headers, inout metadata_t meta,
                 inout standard_metadata_t standard) {
    @id(VIA_ID)
    action via(@id(1) bit<32> next_hop) {
        meta.next_hop = next_hop;
    }

    @id(CONNECTED_ID)
    action connected(@id(1) bit<16> port) {
        meta.way.port = (port_t)port;
    }

    @id(NO_ROUTE_ID)
    action no_route() {
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_DROP_NO_ROUTE;
    }

    @id(ROUTES_ID)
    table routes {
        key = {
            meta.towards : lpm @id(1) @name("address");
        }
        actions = {
            via;
            connected;
            @defaultonly no_route;
        }
        const default_action = no_route();
        size = ROUTES;
    }

    @id(SET_NEIGHBOUR_ID)
    action set_neighbour(@id(1) bit<32> next_hop) {
        meta.next_hop = next_hop;
    }

    // The agent finds the MAC address out; meanwhile the packet is lost.
    @id(NO_NEIGHBOUR_ID)
    action no_neighbour() {
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = COUNTER_DROP_NO_NEIGHBOUR;
        meta.up.reason = REASON_RESOLVE;
        meta.up.value = (bit<32>)meta.way.port;
    }

    @id(NEIGHBOURS_ID)
    table neighbours {
        key = {
            meta.towards : exact @id(1) @name("address");
        }
        actions = {
            set_neighbour;
            @defaultonly no_neighbour;
        }
        const default_action = no_neighbour();
        size = NEIGHBOURS;
    }

    @id(FORWARD_ID)
    action forward(@id(1) bit<16> port, @id(2) mac_t src_mac, @id(3) mac_t dst_mac,
                   @id(4) bit<16> mtu) {
        if (meta.ip.length > mtu - meta.room) {
            meta.verdict = VERDICT_TO_AGENT;
            meta.counter = COUNTER_DROP_TOO_BIG;
            meta.up.reason = REASON_TOO_BIG;
            meta.up.value = (bit<32>)(mtu - meta.room);
        } else {
            meta.verdict = VERDICT_LEAVE;
            standard.egress_spec = (port_t)port;
            headers.ethernet.src_addr = src_mac;
            headers.ethernet.dst_addr = dst_mac;
        }
    }

    @id(NO_NEXT_HOP_ID)
    action no_next_hop() {
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_DROP_NO_NEIGHBOUR;
    }

    @id(NEXT_HOPS_ID)
    table next_hops {
        key = {
            meta.next_hop : exact @id(1) @name("next_hop");
        }
        actions = {
            forward;
            @defaultonly no_next_hop;
        }
        const default_action = no_next_hop();
        size = NEXT_HOPS;
    }

    @id(SET_TUNNEL_SOURCE_ID)
    action set_tunnel_source(@id(1) bit<32> ipv4_addr, @id(2) address_t ipv6_addr) {
        meta.way.tunnel_src = headers.ipv4.isValid() ? IPV4_PREFIX ++ ipv4_addr : ipv6_addr;
    }

    @id(NO_TUNNEL_SOURCE_ID)
    action no_tunnel_source() {
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_DROP_NO_ROUTE;
    }

    @id(TUNNEL_SOURCES_ID)
    table tunnel_sources {
        key = {
            standard.egress_spec : exact @id(1) @name("port");
        }
        actions = {
            set_tunnel_source;
            @defaultonly no_tunnel_source;
        }
        const default_action = no_tunnel_source();
        size = INTERFACES;
    }

    apply {
        if (meta.next_hop == 0) {
            routes.apply();
            if (meta.next_hop == 0 && meta.verdict <= VERDICT_ROUTE) {
                neighbours.apply();
            }
        }
        if (meta.verdict <= VERDICT_ROUTE) {
            next_hops.apply();
            if (meta.room != 0 && meta.verdict == VERDICT_LEAVE) {
                tunnel_sources.apply();
            }
        }
    }
}

#endif
