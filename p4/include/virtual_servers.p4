// SPDX-License-Identifier: Apache-2.0
// Packets without a flow: a virtual server's, the internal side's own, or none of ours.
//
//   external side: (address, port, protocol, local?) -> virtual_servers -> agent
//   internal side: OUTBOUND_QUERY?                                      -> agent
//   else                                                                -> routed
//
// Priorities in virtual_servers are the wire protocol's order (8.3): 4 exact, 3 any port, 2 any
// address, 1 any of both; entries with any address match only what is not local.
#ifndef SPLITPLANE_VIRTUAL_SERVERS_P4
#define SPLITPLANE_VIRTUAL_SERVERS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

control VirtualServers(inout metadata_t meta) {
    // group_id and answer_arp are for the agent that reads them back
    @id(SET_SERVER_ID) @noWarn("unused")
    action set_server(@id(1) bit<32> server, @id(2) bit<1> bridged, @id(3) bit<16> group_id,
                      @id(4) bit<1> answer_arp) {
        meta.up.server = server;
        meta.up.reason = bridged == 1 ? REASON_BRIDGED : REASON_NEW_FLOW;
    }

    @id(NO_SERVER_ID)
    action no_server() {}

    @id(VIRTUAL_SERVERS_ID)
    table virtual_servers {
        key = {
            meta.key.dst_addr : ternary @id(1) @name("address");
            meta.key.dst_port : ternary @id(2) @name("port");
            meta.key.protocol : exact @id(3) @name("protocol");
            meta.is_local : ternary @id(4) @name("is_local");
        }
        actions = {
            set_server;
            @defaultonly no_server;
        }
        const default_action = no_server();
        size = VIRTUAL_SERVERS;
    }

    @hidden action begin() {
        meta.up.reason = 0;
    }

    @hidden action ask_outbound() {
        meta.up.reason = REASON_OUTBOUND;
    }

    @hidden action up() {
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = COUNTER_UP_CALLS;
    }

    apply {
        begin();
        if (meta.arrival.external == 1) {
            virtual_servers.apply();
        }
        if (meta.up.reason == 0 && meta.arrival.internal == 1 && meta.arrival.outbound_query == 1
            && meta.is_local == 0) {
            ask_outbound();
        }
        if (meta.up.reason != 0) {
            up();
        }
    }
}

#endif
