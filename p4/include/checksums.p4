// SPDX-License-Identifier: Apache-2.0
// The checksums that the switch looks at itself: of the one question that it answers without an agent,
// and of what may end a connection.  A checksum takes nothing from an invalid header, so one sum does
// for IPv4 and IPv6.
#ifndef SPLITPLANE_CHECKSUMS_P4
#define SPLITPLANE_CHECKSUMS_P4

#include "headers.p4"
#include "metadata.p4"

control VerifyChecksums(inout headers_t headers, inout metadata_t meta) {
    apply {
        verify_checksum_with_payload(
            meta.kind == KIND_SOLICITATION,
            { headers.ipv6.src_addr, headers.ipv6.dst_addr,
              16w0, headers.ipv6.payload_length, 24w0, PROTOCOL_ICMPV6,
              headers.icmp.kind, headers.icmp.code, headers.icmp.rest, headers.nd_target.target,
              headers.nd_options.options },
            headers.icmp.checksum, HashAlgorithm.csum16);
        verify_checksum(
            meta.kind == KIND_TCP && headers.tcp.flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0
                && headers.ipv4.isValid(),
            { headers.ipv4.version, headers.ipv4.ihl, headers.ipv4.tos, headers.ipv4.total_length,
              headers.ipv4.identification, headers.ipv4.flags, headers.ipv4.fragment_offset,
              headers.ipv4.ttl, headers.ipv4.protocol, headers.ipv4.src_addr,
              headers.ipv4.dst_addr, headers.ipv4_options.options },
            headers.ipv4.checksum, HashAlgorithm.csum16);
        verify_checksum_with_payload(
            meta.kind == KIND_TCP && headers.tcp.flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0,
            { headers.ipv4.src_addr, headers.ipv4.dst_addr, headers.ipv6.src_addr,
              headers.ipv6.dst_addr, 8w0, PROTOCOL_TCP, meta.ip.payload,
              headers.tcp.src_port, headers.tcp.dst_port, headers.tcp.seq, headers.tcp.ack,
              headers.tcp.data_offset, headers.tcp.reserved, headers.tcp.flags,
              headers.tcp.window, headers.tcp.urgent, headers.tcp_options_8.data,
              headers.tcp_options_4.data, headers.tcp_options_2.data,
              headers.tcp_options_1.data },
            headers.tcp.checksum, HashAlgorithm.csum16);
    }
}

// Those that change are made where their headers are: by difference (sums.p4) or, of what the switch
// says itself, as a whole.  v1model's own updates are asked about for every packet.
control ComputeChecksums(inout headers_t headers, inout metadata_t meta) {
    apply {}
}

#endif
