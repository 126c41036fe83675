// SPDX-License-Identifier: Apache-2.0
// Checksums.  A flow's follow by difference (sums.p4), from what the egress left in `sum`; those of
// whole headers are for what the switch says itself, and for the one question that it answers without
// an agent.
#ifndef SPLITPLANE_CHECKSUMS_P4
#define SPLITPLANE_CHECKSUMS_P4

#include "headers.p4"
#include "metadata.p4"
#include "sums.p4"

control VerifyChecksums(inout headers_t headers, inout metadata_t meta) {
    apply {
        verify_checksum_with_payload(
            meta.is_solicitation == 1,
            { headers.ipv6.src_addr, headers.ipv6.dst_addr,
              16w0, headers.ipv6.payload_length, 24w0, PROTOCOL_ICMPV6,
              headers.icmp.kind, headers.icmp.code, headers.icmp.rest, headers.nd_target.target,
              headers.nd_options.options },
            headers.icmp.checksum, HashAlgorithm.csum16);
    }
}

control ComputeChecksums(inout headers_t headers, inout metadata_t meta) {
    apply {
        update_checksum(
            meta.sums.ipv4 == 1,
            { headers.old_sum.not_ipv4, meta.flow.address_delta, TTL_DELTA },
            headers.ipv4.checksum, HashAlgorithm.csum16);
        update_checksum(
            meta.sums.tcp == 1,
            { headers.old_sum.not_transport, meta.flow.address_delta, meta.flow.port_delta },
            headers.tcp.checksum, HashAlgorithm.csum16);
        update_checksum(
            meta.sums.shifted_tcp == 1,
            { headers.old_sum.not_transport, meta.flow.address_delta, meta.flow.port_delta,
              headers.sum.not_seq, headers.sum.seq, headers.sum.not_ack, headers.sum.ack,
              headers.sum.not_window, headers.sum.window, headers.sum.not_options,
              headers.sum.options },
            headers.tcp.checksum, HashAlgorithm.csum16);
        update_checksum(
            meta.sums.icmp_error == 1 && headers.ipv4.isValid(),
            { headers.old_sum.not_ipv4, TTL_DELTA, headers.sum.not_src_addr, headers.sum.not_dst_addr,
              headers.sum.src_addr, headers.sum.dst_addr },
            headers.ipv4.checksum, HashAlgorithm.csum16);
        update_checksum(
            meta.sums.icmp_error == 1 && headers.ipv4.isValid(),
            { headers.sum.not_quoted_ipv4, meta.flow.address_delta },
            headers.quoted_ipv4.checksum, HashAlgorithm.csum16);
        update_checksum(
            meta.sums.icmp_error == 1 && headers.ipv4.isValid(),
            { headers.sum.not_icmp, headers.sum.icmp_not_address, headers.sum.icmp_port,
              headers.sum.icmp_not_seq, headers.sum.icmp_seq },
            headers.icmp.checksum, HashAlgorithm.csum16);
        update_checksum(
            meta.sums.icmp_error == 1 && headers.ipv6.isValid(),
            { headers.sum.not_icmp, headers.sum.icmp_address, headers.sum.icmp_not_address,
              headers.sum.icmp_port, headers.sum.icmp_not_seq, headers.sum.icmp_seq,
              headers.sum.not_src_addr, headers.sum.not_dst_addr, headers.sum.src_addr,
              headers.sum.dst_addr },
            headers.icmp.checksum, HashAlgorithm.csum16);
        update_checksum(
            headers.outer_ipv4.isValid(),
            { headers.outer_ipv4.version, headers.outer_ipv4.ihl, headers.outer_ipv4.tos,
              headers.outer_ipv4.total_length, headers.outer_ipv4.identification,
              headers.outer_ipv4.flags, headers.outer_ipv4.fragment_offset,
              headers.outer_ipv4.ttl, headers.outer_ipv4.protocol, headers.outer_ipv4.src_addr,
              headers.outer_ipv4.dst_addr },
            headers.outer_ipv4.checksum, HashAlgorithm.csum16);
        update_checksum(
            headers.nd_link_address.isValid(),
            { headers.ipv6.src_addr, headers.ipv6.dst_addr,
              16w0, headers.ipv6.payload_length, 24w0, PROTOCOL_ICMPV6,
              headers.icmp.kind, headers.icmp.code, headers.icmp.rest, headers.nd_target.target,
              headers.nd_link_address.kind, headers.nd_link_address.length,
              headers.nd_link_address.mac },
            headers.icmp.checksum, HashAlgorithm.csum16);
    }
}

#endif
