// SPDX-License-Identifier: Apache-2.0
// The flow table: each flow is two entries, one for each direction, each found by its own packets'
// key and holding all that they need (docs/design/0003-p4.md).
//
//   (addresses, ports, protocol) -> flows -> inbound:   new addresses, ports, deltas, offsets, way,
//                                                       index and cookie, and what the CS decided
//                                            returning: the same without the decision
//
// What the CS decided is kept word for word in the client's entry, so that a new agent reads it
// from the table: the table is the only copy.  The switch itself uses nothing of it.
#ifndef SPLITPLANE_FLOWS_P4
#define SPLITPLANE_FLOWS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

control Flows(in headers_t headers, inout metadata_t meta) {
    @id(FLOW_FRAMES_ID)
    direct_counter(CounterType.packets_and_bytes) flow_frames;

    // new_*: equal to the key where nothing is translated.
    // shift_*: of the window, at most one of them above 0.
    // next_hop: 0 routes by `towards`, the resulting destination unless the mode says otherwise.
    @id(INBOUND_ID) @noWarn("unused")
    action inbound(@id(1) bit<32> index, @id(2) bit<32> cookie, @id(3) address_t new_src_addr,
                   @id(4) address_t new_dst_addr, @id(5) bit<16> new_src_port,
                   @id(6) bit<16> new_dst_port, @id(7) bit<16> address_delta,
                   @id(8) bit<16> port_delta, @id(9) bit<1> has_offsets, @id(10) bit<32> seq_add,
                   @id(11) bit<32> ack_add, @id(12) bit<32> ts_echo_add,
                   @id(13) bit<1> is_tunnel, @id(14) bit<32> next_hop,
                   @id(15) address_t towards,
                   // what the CS decided
                   @id(16) bit<32> serial, @id(17) bit<16> group_id, @id(18) bit<16> flags,
                   @id(19) bit<8> forward_mode, @id(20) bit<8> tos, @id(21) address_t node_ipaddr,
                   @id(22) bit<16> node_port, @id(23) address_t snat_ipaddr,
                   @id(24) bit<16> snat_port, @id(25) address_t next_hop_ipaddr,
                   @id(26) bit<32> seq_offset, @id(27) bit<32> ack_offset,
                   @id(28) bit<32> ts_offset, @id(29) bit<8> wscale_shift,
                   @id(30) bit<32> idle_timeout_s, @id(31) bit<64> opened_ms,
                   @id(32) bit<1> is_held) {
        flow_frames.count();
        meta.direction = DIRECTION_INBOUND;
        meta.flow.is_held = is_held;
        meta.flow.index = index;
        meta.flow.cookie = cookie;
        meta.flow.new_src_addr = new_src_addr;
        meta.flow.new_dst_addr = new_dst_addr;
        meta.flow.new_src_port = new_src_port;
        meta.flow.new_dst_port = new_dst_port;
        meta.address_delta = address_delta;
        meta.port_delta = port_delta;
        meta.next_hop = next_hop;
        meta.towards = towards;
        if (has_offsets == 1) {
            meta.has_offsets = 1;
            meta.flow.seq_add = seq_add;
            meta.flow.ack_add = ack_add;
            meta.flow.ts_value_add = 0;
            meta.flow.ts_echo_add = ts_echo_add;
            meta.flow.shift_left = 0;
            meta.flow.shift_right = 0;
        }
        if (is_tunnel == 1) {
            meta.room = headers.ipv4.isValid() ? 16w20 : 16w40;
            meta.flow.node = node_ipaddr;
        }
    }

    // from_inside: what comes in by an external port is not the node's.  is_held: see held.p4.
    @id(RETURNING_ID)
    action returning(@id(1) bit<32> index, @id(2) bit<32> cookie, @id(3) address_t new_src_addr,
                     @id(4) address_t new_dst_addr, @id(5) bit<16> new_src_port,
                     @id(6) bit<16> new_dst_port, @id(7) bit<16> address_delta,
                     @id(8) bit<16> port_delta, @id(9) bit<1> has_offsets, @id(10) bit<32> seq_add,
                     @id(11) bit<32> ack_add, @id(12) bit<32> ts_value_add,
                     @id(13) bit<8> shift_left, @id(14) bit<8> shift_right,
                     @id(15) bit<32> next_hop, @id(16) bit<1> from_inside,
                     @id(17) bit<1> is_held) {
        flow_frames.count();
        meta.direction = DIRECTION_RETURNING;
        meta.flow.is_outside = from_inside & ~meta.arrival.internal;
        meta.flow.is_held = is_held;
        meta.flow.index = index;
        meta.flow.cookie = cookie;
        meta.flow.new_src_addr = new_src_addr;
        meta.flow.new_dst_addr = new_dst_addr;
        meta.flow.new_src_port = new_src_port;
        meta.flow.new_dst_port = new_dst_port;
        meta.address_delta = address_delta;
        meta.port_delta = port_delta;
        meta.next_hop = next_hop;
        meta.towards = new_dst_addr;
        if (has_offsets == 1) {
            meta.has_offsets = 1;
            meta.flow.seq_add = seq_add;
            meta.flow.ack_add = ack_add;
            meta.flow.ts_value_add = ts_value_add;
            meta.flow.ts_echo_add = 0;
            meta.flow.shift_left = shift_left;
            meta.flow.shift_right = shift_right;
        }
    }

    @id(NO_FLOW_ID)
    action no_flow() {}

    @id(FLOWS_ID)
    table flows {
        key = {
            meta.key.src_addr : exact @id(1) @name("src_addr");
            meta.key.dst_addr : exact @id(2) @name("dst_addr");
            meta.key.src_port : exact @id(3) @name("src_port");
            meta.key.dst_port : exact @id(4) @name("dst_port");
            meta.key.protocol : exact @id(5) @name("protocol");
        }
        actions = {
            inbound;
            returning;
            @defaultonly no_flow;
        }
        const default_action = no_flow();
        counters = flow_frames;
        support_timeout = true;
        size = FLOW_ENTRIES;
    }

    apply {
        flows.apply();
    }
}

#endif
