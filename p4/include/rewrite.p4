// SPDX-License-Identifier: Apache-2.0
// What a flow's packet is turned into (wire protocol 9.4, 9.6).
//
// Checksums follow by the difference (RFC 1624): a right one stays right and a wrong one wrong.  The
// key determines the old addresses and ports, so their difference is a constant of the entry.
#ifndef SPLITPLANE_REWRITE_P4
#define SPLITPLANE_REWRITE_P4

#include "headers.p4"
#include "metadata.p4"
#include "options.p4"

#define FOLD(sum)                                                                                \
    sum = (sum & 0xffff) + (sum >> 16);                                                          \
    sum = (sum & 0xffff) + (sum >> 16);

// of (ttl, protocol) when ttl goes down by one
const bit<32> TTL_DELTA = 0xfeff;

// TCP's numbers; `delta` is the change of its checksum.
control Offsets(inout headers_t headers, in metadata_t meta, inout bit<32> delta) {
    action shift_seq() {
        delta = delta + (bit<32>)(~headers.tcp.seq[31:16]) + (bit<32>)(~headers.tcp.seq[15:0]);
        headers.tcp.seq = headers.tcp.seq + meta.flow.seq_add;
        delta = delta + (bit<32>)headers.tcp.seq[31:16] + (bit<32>)headers.tcp.seq[15:0];
    }

    action shift_ack() {
        delta = delta + (bit<32>)(~headers.tcp.ack[31:16]) + (bit<32>)(~headers.tcp.ack[15:0]);
        headers.tcp.ack = headers.tcp.ack + meta.flow.ack_add;
        delta = delta + (bit<32>)headers.tcp.ack[31:16] + (bit<32>)headers.tcp.ack[15:0];
    }

    // Saturates, and only a closed window becomes 0.
    action shift_window() {
        bit<32> window = (bit<32>)headers.tcp.window << meta.flow.shift_left
                         >> meta.flow.shift_right;
        window = window > 0xffff ? 0xffff : window;
        window = window == 0 ? 1 : window;
        delta = delta + (bit<32>)(~headers.tcp.window) + window;
        headers.tcp.window = window[15:0];
    }

    apply {
        shift_seq();
        if (headers.tcp.flags & TCP_ACK != 0) { // without it the field means nothing
            shift_ack();
        }
        if (meta.ip.quoted == 0 && headers.tcp.window != 0 && headers.tcp.flags & TCP_SYN == 0
            && (meta.flow.shift_left != 0 || meta.flow.shift_right != 0)) {
            shift_window(); // a SYN's is never scaled (RFC 7323 2.2)
        }
    }
}

control Rewrite(inout headers_t headers, inout metadata_t meta) {
    bit<32> delta = 0;
    Offsets() offsets;
    StoreOptions() store_options;

    action set_ipv4_addresses() {
        bit<32> sum = (bit<32>)(~headers.ipv4.checksum) + (bit<32>)meta.flow.address_delta;
        FOLD(sum)
        headers.ipv4.checksum = ~sum[15:0];
        headers.ipv4.src_addr = meta.flow.new_src_addr[31:0];
        headers.ipv4.dst_addr = meta.flow.new_dst_addr[31:0];
    }

    action set_ipv6_addresses() {
        headers.ipv6.src_addr = meta.flow.new_src_addr;
        headers.ipv6.dst_addr = meta.flow.new_dst_addr;
    }

    action begin() {
        delta = (bit<32>)meta.flow.address_delta + (bit<32>)meta.flow.port_delta;
    }

    action add_option_delta() {
        delta = delta + (bit<32>)meta.options.delta;
    }

    action set_tcp() {
        bit<32> sum;
        FOLD(delta)
        sum = (bit<32>)(~headers.tcp.checksum) + delta;
        FOLD(sum)
        headers.tcp.checksum = ~sum[15:0];
        headers.tcp.src_port = meta.flow.new_src_port;
        headers.tcp.dst_port = meta.flow.new_dst_port;
    }

    action set_udp() {
        bit<32> sum = (bit<32>)(~headers.udp.checksum) + delta;
        FOLD(sum)
        sum = sum == 0xffff ? 0 : sum; // which becomes 0xffff: 0 says that none was made
        headers.udp.checksum = headers.udp.checksum == 0 ? 0 : ~sum[15:0];
        headers.udp.src_port = meta.flow.new_src_port;
        headers.udp.dst_port = meta.flow.new_dst_port;
    }

    apply {
        if (headers.ipv4.isValid()) {
            set_ipv4_addresses();
        } else {
            set_ipv6_addresses();
        }
        begin();
        if (headers.tcp.isValid()) {
            if (meta.flow.has_offsets == 1) {
                offsets.apply(headers, meta, delta);
                if (meta.options.kept == 1) {
                    store_options.apply(headers, meta);
                    add_option_delta();
                }
            }
            set_tcp();
        } else if (headers.udp.isValid()) {
            set_udp();
        }
    }
}

#endif
