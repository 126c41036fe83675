// SPDX-License-Identifier: Apache-2.0
// Which virtual server a packet without a flow is for: ../include/virtual_servers.p4.
//
//   (address, port, local?, protocol) -> virtual_servers -> number, bridged; see Decide
#ifndef SPLITPLANE_TNA_VIRTUAL_SERVERS_P4
#define SPLITPLANE_TNA_VIRTUAL_SERVERS_P4

#include "../include/ids.p4"
#include "headers.p4"
#include "metadata.p4"

control VirtualServers(inout metadata_t meta) {
    // group_id and answer_arp are for the agent that reads them back; proxied is not ported yet
    @id(SET_SERVER_ID) @noWarn("unused")
    action set_server(@id(1) bit<32> server, @id(2) bit<1> bridged, @id(3) bit<16> group_id,
                      @id(4) bit<1> answer_arp, @id(5) bit<1> proxied) {
        meta.server = server;
        meta.has_server = 1;
        meta.is_bridged = bridged;
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

    apply {
        if (meta.arrival.external == 1) {
            virtual_servers.apply();
        }
    }
}

#endif
