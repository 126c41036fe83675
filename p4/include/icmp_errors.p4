// SPDX-License-Identifier: Apache-2.0
// ICMP errors about a flow's packets (RFC 5508 4.2): the error goes the way of the packets that
// answer the quoted one, whose entry was found, and the quoted packet is undone by that entry read
// backwards: its source is what the entry makes a destination, and the other way round.
//
// An IP header sums to the same before and after, its checksum included; a transport header with
// its checksum changes by the pseudo header's addresses only.  So the error's own checksum follows
// from few differences.
#ifndef SPLITPLANE_ICMP_ERRORS_P4
#define SPLITPLANE_ICMP_ERRORS_P4

#include "headers.p4"
#include "metadata.p4"
#include "rewrite.p4"

control SwapOffsets(inout metadata_t meta) {
    @hidden action swap() {
        bit<32> kept = meta.flow.seq_add;
        meta.flow.seq_add = meta.flow.ack_add;
        meta.flow.ack_add = kept;
        kept = meta.flow.ts_value_add;
        meta.flow.ts_value_add = meta.flow.ts_echo_add;
        meta.flow.ts_echo_add = kept;
    }

    apply {
        swap();
    }
}

control TranslateError(inout headers_t headers, inout metadata_t meta) {
    address_t src_addr = 0; // of the error
    address_t dst_addr = 0;
    Offsets() offsets;

    @hidden action begin() {
        headers.sum.setValid(); // which makes what is not set yet 0
        headers.sum.not_icmp = ~headers.icmp.checksum;
    }

    @hidden action set_quoted_ipv4() {
        headers.sum.not_quoted_ipv4 = ~headers.quoted_ipv4.checksum;
        headers.quoted_ipv4.src_addr = meta.flow.new_dst_addr[31:0];
        headers.quoted_ipv4.dst_addr = meta.flow.new_src_addr[31:0];
        src_addr = IPV4_PREFIX ++ headers.ipv4.src_addr;
        dst_addr = IPV4_PREFIX ++ headers.ipv4.dst_addr;
    }

    @hidden action set_quoted_ipv6() {
        headers.quoted_ipv6.src_addr = meta.flow.new_dst_addr;
        headers.quoted_ipv6.dst_addr = meta.flow.new_src_addr;
        headers.sum.icmp_address = meta.address_delta;
        src_addr = headers.ipv6.src_addr;
        dst_addr = headers.ipv6.dst_addr;
    }

    @hidden action set_quoted_tcp() {
        headers.tcp.src_port = meta.flow.new_dst_port;
        headers.tcp.dst_port = meta.flow.new_src_port;
        headers.sum.icmp_not_address = ~meta.address_delta;
        headers.tcp.checksum = ~headers.tcp.checksum;
    }

    @hidden action sum_quoted_tcp() { // what is not shifted is 0
        SHIFTED_TCP_CHECKSUM
    }

    @hidden action set_quoted_tcp_beginning() { // its checksum was not quoted
        headers.sum.icmp_not_seq = ~headers.tcp_beginning.seq;
        headers.tcp_beginning.seq = headers.tcp_beginning.seq
                                    + (meta.has_offsets == 1 ? meta.flow.seq_add : 0);
        headers.sum.icmp_seq = headers.tcp_beginning.seq;
        headers.tcp_beginning.src_port = meta.flow.new_dst_port;
        headers.tcp_beginning.dst_port = meta.flow.new_src_port;
        headers.sum.icmp_port = meta.port_delta;
    }

    @hidden action set_quoted_tcp_part() {
        headers.tcp_part.src_port = meta.flow.new_dst_port;
        headers.tcp_part.dst_port = meta.flow.new_src_port;
        headers.sum.icmp_not_address = ~meta.address_delta;
        headers.tcp_part.checksum = ~headers.tcp_part.checksum;
    }

    @hidden action shift_quoted_seq() {
        headers.sum.not_seq = ~headers.tcp_part.seq;
        headers.tcp_part.seq = headers.tcp_part.seq + meta.flow.seq_add;
        headers.sum.seq = headers.tcp_part.seq;
    }

    @hidden action sum_quoted_tcp_part() {
        CHECKSUM(headers.tcp_part.checksum,
                 { headers.tcp_part.checksum, meta.address_delta, meta.port_delta,
                   headers.sum.not_seq, headers.sum.seq })
    }

    @hidden action set_quoted_udp() {
        bit<16> sum;
        headers.udp.checksum = ~headers.udp.checksum;
        CHECKSUM(sum, { headers.udp.checksum, meta.address_delta, meta.port_delta })
        headers.udp.checksum = sum == 0 ? 0xffff : sum;
        headers.udp.src_port = meta.flow.new_dst_port;
        headers.udp.dst_port = meta.flow.new_src_port;
        headers.sum.icmp_not_address = ~meta.address_delta;
    }

    @hidden action set_quoted_udp_without_checksum() {
        headers.udp.src_port = meta.flow.new_dst_port;
        headers.udp.dst_port = meta.flow.new_src_port;
        headers.sum.icmp_port = meta.port_delta;
    }

    // A client hears errors from the virtual server, whoever behind us made them; a router on the
    // client's side keeps its own address.
    @hidden action set_addresses() {
        headers.sum.not_src_addr = ~src_addr;
        headers.sum.not_dst_addr = ~dst_addr;
        headers.sum.src_addr = meta.flow.new_src_addr == meta.key.src_addr
                               || (meta.direction == DIRECTION_INBOUND && src_addr != meta.key.src_addr)
            ? src_addr : meta.flow.new_src_addr;
        headers.sum.dst_addr = meta.flow.new_dst_addr == meta.key.dst_addr
            ? dst_addr : meta.flow.new_dst_addr;
    }

    @hidden action set_ipv4() {
        headers.ipv4.src_addr = headers.sum.src_addr[31:0];
        headers.ipv4.dst_addr = headers.sum.dst_addr[31:0];
        headers.ipv4.ttl = headers.ipv4.ttl - 1;
        headers.ipv4.checksum = ~headers.ipv4.checksum;
        CHECKSUM(headers.ipv4.checksum,
                 { headers.ipv4.checksum, TTL_DELTA, headers.sum.not_src_addr,
                   headers.sum.not_dst_addr, headers.sum.src_addr, headers.sum.dst_addr })
        CHECKSUM(headers.quoted_ipv4.checksum, { headers.sum.not_quoted_ipv4, meta.address_delta })
        CHECKSUM(headers.icmp.checksum,
                 { headers.sum.not_icmp, headers.sum.icmp_not_address, headers.sum.icmp_port,
                   headers.sum.icmp_not_seq, headers.sum.icmp_seq })
    }

    @hidden action set_ipv6() {
        headers.ipv6.src_addr = headers.sum.src_addr;
        headers.ipv6.dst_addr = headers.sum.dst_addr;
        headers.ipv6.hop_limit = headers.ipv6.hop_limit - 1;
        CHECKSUM(headers.icmp.checksum,
                 { headers.sum.not_icmp, headers.sum.icmp_address, headers.sum.icmp_not_address,
                   headers.sum.icmp_port, headers.sum.icmp_not_seq, headers.sum.icmp_seq,
                   headers.sum.not_src_addr, headers.sum.not_dst_addr, headers.sum.src_addr,
                   headers.sum.dst_addr })
    }

    apply {
        begin();
        if (headers.ipv4.isValid()) {
            set_quoted_ipv4();
        } else {
            set_quoted_ipv6();
        }
        if (headers.tcp_beginning.isValid()) {
            set_quoted_tcp_beginning();
        } else if (headers.tcp_part.isValid()) {
            set_quoted_tcp_part();
            if (meta.has_offsets == 1) {
                shift_quoted_seq(); // as on the other targets the rest needs the whole header
            }
            sum_quoted_tcp_part();
        } else if (headers.udp.isValid()) {
            if (headers.udp.checksum == 0) {
                set_quoted_udp_without_checksum();
            } else {
                set_quoted_udp();
            }
        } else {
            set_quoted_tcp();
            if (meta.has_offsets == 1) {
                offsets.apply(headers, meta);
            }
            sum_quoted_tcp();
        }
        set_addresses();
        if (headers.ipv4.isValid()) {
            set_ipv4();
        } else {
            set_ipv6();
        }
    }
}

#endif
