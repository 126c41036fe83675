// SPDX-License-Identifier: Apache-2.0
// TCP's numbers and options of flows with ADD_TCP_OFFSETS (wire protocol 9.6).
//
//   index -> flow_offsets -> sequence and acknowledgement number, timestamps, SACK edges
//                        |-> shift_window (const): a window times 2^n, saturating
//
// Few flows have offsets, so they are a table of their own.
#ifndef SPLITPLANE_TNA_OFFSETS_P4
#define SPLITPLANE_TNA_OFFSETS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

control Offsets(inout frame_t headers, inout metadata_t meta) {
    bit<32> to_ack = 0;
    bit<32> to_value = 0;
    bit<32> to_echo = 0;

    @id(SHIFT_INBOUND_ID)
    action shift_inbound(@id(1) bit<32> seq_add, @id(2) bit<32> ack_add,
                         @id(3) bit<32> ts_echo_add) {
        headers.tcp.seq = headers.tcp.seq + seq_add;
        to_ack = ack_add;
        to_echo = ts_echo_add;
    }

    // What a node sends is looked at after its translation.
    // shift: 0 none, 1 to 14 left, 17 to 30 right by 16 less
    @id(SHIFT_RETURN_ID)
    action shift_return(@id(1) bit<32> seq_add, @id(2) bit<32> ack_add,
                        @id(3) bit<32> ts_value_add, @id(4) bit<5> shift) {
        headers.tcp.seq = headers.tcp.seq + seq_add;
        meta.tcp.seq = meta.tcp.seq + seq_add;
        meta.tcp.end = meta.tcp.end + seq_add;
        meta.tcp.ack = meta.tcp.ack + ack_add;
        to_ack = ack_add;
        to_value = ts_value_add;
        meta.tcp.shift_window = shift;
    }

    @id(NO_OFFSETS_ID)
    action no_offsets() {}

    @id(FLOW_OFFSETS_ID)
    table flow_offsets {
        key = {
            meta.flow.index : exact @id(1) @name("index");
        }
        actions = {
            shift_inbound;
            shift_return;
            @defaultonly no_offsets;
        }
        const default_action = no_offsets();
        size = FLOWS_WITH_OFFSETS;
    }

    @hidden action shift_ack() { // without ACK the field means nothing
        headers.tcp.ack = headers.tcp.ack + to_ack;
    }

    @hidden action shift_timestamps() {
        headers.tcp_timestamps.value = headers.tcp_timestamps.value + to_value;
        headers.tcp_timestamps.echo = headers.tcp_timestamps.echo + to_echo;
    }

    @hidden action shift_sack_1() {
        headers.tcp_sack_1.left = headers.tcp_sack_1.left + to_ack;
        headers.tcp_sack_1.right = headers.tcp_sack_1.right + to_ack;
    }

    @hidden action shift_sack_2() {
        headers.tcp_sack_2.left = headers.tcp_sack_2.left + to_ack;
        headers.tcp_sack_2.right = headers.tcp_sack_2.right + to_ack;
    }

    @hidden action shift_sack_3() {
        headers.tcp_sack_3.left = headers.tcp_sack_3.left + to_ack;
        headers.tcp_sack_3.right = headers.tcp_sack_3.right + to_ack;
    }

    @hidden action shift_sack_4() {
        headers.tcp_sack_4.left = headers.tcp_sack_4.left + to_ack;
        headers.tcp_sack_4.right = headers.tcp_sack_4.right + to_ack;
    }

    apply {
        flow_offsets.apply();
        if (headers.tcp.flags[4:4] == 1) {
            shift_ack();
        }
        if (headers.tcp_timestamps.isValid()) {
            shift_timestamps();
        }
        if (headers.tcp_sack_1.isValid()) {
            shift_sack_1();
        }
        if (headers.tcp_sack_2.isValid()) {
            shift_sack_2();
        }
        if (headers.tcp_sack_3.isValid()) {
            shift_sack_3();
        }
        if (headers.tcp_sack_4.isValid()) {
            shift_sack_4();
        }
    }
}

#define WINDOW_LEFT(n) @hidden action left_##n() { headers.tcp.window = headers.tcp.window << n; }
#define WINDOW_RIGHT(n) @hidden action right_##n() { headers.tcp.window = headers.tcp.window >> n; }

control ShiftWindow(inout frame_t headers, inout metadata_t meta) {
    WINDOW_LEFT(1) WINDOW_LEFT(2) WINDOW_LEFT(3) WINDOW_LEFT(4) WINDOW_LEFT(5) WINDOW_LEFT(6)
    WINDOW_LEFT(7) WINDOW_LEFT(8) WINDOW_LEFT(9) WINDOW_LEFT(10) WINDOW_LEFT(11) WINDOW_LEFT(12)
    WINDOW_LEFT(13) WINDOW_LEFT(14)
    WINDOW_RIGHT(1) WINDOW_RIGHT(2) WINDOW_RIGHT(3) WINDOW_RIGHT(4) WINDOW_RIGHT(5)
    WINDOW_RIGHT(6) WINDOW_RIGHT(7) WINDOW_RIGHT(8) WINDOW_RIGHT(9) WINDOW_RIGHT(10)
    WINDOW_RIGHT(11) WINDOW_RIGHT(12) WINDOW_RIGHT(13) WINDOW_RIGHT(14)

    @hidden action saturate() {
        headers.tcp.window = 0xffff;
    }

    @hidden action keep_open() { // only a closed window becomes 0
        headers.tcp.window = 1;
    }

    @hidden action leave() {}

    @hidden table shift_left {
        key = {
            meta.tcp.shift_window : exact;
            headers.tcp.window : ternary;
        }
        actions = {
            left_1; left_2; left_3; left_4; left_5; left_6; left_7; left_8; left_9; left_10;
            left_11; left_12; left_13; left_14; saturate;
        }
        const entries = { // what fits; anything else saturates
            (1, 0 &&& 0x8000) : left_1();
            (2, 0 &&& 0xc000) : left_2();
            (3, 0 &&& 0xe000) : left_3();
            (4, 0 &&& 0xf000) : left_4();
            (5, 0 &&& 0xf800) : left_5();
            (6, 0 &&& 0xfc00) : left_6();
            (7, 0 &&& 0xfe00) : left_7();
            (8, 0 &&& 0xff00) : left_8();
            (9, 0 &&& 0xff80) : left_9();
            (10, 0 &&& 0xffc0) : left_10();
            (11, 0 &&& 0xffe0) : left_11();
            (12, 0 &&& 0xfff0) : left_12();
            (13, 0 &&& 0xfff8) : left_13();
            (14, 0 &&& 0xfffc) : left_14();
        }
        const default_action = saturate();
        size = 16;
    }

    @hidden table shift_right {
        key = {
            meta.tcp.shift_window : exact;
            headers.tcp.window : ternary;
        }
        actions = {
            right_1; right_2; right_3; right_4; right_5; right_6; right_7; right_8; right_9;
            right_10; right_11; right_12; right_13; right_14; keep_open; leave;
        }
        const entries = { // the first that matches
            (17, 0 &&& 0xfffe) : keep_open();
            (17, _) : right_1();
            (18, 0 &&& 0xfffc) : keep_open();
            (18, _) : right_2();
            (19, 0 &&& 0xfff8) : keep_open();
            (19, _) : right_3();
            (20, 0 &&& 0xfff0) : keep_open();
            (20, _) : right_4();
            (21, 0 &&& 0xffe0) : keep_open();
            (21, _) : right_5();
            (22, 0 &&& 0xffc0) : keep_open();
            (22, _) : right_6();
            (23, 0 &&& 0xff80) : keep_open();
            (23, _) : right_7();
            (24, 0 &&& 0xff00) : keep_open();
            (24, _) : right_8();
            (25, 0 &&& 0xfe00) : keep_open();
            (25, _) : right_9();
            (26, 0 &&& 0xfc00) : keep_open();
            (26, _) : right_10();
            (27, 0 &&& 0xf800) : keep_open();
            (27, _) : right_11();
            (28, 0 &&& 0xf000) : keep_open();
            (28, _) : right_12();
            (29, 0 &&& 0xe000) : keep_open();
            (29, _) : right_13();
            (30, 0 &&& 0xc000) : keep_open();
            (30, _) : right_14();
        }
        const default_action = leave();
        size = 32;
    }

    apply {
        if (meta.tcp.shift_window[4:4] == 0) {
            shift_left.apply();
        } else {
            shift_right.apply();
        }
    }
}

#endif
