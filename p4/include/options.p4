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
    if (headers.options.more == 1) {                                                                \
        read();                                                                                  \
        if (headers.options.kind == OPTION_TIMESTAMPS && headers.options.length == 10) {               \
            shift_timestamps();                                                                  \
        } else if (headers.options.kind == OPTION_SACK) {                                           \
            shift_sack();                                                                        \
        } else if (headers.options.kind == OPTION_WINDOW_SCALE) {                                   \
            note_scale();                                                                        \
        }                                                                                        \
        advance();                                                                               \
    }
#define OPTION_STEPS_3 OPTION_STEP OPTION_STEP OPTION_STEP
#define OPTION_STEPS_9 OPTION_STEPS_3 OPTION_STEPS_3 OPTION_STEPS_3

// All 640 bits up by `half`; what leaves the options at the top enters `done` at the bottom.
#define MOVE_OPTIONS                                                                             \
    headers.options.done_high = (headers.options.done_high << headers.options.half)                       \
                             | (headers.options.done_low >> headers.options.rest);                     \
    headers.options.done_low = (headers.options.done_low << headers.options.half)                         \
                            | (headers.options.high >> headers.options.rest);                          \
    headers.options.high = (headers.options.high << headers.options.half)                                 \
                        | (headers.options.low >> headers.options.rest);                               \
    headers.options.low = headers.options.low << headers.options.half;

// The edge whose first octet is octet `at` of the option, of a SACK long enough for it.
#define SHIFT_EDGE(half, top, bottom, at)                                                        \
    half[top:bottom] = half[top:bottom] + (headers.options.length >= at + 4 ? edge_add : 0);

control WalkOptions(inout headers_t headers, inout metadata_t meta) {
    bit<32> value_add = 0;
    bit<32> echo_add = 0;
    bit<32> edge_add = 0;

    @hidden action begin() {
        headers.options.setValid(); // which makes all of it 0
        headers.sum.setValid();
        headers.options.left = ((bit<8>)headers.tcp.data_offset << 2) - 20;
        headers.options.more = 1;
        meta.up.scale = 0;
        value_add = meta.has_offsets == 1 ? meta.flow.ts_value_add : 0;
        edge_add = meta.has_offsets == 1 ? meta.flow.ack_add : 0;
        // without ACK the echo is not valid and 0 (RFC 7323 3.2)
        echo_add = meta.has_offsets == 1 && headers.tcp.flags & TCP_ACK != 0
            ? meta.flow.ts_echo_add : 0;
    }

    @hidden action load_1() {
        headers.options.high = (bit<160>)headers.tcp_options_1.data << 128;
    }

    @hidden action load_2() {
        headers.options.high = (headers.options.high >> 64)
                            | ((bit<160>)headers.tcp_options_2.data << 96);
    }

    @hidden action load_4() {
        headers.options.low = headers.options.high << 32;
        headers.options.high = (headers.options.high >> 128)
                            | ((bit<160>)headers.tcp_options_4.data << 32);
    }

    @hidden action load_8() {
        headers.options.low = (headers.options.high >> 96)
                           | ((bit<160>)headers.tcp_options_8.data[95:0] << 64);
        headers.options.high = headers.tcp_options_8.data[255:96];
    }

    @hidden action sum_before() {
        CHECKSUM(headers.sum.not_options, { headers.options.high, headers.options.low })
    }

    // The length of what comes next; 0 ends the walk.
    @hidden action read() {
        bit<8> said = headers.options.high[151:144];
        headers.options.kind = headers.options.high[159:152];
        headers.options.length = headers.options.kind == OPTION_END ? 0
            : (headers.options.kind != OPTION_NOP ? (said < 2 ? 0 : said)
            : (said != OPTION_NOP ? 8w1
            : (headers.options.high[143:136] != OPTION_NOP ? 8w2
            : (headers.options.high[135:128] != OPTION_NOP ? 8w3 : 4))));
        // more than there is: the receiver will not understand the rest either
        headers.options.length = headers.options.length > headers.options.left ? 0 : headers.options.length;
        headers.options.kind = headers.options.length == 0 ? OPTION_END : headers.options.kind;
    }

    @hidden action shift_timestamps() {
        headers.options.high[143:112] = headers.options.high[143:112] + value_add;
        headers.options.high[111:80] = headers.options.high[111:80] + echo_add;
    }

    @hidden action shift_sack() {
        bit<32> across;
        SHIFT_EDGE(headers.options.high, 143, 112, 2)
        SHIFT_EDGE(headers.options.high, 111, 80, 6)
        SHIFT_EDGE(headers.options.high, 79, 48, 10)
        SHIFT_EDGE(headers.options.high, 47, 16, 14)
        across = headers.options.high[15:0] ++ headers.options.low[159:144];
        SHIFT_EDGE(across, 31, 0, 18)
        headers.options.high[15:0] = across[31:16];
        headers.options.low[159:144] = across[15:0];
        SHIFT_EDGE(headers.options.low, 143, 112, 22)
        SHIFT_EDGE(headers.options.low, 111, 80, 26)
        SHIFT_EDGE(headers.options.low, 79, 48, 30)
        SHIFT_EDGE(headers.options.low, 47, 16, 34)
    }

    @hidden action note_scale() {
        bit<8> scale = headers.options.high[143:136];
        scale = scale > WINDOW_SCALE_MAX ? WINDOW_SCALE_MAX : scale;
        meta.up.scale = headers.options.length < 3 ? 0 : scale;
    }

    @hidden action advance() { // an option may have more bits than v1model shifts by: twice the half of them
        headers.options.half = headers.options.length << 2;
        headers.options.rest = 160 - headers.options.half;
        MOVE_OPTIONS
        MOVE_OPTIONS
        headers.options.left = headers.options.left - headers.options.length;
        headers.options.more = headers.options.length == 0 || headers.options.left == 0 ? 0 : 8w1;
    }

    // `done` becomes all forty octets: what was not looked at follows.
    @hidden action finish() {
        headers.options.half = 240 - ((bit<8>)headers.tcp.data_offset << 4) + (headers.options.left << 2);
        headers.options.rest = 160 - headers.options.half;
        MOVE_OPTIONS
        MOVE_OPTIONS
        CHECKSUM(headers.sum.options, { headers.options.done_high, headers.options.done_low })
        headers.sum.options = ~headers.sum.options;
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
        headers.tcp_options_8.data = headers.options.done_high ++ headers.options.done_low[159:64];
        headers.options.done_high = (bit<160>)headers.options.done_low[63:0] << 96;
    }

    @hidden action store_4() {
        headers.tcp_options_4.data = headers.options.done_high[159:32];
        headers.options.done_high = (headers.options.done_high << 128) | (headers.options.done_low >> 32);
    }

    @hidden action store_2() {
        headers.tcp_options_2.data = headers.options.done_high[159:96];
        headers.options.done_high = headers.options.done_high << 64;
    }

    @hidden action store_1() {
        headers.tcp_options_1.data = headers.options.done_high[159:128];
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
