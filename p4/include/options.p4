// SPDX-License-Identifier: Apache-2.0
// TCP's options: the shift of SACK edges and timestamps (wire protocol 9.6), a SYN's window scale.
//
//   tcp_options_* --load--> rest  kind length value kind ...      40 octets, END after the last
//                                 |<- looked at                   one step an option, in place
//                           done <- rest                          what was looked at
//                   ... when all is done, the egress stores `done` where the options came from
//
// A run of up to four NOPs is one step, any other option one, so 27 steps are enough for 40 octets
// (a NOP and an option of 2 octets, thirteen times, and one left).  The headers stay as they are
// until the packet leaves.
#ifndef SPLITPLANE_OPTIONS_P4
#define SPLITPLANE_OPTIONS_P4

#include "headers.p4"
#include "metadata.p4"

const bit<8> OPTION_END = 0;
const bit<8> OPTION_NOP = 1;
const bit<8> OPTION_WINDOW_SCALE = 3;
const bit<8> OPTION_SACK = 5;
const bit<8> OPTION_TIMESTAMPS = 8;
const bit<8> WINDOW_SCALE_MAX = 14; // RFC 7323 2.3

#define OPTION_STEP                                                                              \
    if (meta.options.more == 1) {                                                                \
        read();                                                                                  \
        if (meta.options.kind == OPTION_TIMESTAMPS && meta.options.length == 10) {               \
            shift_timestamps();                                                                  \
        } else if (meta.options.kind == OPTION_SACK) {                                           \
            shift_sack();                                                                        \
        } else if (meta.options.kind == OPTION_WINDOW_SCALE) {                                   \
            note_scale();                                                                        \
        }                                                                                        \
        advance();                                                                               \
    }
#define OPTION_STEPS_3 OPTION_STEP OPTION_STEP OPTION_STEP
#define OPTION_STEPS_9 OPTION_STEPS_3 OPTION_STEPS_3 OPTION_STEPS_3

// The one's complement sum of the words, folded by halves.
#define SUM_320(x)                                                                               \
    x = (x & ((1 << 160) - 1)) + (x >> 160);                                                     \
    x = (x & ((1 << 96) - 1)) + (x >> 96);                                                       \
    x = (x & ((1 << 48) - 1)) + (x >> 48);                                                       \
    x = (x & 0xffffffff) + (x >> 32);                                                            \
    x = (x & 0xffff) + (x >> 16);                                                                \
    x = (x & 0xffff) + (x >> 16);                                                                \
    x = (x & 0xffff) + (x >> 16);

// After minus before, in one's complement; 0 if nothing changed.
#define CHANGE(before, after)                                                                    \
    (before[15:0] == after[15:0] ? 16w0                                                          \
     : after[15:0] > before[15:0] ? after[15:0] - before[15:0]                                   \
                                  : after[15:0] - before[15:0] - 1)

control WalkOptions(inout headers_t headers, inout metadata_t meta) {
    bit<32> echo_add = 0;
    bit<32> edge_add = 0;
    bit<32> value_add = 0;
    bit<320> before = 0;
    bit<320> after = 0;

    action begin() {
        meta.options.rest = 0;
        meta.options.done = 0;
        meta.options.left = ((bit<8>)headers.tcp.data_offset << 2) - 20;
        meta.options.more = 1;
        meta.options.kept = 1;
        value_add = meta.flow.has_offsets == 1 ? meta.flow.ts_value_add : 0;
        edge_add = meta.flow.has_offsets == 1 ? meta.flow.ack_add : 0;
        // without ACK the echo is not valid and 0 (RFC 7323 3.2)
        echo_add = meta.flow.has_offsets == 1 && headers.tcp.flags & TCP_ACK != 0
            ? meta.flow.ts_echo_add : 0;
    }

    action load_1() {
        meta.options.rest = (bit<320>)headers.tcp_options_1.data << 144 << 144;
    }

    action load_2() {
        meta.options.rest = (meta.options.rest >> 64)
                            | ((bit<320>)headers.tcp_options_2.data << 128 << 128);
    }

    action load_4() {
        meta.options.rest = (meta.options.rest >> 128)
                            | ((bit<320>)headers.tcp_options_4.data << 192);
    }

    action load_8() {
        meta.options.rest = (meta.options.rest >> 128 >> 128)
                            | ((bit<320>)headers.tcp_options_8.data << 64);
    }

    action sum_before() {
        before = meta.options.rest;
        SUM_320(before)
    }

    // The length of what comes next; 0 ends the walk.
    action read() {
        bit<8> said;
        meta.options.kind = meta.options.rest[319:312];
        said = meta.options.rest[311:304];
        meta.options.length = meta.options.kind == OPTION_END ? 0
            : (meta.options.kind != OPTION_NOP ? (said < 2 ? 0 : said)
            : (said != OPTION_NOP ? 8w1
            : (meta.options.rest[303:296] != OPTION_NOP ? 8w2
            : (meta.options.rest[295:288] != OPTION_NOP ? 8w3 : 4))));
        // more than there is: the receiver will not understand the rest either
        meta.options.length = meta.options.length > meta.options.left ? 0 : meta.options.length;
        meta.options.kind = meta.options.length == 0 ? OPTION_END : meta.options.kind;
    }

    action shift_timestamps() {
        meta.options.rest[303:272] = meta.options.rest[303:272] + value_add;
        meta.options.rest[271:240] = meta.options.rest[271:240] + echo_add;
    }

    action shift_sack() {
        meta.options.rest[303:272] = meta.options.rest[303:272]
                                     + (meta.options.length >= 6 ? edge_add : 0);
        meta.options.rest[271:240] = meta.options.rest[271:240]
                                     + (meta.options.length >= 10 ? edge_add : 0);
        meta.options.rest[239:208] = meta.options.rest[239:208]
                                     + (meta.options.length >= 14 ? edge_add : 0);
        meta.options.rest[207:176] = meta.options.rest[207:176]
                                     + (meta.options.length >= 18 ? edge_add : 0);
        meta.options.rest[175:144] = meta.options.rest[175:144]
                                     + (meta.options.length >= 22 ? edge_add : 0);
        meta.options.rest[143:112] = meta.options.rest[143:112]
                                     + (meta.options.length >= 26 ? edge_add : 0);
        meta.options.rest[111:80] = meta.options.rest[111:80]
                                    + (meta.options.length >= 30 ? edge_add : 0);
        meta.options.rest[79:48] = meta.options.rest[79:48]
                                   + (meta.options.length >= 34 ? edge_add : 0);
        meta.options.rest[47:16] = meta.options.rest[47:16]
                                   + (meta.options.length >= 38 ? edge_add : 0);
    }

    action note_scale() {
        meta.options.scale = meta.options.length < 3 ? 0
            : (meta.options.rest[303:296] > WINDOW_SCALE_MAX ? WINDOW_SCALE_MAX
                                                            : meta.options.rest[303:296]);
    }

    // By 4 bits an octet, twice: v1model shifts by up to 255, and an option may have 320 bits.
    // What moves out of `rest` at the top moves into `done` at the bottom.
    action advance() {
        bit<8> half = meta.options.length << 2;
        bit<8> up = 160 - half;
        meta.options.done = (meta.options.done << half << half)
                            | (meta.options.rest >> up >> up);
        meta.options.rest = meta.options.rest << half << half;
        meta.options.left = meta.options.left - meta.options.length;
        meta.options.more = meta.options.length == 0 || meta.options.left == 0 ? 0 : 8w1;
    }

    // `done` becomes all forty octets: what was not looked at follows.
    action finish() {
        bit<8> octets = ((bit<8>)headers.tcp.data_offset << 2) - 20 - meta.options.left;
        bit<8> half = 160 - (octets << 2);
        bit<8> down = octets << 2;
        meta.options.done = (meta.options.done << half << half)
                            | (meta.options.rest >> down >> down);
        after = meta.options.done;
        SUM_320(after)
        meta.options.delta = CHANGE(before, after);
    }

    apply {
        begin();
        if (headers.tcp_options_1.isValid()) {
            load_1();
        }
        if (headers.tcp_options_2.isValid()) {
            load_2();
        }
        if (headers.tcp_options_4.isValid()) {
            load_4();
        }
        if (headers.tcp_options_8.isValid()) {
            load_8();
        }
        sum_before();
        OPTION_STEPS_9
        OPTION_STEPS_9
        OPTION_STEPS_9
        finish();
    }
}

control StoreOptions(inout headers_t headers, inout metadata_t meta) {
    action store_8() {
        headers.tcp_options_8.data = meta.options.done[319:64];
        meta.options.done = meta.options.done << 128 << 128;
    }

    action store_4() {
        headers.tcp_options_4.data = meta.options.done[319:192];
        meta.options.done = meta.options.done << 128;
    }

    action store_2() {
        headers.tcp_options_2.data = meta.options.done[319:256];
        meta.options.done = meta.options.done << 64;
    }

    action store_1() {
        headers.tcp_options_1.data = meta.options.done[319:288];
    }

    apply {
        if (headers.tcp_options_8.isValid()) {
            store_8();
        }
        if (headers.tcp_options_4.isValid()) {
            store_4();
        }
        if (headers.tcp_options_2.isValid()) {
            store_2();
        }
        if (headers.tcp_options_1.isValid()) {
            store_1();
        }
    }
}

#endif
