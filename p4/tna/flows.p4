// SPDX-License-Identifier: Apache-2.0
// The flow tables: a flow is two entries as in ../include/flows.p4, but IPv4's and IPv6's are kept
// apart, because an IPv4 key fits one word of SRAM and an IPv6 key three.
//
//   (addresses, ports, protocol) -> flows_ipv4 | flows_ipv6 -> new addresses, ports, way, index
//
// An entry holds what the switch uses.  What the CS decided beside it is for the agent to keep in
// the entry's `metadata`, which is P4Runtime's place for it: action data is dear here.  The
// addresses are written at once; what goes up to the agent is a copy of the frame as it arrived.
#ifndef SPLITPLANE_TNA_FLOWS_P4
#define SPLITPLANE_TNA_FLOWS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

#define FOUND(returning, there, back)                                                            \
    meta.flow.found = 1;                                                                         \
    meta.flow.is_return = returning;                                                             \
    meta.flow.inbound_role = there;                                                              \
    meta.flow.return_role = back;                                                                \
    meta.flow.index = index;                                                                     \
    meta.flow.cookie = cookie;                                                                   \
    meta.flow.new_src_port = new_src_port;                                                       \
    meta.flow.new_dst_port = new_dst_port;                                                       \
    meta.flow.has_offsets = has_offsets;                                                         \
    meta.way.next_hop = next_hop;

control FlowsIpv4(inout frame_t headers, inout metadata_t meta) {
    @id(FLOW_IPV4_FRAMES_ID)
    DirectCounter<bit<64>>(CounterType_t.PACKETS_AND_BYTES) flow_ipv4_frames;

    // new_*: equal to the key where nothing is translated.
    // next_hop: 0 routes by `towards`, the resulting destination or, in a tunnel, the node.
    @id(INBOUND_IPV4_ID)
    action inbound_ipv4(@id(1) bit<32> index, @id(2) bit<32> cookie, @id(3) bit<32> new_src_addr,
                        @id(4) bit<32> new_dst_addr, @id(5) bit<16> new_src_port,
                        @id(6) bit<16> new_dst_port, @id(9) bit<1> has_offsets,
                        @id(13) bit<1> is_tunnel, @id(14) bit<32> next_hop,
                        @id(15) bit<32> towards) {
        flow_ipv4_frames.count();
        FOUND(0, ROLE_OWN, ROLE_PEER)
        meta.flow.is_tunnel = is_tunnel;
        headers.ipv4.src_addr = new_src_addr;
        headers.ipv4.dst_addr = new_dst_addr;
        meta.way.towards[31:0] = towards;
    }

    @id(RETURNING_IPV4_ID)
    action returning_ipv4(@id(1) bit<32> index, @id(2) bit<32> cookie, @id(3) bit<32> new_src_addr,
                          @id(4) bit<32> new_dst_addr, @id(5) bit<16> new_src_port,
                          @id(6) bit<16> new_dst_port, @id(9) bit<1> has_offsets,
                          @id(15) bit<32> next_hop) {
        flow_ipv4_frames.count();
        FOUND(1, ROLE_PEER, ROLE_OWN)
        headers.ipv4.src_addr = new_src_addr;
        headers.ipv4.dst_addr = new_dst_addr;
        meta.way.towards[31:0] = new_dst_addr;
    }

    @id(NO_FLOW_ID)
    action no_flow() {}

    @id(FLOWS_IPV4_ID)
    table flows_ipv4 {
        key = {
            headers.ipv4.src_addr : exact @id(1) @name("src_addr");
            headers.ipv4.dst_addr : exact @id(2) @name("dst_addr");
            meta.ports[31:16] : exact @id(3) @name("src_port");
            meta.ports[15:0] : exact @id(4) @name("dst_port");
            meta.ip.protocol : exact @id(5) @name("protocol");
        }
        actions = {
            inbound_ipv4;
            returning_ipv4;
            @defaultonly no_flow;
        }
        const default_action = no_flow();
        counters = flow_ipv4_frames;
        idle_timeout = true;
        size = FLOWS_IPV4 * 2;
    }

    apply {
        flows_ipv4.apply();
    }
}

control FlowsIpv6(inout frame_t headers, inout metadata_t meta) {
    @id(FLOW_IPV6_FRAMES_ID)
    DirectCounter<bit<64>>(CounterType_t.PACKETS_AND_BYTES) flow_ipv6_frames;

    @id(INBOUND_IPV6_ID)
    action inbound_ipv6(@id(1) bit<32> index, @id(2) bit<32> cookie, @id(3) address_t new_src_addr,
                        @id(4) address_t new_dst_addr, @id(5) bit<16> new_src_port,
                        @id(6) bit<16> new_dst_port, @id(9) bit<1> has_offsets,
                        @id(13) bit<1> is_tunnel, @id(14) bit<32> next_hop,
                        @id(15) address_t towards) {
        flow_ipv6_frames.count();
        FOUND(0, ROLE_OWN, ROLE_PEER)
        meta.flow.is_tunnel = is_tunnel;
        headers.ipv6.src_addr = new_src_addr;
        headers.ipv6.dst_addr = new_dst_addr;
        meta.way.towards = towards;
    }

    @id(RETURNING_IPV6_ID)
    action returning_ipv6(@id(1) bit<32> index, @id(2) bit<32> cookie,
                          @id(3) address_t new_src_addr, @id(4) address_t new_dst_addr,
                          @id(5) bit<16> new_src_port, @id(6) bit<16> new_dst_port,
                          @id(9) bit<1> has_offsets, @id(15) bit<32> next_hop) {
        flow_ipv6_frames.count();
        FOUND(1, ROLE_PEER, ROLE_OWN)
        headers.ipv6.src_addr = new_src_addr;
        headers.ipv6.dst_addr = new_dst_addr;
        meta.way.towards = new_dst_addr;
    }

    @id(NO_FLOW_ID)
    action no_flow() {}

    @id(FLOWS_IPV6_ID)
    table flows_ipv6 {
        key = {
            headers.ipv6.src_addr : exact @id(1) @name("src_addr");
            headers.ipv6.dst_addr : exact @id(2) @name("dst_addr");
            meta.ports[31:16] : exact @id(3) @name("src_port");
            meta.ports[15:0] : exact @id(4) @name("dst_port");
            meta.ip.protocol : exact @id(5) @name("protocol");
        }
        actions = {
            inbound_ipv6;
            returning_ipv6;
            @defaultonly no_flow;
        }
        const default_action = no_flow();
        counters = flow_ipv6_frames;
        idle_timeout = true;
        size = FLOWS_IPV6 * 2;
    }

    apply {
        flows_ipv6.apply();
    }
}

#endif
