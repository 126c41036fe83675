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
// until the packet leaves.  The 320 bits are two halves, `high` and `low`, because v1model shifts by
// no more than 256.
#ifndef SPLITPLANE_OPTIONS_P4
#define SPLITPLANE_OPTIONS_P4

#include "headers.p4"
#include "metadata.p4"
#include "sums.p4"

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

// All 640 bits up by `half`; what leaves the options at the top enters `done` at the bottom.
#define MOVE_OPTIONS                                                                             \
    meta.options.done_high = (meta.options.done_high << meta.options.half)                       \
                             | (meta.options.done_low >> meta.options.rest);                     \
    meta.options.done_low = (meta.options.done_low << meta.options.half)                         \
                            | (meta.options.high >> meta.options.rest);                          \
    meta.options.high = (meta.options.high << meta.options.half)                                 \
                        | (meta.options.low >> meta.options.rest);                               \
    meta.options.low = meta.options.low << meta.options.half;

// The edge whose first octet is octet `at` of the option, of a SACK long enough for it.
#define SHIFT_EDGE(half, top, bottom, at)                                                        \
    half[top:bottom] = half[top:bottom] + (meta.options.length >= at + 4 ? edge_add : 0);

control WalkOptions(inout headers_t headers, inout metadata_t meta) {
    bit<32> value_add = 0;
    bit<32> echo_add = 0;
    bit<32> edge_add = 0;

    @hidden action begin() {
        meta.options.high = 0;
        meta.options.low = 0;
        meta.options.done_high = 0;
        meta.options.done_low = 0;
        meta.options.left = ((bit<8>)headers.tcp.data_offset << 2) - 20;
        meta.options.more = 1;
        meta.options.kept = 1;
        value_add = meta.flow.has_offsets == 1 ? meta.flow.ts_value_add : 0;
        edge_add = meta.flow.has_offsets == 1 ? meta.flow.ack_add : 0;
        // without ACK the echo is not valid and 0 (RFC 7323 3.2)
        echo_add = meta.flow.has_offsets == 1 && headers.tcp.flags & TCP_ACK != 0
            ? meta.flow.ts_echo_add : 0;
    }

    @hidden action load_1() {
        meta.options.high = (bit<160>)headers.tcp_options_1.data << 128;
    }

    @hidden action load_2() {
        meta.options.high = (meta.options.high >> 64)
                            | ((bit<160>)headers.tcp_options_2.data << 96);
    }

    @hidden action load_4() {
        meta.options.low = meta.options.high << 32;
        meta.options.high = (meta.options.high >> 128)
                            | ((bit<160>)headers.tcp_options_4.data << 32);
    }

    @hidden action load_8() {
        meta.options.low = (meta.options.high >> 96)
                           | ((bit<160>)headers.tcp_options_8.data[95:0] << 64);
        meta.options.high = headers.tcp_options_8.data[255:96];
    }

    @hidden action sum_before() {
        CHECKSUM(meta.sum.not_options, { meta.options.high, meta.options.low })
    }

    // The length of what comes next; 0 ends the walk.
    @hidden action read() {
        bit<8> said = meta.options.high[151:144];
        meta.options.kind = meta.options.high[159:152];
        meta.options.length = meta.options.kind == OPTION_END ? 0
            : (meta.options.kind != OPTION_NOP ? (said < 2 ? 0 : said)
            : (said != OPTION_NOP ? 8w1
            : (meta.options.high[143:136] != OPTION_NOP ? 8w2
            : (meta.options.high[135:128] != OPTION_NOP ? 8w3 : 4))));
        // more than there is: the receiver will not understand the rest either
        meta.options.length = meta.options.length > meta.options.left ? 0 : meta.options.length;
        meta.options.kind = meta.options.length == 0 ? OPTION_END : meta.options.kind;
    }

    @hidden action shift_timestamps() {
        meta.options.high[143:112] = meta.options.high[143:112] + value_add;
        meta.options.high[111:80] = meta.options.high[111:80] + echo_add;
    }

    @hidden action shift_sack() {
        bit<32> across;
        SHIFT_EDGE(meta.options.high, 143, 112, 2)
        SHIFT_EDGE(meta.options.high, 111, 80, 6)
        SHIFT_EDGE(meta.options.high, 79, 48, 10)
        SHIFT_EDGE(meta.options.high, 47, 16, 14)
        across = meta.options.high[15:0] ++ meta.options.low[159:144];
        SHIFT_EDGE(across, 31, 0, 18)
        meta.options.high[15:0] = across[31:16];
        meta.options.low[159:144] = across[15:0];
        SHIFT_EDGE(meta.options.low, 143, 112, 22)
        SHIFT_EDGE(meta.options.low, 111, 80, 26)
        SHIFT_EDGE(meta.options.low, 79, 48, 30)
        SHIFT_EDGE(meta.options.low, 47, 16, 34)
    }

    @hidden action note_scale() {
        bit<8> scale = meta.options.high[143:136];
        scale = scale > WINDOW_SCALE_MAX ? WINDOW_SCALE_MAX : scale;
        meta.options.scale = meta.options.length < 3 ? 0 : scale;
    }

    @hidden action advance() { // an option may have more bits than v1model shifts by: twice the half of them
        meta.options.half = meta.options.length << 2;
        meta.options.rest = 160 - meta.options.half;
        MOVE_OPTIONS
        MOVE_OPTIONS
        meta.options.left = meta.options.left - meta.options.length;
        meta.options.more = meta.options.length == 0 || meta.options.left == 0 ? 0 : 8w1;
    }

    // `done` becomes all forty octets: what was not looked at follows.
    @hidden action finish() {
        meta.options.half = 240 - ((bit<8>)headers.tcp.data_offset << 4) + (meta.options.left << 2);
        meta.options.rest = 160 - meta.options.half;
        MOVE_OPTIONS
        MOVE_OPTIONS
        CHECKSUM(meta.sum.options, { meta.options.done_high, meta.options.done_low })
        meta.sum.options = ~meta.sum.options;
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
    @hidden action store_8() {
        headers.tcp_options_8.data = meta.options.done_high ++ meta.options.done_low[159:64];
        meta.options.done_high = (bit<160>)meta.options.done_low[63:0] << 96;
    }

    @hidden action store_4() {
        headers.tcp_options_4.data = meta.options.done_high[159:32];
        meta.options.done_high = (meta.options.done_high << 128) | (meta.options.done_low >> 32);
    }

    @hidden action store_2() {
        headers.tcp_options_2.data = meta.options.done_high[159:96];
        meta.options.done_high = meta.options.done_high << 64;
    }

    @hidden action store_1() {
        headers.tcp_options_1.data = meta.options.done_high[159:128];
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
