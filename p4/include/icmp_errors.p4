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

#define SUM_128(x)                                                                               \
    x = (x & 0xffffffffffffffff) + (x >> 64);                                                    \
    x = (x & 0xffffffff) + (x >> 32);                                                            \
    x = (x & 0xffffffff) + (x >> 32);                                                            \
    x = (x & 0xffff) + (x >> 16);                                                                \
    x = (x & 0xffff) + (x >> 16);                                                                \
    x = (x & 0xffff) + (x >> 16);

control SwapOffsets(inout metadata_t meta) {
    action swap() {
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
    bit<32> icmp_delta = 0;  // of the error's checksum
    bit<32> delta = 0;       // of the quoted transport checksum
    address_t src_addr = 0;  // of the error
    address_t dst_addr = 0;
    bit<128> change = 0;
    Offsets() offsets;
    StoreOptions() store_options;

    action set_quoted_ipv4() {
        bit<32> sum = (bit<32>)(~headers.quoted_ipv4.checksum) + (bit<32>)meta.flow.address_delta;
        FOLD(sum)
        headers.quoted_ipv4.checksum = ~sum[15:0];
        headers.quoted_ipv4.src_addr = meta.flow.new_dst_addr[31:0];
        headers.quoted_ipv4.dst_addr = meta.flow.new_src_addr[31:0];
        src_addr = IPV4_PREFIX ++ headers.ipv4.src_addr;
        dst_addr = IPV4_PREFIX ++ headers.ipv4.dst_addr;
    }

    action set_quoted_ipv6() {
        headers.quoted_ipv6.src_addr = meta.flow.new_dst_addr;
        headers.quoted_ipv6.dst_addr = meta.flow.new_src_addr;
        icmp_delta = icmp_delta + (bit<32>)meta.flow.address_delta;
        src_addr = headers.ipv6.src_addr;
        dst_addr = headers.ipv6.dst_addr;
    }

    action begin() {
        delta = (bit<32>)meta.flow.address_delta + (bit<32>)meta.flow.port_delta;
    }

    action add_option_delta() {
        delta = delta + (bit<32>)meta.options.delta;
    }

    action set_quoted_tcp() {
        bit<32> sum;
        FOLD(delta)
        sum = (bit<32>)(~headers.tcp.checksum) + delta;
        FOLD(sum)
        headers.tcp.checksum = ~sum[15:0];
        headers.tcp.src_port = meta.flow.new_dst_port;
        headers.tcp.dst_port = meta.flow.new_src_port;
        icmp_delta = icmp_delta + (bit<32>)(~meta.flow.address_delta);
    }

    // its checksum was not quoted
    action set_quoted_tcp_beginning() {
        bit<32> add = meta.flow.has_offsets == 1 ? meta.flow.seq_add : 0;
        icmp_delta = icmp_delta + (bit<32>)meta.flow.port_delta
                     + (bit<32>)(~headers.tcp_beginning.seq[31:16])
                     + (bit<32>)(~headers.tcp_beginning.seq[15:0]);
        headers.tcp_beginning.seq = headers.tcp_beginning.seq + add;
        icmp_delta = icmp_delta + (bit<32>)headers.tcp_beginning.seq[31:16]
                     + (bit<32>)headers.tcp_beginning.seq[15:0];
        headers.tcp_beginning.src_port = meta.flow.new_dst_port;
        headers.tcp_beginning.dst_port = meta.flow.new_src_port;
    }

    action set_quoted_udp() {
        bit<32> sum = (bit<32>)(~headers.udp.checksum) + delta;
        FOLD(sum)
        sum = sum == 0xffff ? 0 : sum;
        icmp_delta = icmp_delta + (headers.udp.checksum == 0
            ? (bit<32>)meta.flow.port_delta : (bit<32>)(~meta.flow.address_delta));
        headers.udp.checksum = headers.udp.checksum == 0 ? 0 : ~sum[15:0];
        headers.udp.src_port = meta.flow.new_dst_port;
        headers.udp.dst_port = meta.flow.new_src_port;
    }

    // A client hears errors from the virtual server, whoever behind us made them; a router on the
    // client's side keeps its own address.
    action set_addresses() {
        address_t new_src = meta.flow.new_src_addr == meta.key.src_addr
                            || (meta.flow.is_return == 0 && src_addr != meta.key.src_addr)
            ? src_addr : meta.flow.new_src_addr;
        address_t new_dst = meta.flow.new_dst_addr == meta.key.dst_addr
            ? dst_addr : meta.flow.new_dst_addr;
        bit<128> sum = ~src_addr;
        SUM_128(sum)
        change = sum;
        sum = ~dst_addr;
        SUM_128(sum)
        change = change + sum;
        sum = new_src;
        SUM_128(sum)
        change = change + sum;
        sum = new_dst;
        SUM_128(sum)
        change = change + sum;
        src_addr = new_src;
        dst_addr = new_dst;
    }

    action set_ipv4() {
        bit<32> sum = (bit<32>)(~headers.ipv4.checksum) + change[31:0];
        FOLD(sum)
        headers.ipv4.checksum = ~sum[15:0];
        headers.ipv4.src_addr = src_addr[31:0];
        headers.ipv4.dst_addr = dst_addr[31:0];
    }

    action set_ipv6() {
        icmp_delta = icmp_delta + change[31:0];
        headers.ipv6.src_addr = src_addr;
        headers.ipv6.dst_addr = dst_addr;
    }

    action set_icmp() {
        bit<32> sum = (bit<32>)(~headers.icmp.checksum) + icmp_delta;
        FOLD(sum)
        headers.icmp.checksum = ~sum[15:0];
    }

    apply {
        if (headers.ipv4.isValid()) {
            set_quoted_ipv4();
        } else {
            set_quoted_ipv6();
        }
        begin();
        if (headers.tcp_beginning.isValid()) {
            set_quoted_tcp_beginning();
        } else if (headers.udp.isValid()) {
            set_quoted_udp();
        } else {
            if (meta.flow.has_offsets == 1) {
                offsets.apply(headers, meta, delta);
                if (meta.options.kept == 1) {
                    store_options.apply(headers, meta);
                    add_option_delta();
                }
            }
            set_quoted_tcp();
        }
        set_addresses();
        if (headers.ipv4.isValid()) {
            set_ipv4();
        } else {
            set_ipv6();
        }
        set_icmp();
    }
}

#endif
