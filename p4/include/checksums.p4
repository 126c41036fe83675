// SPDX-License-Identifier: Apache-2.0
// The checksum of the one question that the switch answers without an agent.
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
    }
}

// Those that change are made where their headers are: by difference (sums.p4) or, of what the switch
// says itself, as a whole.  v1model's own updates are asked about for every packet.
control ComputeChecksums(inout headers_t headers, inout metadata_t meta) {
    apply {}
}

#endif
