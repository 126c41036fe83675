// SPDX-License-Identifier: Apache-2.0
// The smallest L3 forwarding there is, to compare the program with (bench/p4.py).
//
//   ethernet ipv4 -> header checksum right? time to live? -> routes -> port, MAC addresses
//
// It knows no neighbours, no errors and no agent: what is not for it, or has no route, is dropped.
#include <core.p4>
#include <v1model.p4>

header ethernet_t {
    bit<48> dst_addr;
    bit<48> src_addr;
    bit<16> ether_type;
}

header ipv4_t {
    bit<4> version;
    bit<4> ihl;
    bit<8> tos;
    bit<16> total_length;
    bit<16> identification;
    bit<3> flags;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> src_addr;
    bit<32> dst_addr;
}

struct headers_t {
    ethernet_t ethernet;
    ipv4_t ipv4;
}

struct metadata_t {}

#define HEADER_FIELDS                                                                              \
    { headers.ipv4.version, headers.ipv4.ihl, headers.ipv4.tos, headers.ipv4.total_length,         \
      headers.ipv4.identification, headers.ipv4.flags, headers.ipv4.fragment_offset,               \
      headers.ipv4.ttl, headers.ipv4.protocol, headers.ipv4.src_addr, headers.ipv4.dst_addr }

parser FrameParser(packet_in packet, out headers_t headers, inout metadata_t meta,
                   inout standard_metadata_t standard) {
    state start {
        packet.extract(headers.ethernet);
        transition select(headers.ethernet.ether_type) {
            0x0800: parse_ipv4;
            default: accept;
        }
    }

    state parse_ipv4 {
        packet.extract(headers.ipv4);
        transition accept;
    }
}

control VerifyChecksums(inout headers_t headers, inout metadata_t meta) {
    apply {
        verify_checksum(headers.ipv4.isValid(), HEADER_FIELDS, headers.ipv4.checksum,
                        HashAlgorithm.csum16);
    }
}

control Forward(inout headers_t headers, inout metadata_t meta,
                inout standard_metadata_t standard) {
    action drop() {
        mark_to_drop(standard);
    }

    action forward(bit<9> port, bit<48> src_mac, bit<48> dst_mac) {
        standard.egress_spec = port;
        headers.ethernet.src_addr = src_mac;
        headers.ethernet.dst_addr = dst_mac;
        headers.ipv4.ttl = headers.ipv4.ttl - 1;
    }

    table routes {
        key = {
            headers.ipv4.dst_addr : lpm @name("address");
        }
        actions = {
            forward;
            drop;
        }
        const default_action = drop();
        size = 1024;
    }

    apply {
        if (headers.ipv4.isValid() && standard.checksum_error == 0 && headers.ipv4.ttl > 1) {
            routes.apply();
        } else {
            drop();
        }
    }
}

control Leave(inout headers_t headers, inout metadata_t meta,
              inout standard_metadata_t standard) {
    apply {}
}

control ComputeChecksums(inout headers_t headers, inout metadata_t meta) {
    apply {
        update_checksum(headers.ipv4.isValid(), HEADER_FIELDS, headers.ipv4.checksum,
                        HashAlgorithm.csum16);
    }
}

control FrameDeparser(packet_out packet, in headers_t headers) {
    apply {
        packet.emit(headers.ethernet);
        packet.emit(headers.ipv4);
    }
}

V1Switch(FrameParser(), VerifyChecksums(), Forward(), Leave(), ComputeChecksums(),
         FrameDeparser()) main;
