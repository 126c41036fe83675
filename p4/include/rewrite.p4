// SPDX-License-Identifier: Apache-2.0
// What a flow's packet is turned into (wire protocol 9.4, 9.6).
#ifndef SPLITPLANE_REWRITE_P4
#define SPLITPLANE_REWRITE_P4

#include "headers.p4"
#include "metadata.p4"
#include "options.p4"
#include "sums.p4"

// TCP's numbers and options, and what they add to its checksum.
control Offsets(inout headers_t headers, inout metadata_t meta) {
    StoreOptions() store_options;

    @hidden action shift_seq() {
        meta.sum.not_seq = ~headers.tcp.seq;
        headers.tcp.seq = headers.tcp.seq + meta.flow.seq_add;
        meta.sum.seq = headers.tcp.seq;
    }

    @hidden action shift_ack() {
        meta.sum.not_ack = ~headers.tcp.ack;
        headers.tcp.ack = headers.tcp.ack + meta.flow.ack_add;
        meta.sum.ack = headers.tcp.ack;
    }

    // Saturates, and only a closed window becomes 0.
    @hidden action shift_window() {
        bit<32> window = (bit<32>)headers.tcp.window << meta.flow.shift_left
                         >> meta.flow.shift_right;
        meta.sum.not_window = ~headers.tcp.window;
        meta.sum.window = window > 0xffff ? 0xffff : (window == 0 ? 1 : window[15:0]);
        headers.tcp.window = meta.sum.window;
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
        if (meta.options.kept == 1) {
            store_options.apply(headers, meta);
        }
    }
}

control Rewrite(inout headers_t headers, inout metadata_t meta) {
    Offsets() offsets;

    @hidden action set_ipv4() {
        meta.sum.not_old = ~headers.ipv4.checksum;
        CHECKSUM(headers.ipv4.checksum, { meta.sum.not_old, meta.flow.address_delta, TTL_DELTA })
        headers.ipv4.src_addr = meta.flow.new_src_addr[31:0];
        headers.ipv4.dst_addr = meta.flow.new_dst_addr[31:0];
        headers.ipv4.ttl = headers.ipv4.ttl - 1;
    }

    @hidden action set_ipv6() {
        headers.ipv6.src_addr = meta.flow.new_src_addr;
        headers.ipv6.dst_addr = meta.flow.new_dst_addr;
        headers.ipv6.hop_limit = headers.ipv6.hop_limit - 1;
    }

    @hidden action set_tcp() {
        meta.sum.not_old = ~headers.tcp.checksum;
        CHECKSUM(headers.tcp.checksum,
                 { meta.sum.not_old, meta.flow.address_delta, meta.flow.port_delta })
        headers.tcp.src_port = meta.flow.new_src_port;
        headers.tcp.dst_port = meta.flow.new_dst_port;
    }

    @hidden action set_shifted_tcp() {
        meta.sum.not_old = ~headers.tcp.checksum;
        CHECKSUM(headers.tcp.checksum,
                 { meta.sum.not_old, meta.flow.address_delta, meta.flow.port_delta,
                   meta.sum.not_seq, meta.sum.seq, meta.sum.not_ack, meta.sum.ack,
                   meta.sum.not_window, meta.sum.window, meta.sum.not_options,
                   meta.sum.options })
        headers.tcp.src_port = meta.flow.new_src_port;
        headers.tcp.dst_port = meta.flow.new_dst_port;
    }

    @hidden action set_udp() {
        meta.sum.not_old = ~headers.udp.checksum;
        CHECKSUM(headers.udp.checksum,
                 { meta.sum.not_old, meta.flow.address_delta, meta.flow.port_delta })
        // 0 says that none was made (RFC 768), so none is made up, and none becomes it
        headers.udp.checksum = meta.sum.not_old == 0xffff ? 0
            : (headers.udp.checksum == 0 ? 0xffff : headers.udp.checksum);
        headers.udp.src_port = meta.flow.new_src_port;
        headers.udp.dst_port = meta.flow.new_dst_port;
    }

    apply {
        if (headers.ipv4.isValid()) {
            set_ipv4();
        } else {
            set_ipv6();
        }
        if (headers.tcp.isValid()) {
            if (meta.flow.has_offsets == 1) {
                offsets.apply(headers, meta);
                set_shifted_tcp();
            } else {
                set_tcp();
            }
        } else if (headers.udp.isValid()) {
            set_udp();
        }
    }
}

#endif
