// SPDX-License-Identifier: Apache-2.0
// The ids of what only the Tofino program has, beside those of ../include/ids.p4, under the same
// rule: an id is given once, in both programs together.
#ifndef SPLITPLANE_TNA_IDS_P4
#define SPLITPLANE_TNA_IDS_P4

// --- tables ------------------------------------------------------------------------------------
#define FLOWS_IPV4_ID      0x02000101
#define FLOWS_IPV6_ID      0x02000102
#define FLOW_OFFSETS_ID    0x02000103

// --- actions -----------------------------------------------------------------------------------
#define INBOUND_IPV4_ID    0x01000101
#define RETURNING_IPV4_ID  0x01000102
#define INBOUND_IPV6_ID    0x01000103
#define RETURNING_IPV6_ID  0x01000104
#define SHIFT_INBOUND_ID   0x01000105
#define SHIFT_RETURN_ID    0x01000106
#define NO_OFFSETS_ID      0x01000107

// --- counters; registers are read by packet and have no ids of their own -----------------------
#define REFUSED_COPIES_ID      0x12000101
#define FLOW_IPV4_FRAMES_ID    0x13000101
#define FLOW_IPV6_FRAMES_ID    0x13000102

#endif
