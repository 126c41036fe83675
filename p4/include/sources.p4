// SPDX-License-Identifier: Apache-2.0
// What no router passes on: addresses that are no host's or one link's only (RFC 1812 5.3.7,
// RFC 4291 2.5), and packets from addresses of ours, which would come back to us.
//
//   source -> own_sources      -> the switch's
//   source -> virtual_sources  -> a virtual server's
//
// A packet of a flow passes by all of this.
#ifndef SPLITPLANE_SOURCES_P4
#define SPLITPLANE_SOURCES_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

#define IS_MARTIAN_IPV4(address) \
    (address[31:24] == 0 || address[31:24] == 127 || address[31:29] == 7)
#define IS_MARTIAN_IPV6(address) \
    (address[127:120] == 0xff || address[127:118] == 0x3fa || address[127:1] == 0)

// Of an ICMP error about a flow, too.
control Martians(in headers_t headers, inout metadata_t meta) {
    @hidden action begin() {
        meta.whose.from_nobody = 0;
        meta.whose.is_nobodys = 0;
    }

    @hidden action from_nobody() {
        meta.whose.from_nobody = 1;
    }

    @hidden action to_nobody() {
        meta.whose.is_nobodys = 1;
    }

    apply {
        begin();
        if (headers.ipv4.isValid()) {
            if (IS_MARTIAN_IPV4(headers.ipv4.src_addr)) {
                from_nobody();
            }
            if (IS_MARTIAN_IPV4(headers.ipv4.dst_addr)) {
                to_nobody();
            }
        } else if (headers.ipv6.isValid()) {
            if (IS_MARTIAN_IPV6(headers.ipv6.src_addr)) {
                from_nobody();
            }
            if (IS_MARTIAN_IPV6(headers.ipv6.dst_addr)) {
                to_nobody();
            }
        }
    }
}

control Sources(in headers_t headers, inout metadata_t meta) {
    address_t source = 0;

    @hidden action begin() {
        source = headers.ipv4.isValid() ? IPV4_PREFIX ++ headers.ipv4.src_addr
                                        : headers.ipv6.src_addr;
        meta.whose.from_own = 0;
        meta.whose.from_virtual = 0;
    }

    @id(FROM_OWN_ID)
    action from_own() {
        meta.whose.from_own = 1;
    }

    @id(FROM_VIRTUAL_ID)
    action from_virtual() {
        meta.whose.from_virtual = 1;
    }

    @id(NOT_FROM_OWN_ID)
    action not_from_own() {}

    @id(NOT_FROM_VIRTUAL_ID)
    action not_from_virtual() {}

    @id(OWN_SOURCES_ID)
    table own_sources {
        key = {
            source : exact @id(1) @name("address");
        }
        actions = {
            from_own;
            @defaultonly not_from_own;
        }
        const default_action = not_from_own();
        size = LOCAL_ADDRESSES;
    }

    @id(VIRTUAL_SOURCES_ID)
    table virtual_sources {
        key = {
            source : exact @id(1) @name("address");
        }
        actions = {
            from_virtual;
            @defaultonly not_from_virtual;
        }
        const default_action = not_from_virtual();
        size = VIRTUAL_ADDRESSES;
    }

    @hidden action note_owner() {
        meta.whose.is_owned = meta.whose.is_virtual & meta.whose.is_answered & ~meta.is_local
                              & ~headers.ethernet.dst_addr[40:40];
        meta.is_local = meta.is_local | meta.whose.is_nobodys;
    }

    apply {
        begin();
        own_sources.apply();
        virtual_sources.apply();
        note_owner();
    }
}

#endif
