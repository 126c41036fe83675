// SPDX-License-Identifier: Apache-2.0
// Which virtual server a packet without a flow is for: ../include/virtual_servers.p4.
//
//   (address, port, local?, protocol) -> virtual_servers -> number, bridged
#ifndef SPLITPLANE_TNA_VIRTUAL_SERVERS_P4
#define SPLITPLANE_TNA_VIRTUAL_SERVERS_P4

#include "../include/ids.p4"
#include "headers.p4"
#include "metadata.p4"

control VirtualServers(inout metadata_t meta) {
    bit<1> is_bridged = 0;

    // group_id and answer_arp are for the agent that reads them back
    @id(SET_SERVER_ID) @noWarn("unused")
    action set_server(@id(1) bit<32> server, @id(2) bit<1> bridged, @id(3) bit<16> group_id,
                      @id(4) bit<1> answer_arp) {
        meta.server = server;
        meta.reason = REASON_NEW_FLOW;
        is_bridged = bridged;
    }

    @id(NO_SERVER_ID)
    action no_server() {}

    @id(VIRTUAL_SERVERS_ID)
    table virtual_servers {
        key = {
            meta.wanted : ternary @id(1) @name("address");
            meta.ports[15:0] : ternary @id(2) @name("port");
            meta.ip.protocol : exact @id(3) @name("protocol");
            meta.is_local : ternary @id(4) @name("is_local");
        }
        actions = {
            set_server;
            @defaultonly no_server;
        }
        const default_action = no_server();
        size = TNA_VIRTUAL_SERVERS;
    }

    @hidden action bridge() {
        meta.reason = REASON_BRIDGED;
    }

    @hidden action ask_outbound() {
        meta.reason = REASON_OUTBOUND;
    }

    apply {
        if (meta.arrival.external == 1) {
            virtual_servers.apply();
        }
        if (is_bridged == 1) {
            bridge();
        } else if (meta.reason == 0 && meta.arrival.internal == 1
                   && meta.arrival.outbound_query == 1 && meta.is_local == 0) {
            ask_outbound();
        }
    }
}

#endif
