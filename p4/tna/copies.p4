// SPDX-License-Identifier: Apache-2.0
// The egress: only copies for the agent come here, everything else went by it.
//
//   copy_t | copy_resolve_t, packet_out?, frame -> packet_in, resolve?, frame as it arrived
#ifndef SPLITPLANE_TNA_COPIES_P4
#define SPLITPLANE_TNA_COPIES_P4

#include "headers.p4"
#include "up_calls.p4"

struct copies_t {
    copy_t copy;
    copy_resolve_t copy_resolve;
    packet_in_t packet_in;
    resolve_t resolve;
}

struct no_metadata_t {}

parser CopyParser(packet_in packet, out copies_t headers, out no_metadata_t meta,
                  out egress_intrinsic_metadata_t intrinsic) {
    state start {
        packet.extract(intrinsic);
        transition select(packet.lookahead<bit<8>>()) {
            COPY_ARRIVED: parse_copy;
            COPY_ARRIVED_RESOLVE: parse_resolve;
            COPY_INJECTED: parse_copy_injected;
            COPY_INJECTED_RESOLVE: parse_resolve_injected;
            default: accept;
        }
    }

    state parse_copy {
        packet.extract(headers.copy);
        transition accept;
    }

    state parse_resolve {
        packet.extract(headers.copy_resolve);
        transition accept;
    }

    state parse_copy_injected {
        packet.extract(headers.copy);
        packet.advance(64); // the packet_out
        transition accept;
    }

    state parse_resolve_injected {
        packet.extract(headers.copy_resolve);
        packet.advance(64);
        transition accept;
    }
}

control TellAgent(inout copies_t headers, inout no_metadata_t meta,
                  in egress_intrinsic_metadata_t intrinsic,
                  in egress_intrinsic_metadata_from_parser_t parsing,
                  inout egress_intrinsic_metadata_for_deparser_t deparsing,
                  inout egress_intrinsic_metadata_for_output_port_t output) {
    @hidden action describe() {
        headers.packet_in.setValid();
        headers.packet_in.reason = headers.copy.reason;
        headers.packet_in.protocol = headers.copy.protocol;
        headers.packet_in.port = headers.copy.port;
        headers.packet_in.src_port = headers.copy.ports[31:16];
        headers.packet_in.dst_port = headers.copy.ports[15:0];
        headers.packet_in.server = headers.copy.server;
        headers.packet_in.value = headers.copy.value;
        headers.copy.setInvalid();
    }

    @hidden action ask_for_address() {
        headers.packet_in.setValid();
        headers.packet_in.reason = headers.copy_resolve.reason;
        headers.packet_in.protocol = 0;
        headers.packet_in.port = headers.copy_resolve.port;
        headers.packet_in.src_port = 0;
        headers.packet_in.dst_port = 0;
        headers.packet_in.server = 0;
        headers.packet_in.value = 16w0 ++ headers.copy_resolve.out_port;
        headers.resolve.setValid();
        headers.resolve.address = headers.copy_resolve.address;
        headers.resolve.port = headers.copy_resolve.out_port;
        headers.copy_resolve.setInvalid();
    }

    LimitCopies() limit_copies;

    apply {
        if (headers.copy.isValid()) {
            limit_copies.apply(headers.copy.reason, deparsing);
            describe();
        } else if (headers.copy_resolve.isValid()) {
            ask_for_address();
        }
    }
}

control CopyDeparser(packet_out packet, inout copies_t headers, in no_metadata_t meta,
                     in egress_intrinsic_metadata_for_deparser_t deparsing) {
    apply {
        packet.emit(headers.packet_in);
        packet.emit(headers.resolve);
    }
}

#endif
