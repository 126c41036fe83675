// SPDX-License-Identifier: Apache-2.0
// What a flow's packet is turned into (wire protocol 9.4, 9.6).
#ifndef SPLITPLANE_REWRITE_P4
#define SPLITPLANE_REWRITE_P4

#include "headers.p4"
#include "metadata.p4"
#include "options.p4"
#include "sums.p4"

#define SHIFTED_TCP_CHECKSUM                                                                       \
    CHECKSUM(headers.tcp.checksum,                                                                 \
             { headers.tcp.checksum, meta.address_delta, meta.port_delta, headers.sum.not_seq,     \
               headers.sum.seq, headers.sum.not_ack, headers.sum.ack, headers.sum.not_window,      \
               headers.sum.window, headers.sum.not_options, headers.sum.options })

// TCP's numbers and options, and what they add to its checksum.
control Offsets(inout headers_t headers, inout metadata_t meta) {
    StoreOptions() store_options;

    @hidden action begin() {
        headers.sum.setValid(); // which makes what is not set yet 0
    }

    @hidden action shift_seq() {
        headers.sum.not_seq = ~headers.tcp.seq;
        headers.tcp.seq = headers.tcp.seq + meta.flow.seq_add;
        headers.sum.seq = headers.tcp.seq;
    }

    @hidden action shift_ack() {
        headers.sum.not_ack = ~headers.tcp.ack;
        headers.tcp.ack = headers.tcp.ack + meta.flow.ack_add;
        headers.sum.ack = headers.tcp.ack;
    }

    // Saturates, and only a closed window becomes 0.
    @hidden action shift_window() {
        bit<32> window = (bit<32>)headers.tcp.window << meta.flow.shift_left
                         >> meta.flow.shift_right;
        headers.sum.not_window = ~headers.tcp.window;
        headers.sum.window = window > 0xffff ? 0xffff : (window == 0 ? 1 : window[15:0]);
        headers.tcp.window = headers.sum.window;
    }

    apply {
        begin();
        shift_seq();
        if (headers.tcp.flags & TCP_ACK != 0) { // without it the field means nothing
            shift_ack();
        }
        if (meta.kind < KIND_QUOTED && headers.tcp.window != 0 && headers.tcp.flags & TCP_SYN == 0
            && (meta.flow.shift_left != 0 || meta.flow.shift_right != 0)) {
            shift_window(); // a SYN's is never scaled (RFC 7323 2.2)
        }
        if (headers.options.isValid()) {
            store_options.apply(headers, meta);
        }
    }
}

// The checksums are complemented in place before they are summed.
control Rewrite(inout headers_t headers, inout metadata_t meta) {
    Offsets() offsets;

    @hidden action set_ipv4() {
        headers.ipv4.src_addr = meta.flow.new_src_addr[31:0];
        headers.ipv4.dst_addr = meta.flow.new_dst_addr[31:0];
        headers.ipv4.ttl = headers.ipv4.ttl - 1;
        headers.ipv4.checksum = ~headers.ipv4.checksum;
        CHECKSUM(headers.ipv4.checksum, { headers.ipv4.checksum, meta.address_delta, TTL_DELTA })
    }

    @hidden action set_ipv6() {
        headers.ipv6.src_addr = meta.flow.new_src_addr;
        headers.ipv6.dst_addr = meta.flow.new_dst_addr;
        headers.ipv6.hop_limit = headers.ipv6.hop_limit - 1;
    }

    @hidden action set_tcp() {
        headers.tcp.src_port = meta.flow.new_src_port;
        headers.tcp.dst_port = meta.flow.new_dst_port;
        headers.tcp.checksum = ~headers.tcp.checksum;
    }

    @hidden action sum_tcp() {
        CHECKSUM(headers.tcp.checksum,
                 { headers.tcp.checksum, meta.address_delta, meta.port_delta })
    }

    @hidden action sum_shifted_tcp() {
        SHIFTED_TCP_CHECKSUM
    }

    @hidden action set_udp() {
        headers.udp.src_port = meta.flow.new_src_port;
        headers.udp.dst_port = meta.flow.new_dst_port;
    }

    @hidden action sum_udp() {
        bit<16> sum;
        headers.udp.checksum = ~headers.udp.checksum;
        CHECKSUM(sum, { headers.udp.checksum, meta.address_delta, meta.port_delta })
        headers.udp.checksum = sum == 0 ? 0xffff : sum; // 0 says that none was made (RFC 768)
    }

    apply {
        if (headers.ipv4.isValid()) {
            set_ipv4();
        } else {
            set_ipv6();
        }
        if (headers.tcp.isValid()) {
            set_tcp();
            if (meta.has_offsets == 1) {
                offsets.apply(headers, meta);
                sum_shifted_tcp();
            } else {
                sum_tcp();
            }
        } else if (headers.udp.isValid()) {
            set_udp();
            if (headers.udp.checksum != 0) { // none was made, so none is made up
                sum_udp();
            }
        }
    }
}

#endif
