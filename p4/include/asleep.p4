// SPDX-License-Identifier: Apache-2.0
// Flows that were taken out although their connection may go on: their node may speak first, and its
// packet must not leave with the node's own address.
//
//   (addresses, ports, protocol of the node's packets) -> asleep -> agent; an ICMP error about one: drop
//
// The client's key is in an entry for the agent that reads it back.
#ifndef SPLITPLANE_ASLEEP_P4
#define SPLITPLANE_ASLEEP_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"
#include "track.p4"

#define IS_QUOTED(meta) (meta.kind == KIND_QUOTED || meta.kind == KIND_QUOTED_PART)

control Asleep(in headers_t headers, inout metadata_t meta) {
    @id(SET_ASLEEP_ID) @noWarn("unused")
    action set_asleep(@id(1) address_t src_addr, @id(2) address_t dst_addr,
                      @id(3) bit<16> src_port, @id(4) bit<16> dst_port) {
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = COUNTER_UP_CALLS;
        meta.up.reason = REASON_ASLEEP;
    }

    @hidden action keep_here() {
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_DROP_ASLEEP;
    }

    @id(NOT_ASLEEP_ID)
    action not_asleep() {}

    @id(ASLEEP_ID)
    table asleep {
        key = {
            meta.key.src_addr : exact @id(1) @name("src_addr");
            meta.key.dst_addr : exact @id(2) @name("dst_addr");
            meta.key.src_port : exact @id(3) @name("src_port");
            meta.key.dst_port : exact @id(4) @name("dst_port");
            meta.key.protocol : exact @id(5) @name("protocol");
        }
        actions = {
            set_asleep;
            @defaultonly not_asleep;
        }
        const default_action = not_asleep();
        size = ASLEEP;
    }

    apply {
        if (meta.arrival.internal == 1 && !headers.packet_out.isValid()
            && (IS_QUOTED(meta)
                || (meta.kind < KIND_QUOTED && headers.tcp.isValid() && !IS_SYN(headers)))) {
            asleep.apply();
            if (meta.verdict != VERDICT_OPEN && IS_QUOTED(meta)) {
                keep_here(); // it has the node's address, and nobody knows the translation
            }
        }
    }
}

#endif
