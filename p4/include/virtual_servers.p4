// SPDX-License-Identifier: Apache-2.0
// Packets without a flow: a virtual server's, the internal side's own, or none of ours.
//
//   (address, port, protocol, local?) -> virtual_servers -> agent, of a proxied one: what says something
//   an address that is owned, and no server              -> agent, which may refuse
//   internal side: OUTBOUND_QUERY?                       -> agent
//   else                                                 -> routed
//
// Priorities in virtual_servers are the wire protocol's order (8.3): 4 exact, 3 any port, 2 any
// address, 1 any of both; entries with any address match only what is not local.
#ifndef SPLITPLANE_VIRTUAL_SERVERS_P4
#define SPLITPLANE_VIRTUAL_SERVERS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

control VirtualServers(in headers_t headers, inout metadata_t meta) {
    // group_id and answer_arp are for the agent that reads them back
    @id(SET_SERVER_ID) @noWarn("unused")
    action set_server(@id(1) bit<32> server, @id(2) bit<1> bridged, @id(3) bit<16> group_id,
                      @id(4) bit<1> answer_arp, @id(5) bit<1> proxied) {
        meta.up.server = server;
        meta.up.reason = bridged == 1 ? REASON_BRIDGED : REASON_NEW_FLOW;
        meta.up.reason = proxied == 1 && meta.key.protocol == PROTOCOL_TCP ? REASON_PROXIED
                                                                          : meta.up.reason;
    }

    @id(NO_SERVER_ID)
    action no_server() {}

    @id(VIRTUAL_SERVERS_ID)
    table virtual_servers {
        key = {
            meta.key.dst_addr : ternary @id(1) @name("address");
            meta.key.dst_port : ternary @id(2) @name("port");
            meta.key.protocol : exact @id(3) @name("protocol");
            meta.whose.no_wildcard : ternary @id(4) @name("is_local");
        }
        actions = {
            set_server;
            @defaultonly no_server;
        }
        const default_action = no_server();
        size = VIRTUAL_SERVERS;
    }

    @hidden action begin() { // nodes are clients too, but not of wildcards
        meta.up.reason = 0;
        meta.whose.no_wildcard = meta.is_local | ~meta.arrival.external;
    }

    @hidden action nobody_serves() {
        meta.up.reason = REASON_UNSERVED;
    }

    @hidden action ask_outbound() {
        meta.up.reason = REASON_OUTBOUND;
    }

    @hidden action up() {
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = meta.up.reason == REASON_UNSERVED ? COUNTER_DROP_UNSERVED : COUNTER_UP_CALLS;
    }

    @hidden action refuse(bit<32> outcome) {
        meta.verdict = VERDICT_DROP;
        meta.counter = outcome;
    }

    apply {
        begin();
        if (headers.ethernet.dst_addr[40:40] == 0) {
            virtual_servers.apply(); // a frame to all stations is for none (RFC 1122 3.3.6)
            if (meta.up.reason == 0 && meta.whose.is_owned == 1) {
                nobody_serves();
            }
            // behind a one-armed port a node may answer from a virtual address itself
            if ((meta.whose.from_own == 1 || meta.whose.from_virtual == 1)
                && (meta.up.reason != 0 || meta.arrival.internal == 0)) {
                refuse(COUNTER_DROP_OWN_SOURCE);
            } else if (meta.up.reason != 0 && meta.whose.from_nobody == 1) {
                refuse(COUNTER_DROP_MARTIAN);
            } else if (meta.up.reason != 0 && headers.tcp.isValid()
                       && headers.tcp.flags & TCP_SYN != 0
                       && headers.tcp.flags & (TCP_FIN | TCP_RST) != 0) {
                refuse(COUNTER_DROP_TCP_FLAGS); // nobody sends it
            } else if (meta.up.reason == REASON_PROXIED) {
                // The agent keeps nothing before a client says something: of what follows its SYN, it
                // has to see what has data or FIN.
                if (meta.kind == KIND_FRAGMENT || meta.rare == RARE_FIRST_FRAGMENT) {
                    refuse(COUNTER_DROP_FRAGMENT); // no TCP sends them where it knows the MTU
                } else if (headers.tcp.flags & TCP_RST != 0) {
                    refuse(COUNTER_COOKIE_ACKS);
                } else if (headers.tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN | TCP_ACK
                           || headers.tcp.flags & (TCP_SYN | TCP_ACK) == 0) {
                    refuse(COUNTER_DROP_TCP_FLAGS);
                } else if (headers.tcp.flags & (TCP_SYN | TCP_FIN) == 0
                           && meta.ip.payload == (bit<16>)headers.tcp.data_offset << 2) {
                    refuse(COUNTER_COOKIE_ACKS);
                }
            }
        }
        if (meta.verdict == VERDICT_OPEN && meta.up.reason == 0 && meta.arrival.internal == 1 && meta.arrival.outbound_query == 1
            && meta.is_local == 0) {
            ask_outbound();
        }
        if (meta.verdict == VERDICT_OPEN && meta.up.reason != 0) {
            up();
        }
    }
}

#endif
