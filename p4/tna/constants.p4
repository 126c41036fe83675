// SPDX-License-Identifier: Apache-2.0
// What the Tofino program says beside ../include/constants.p4; numbers are never given twice.
#ifndef SPLITPLANE_TNA_CONSTANTS_P4
#define SPLITPLANE_TNA_CONSTANTS_P4

#include "../include/constants.p4"

#if __TARGET_TOFINO__ == 2
const port_t PORT_CPU = 0; // takes the place of PORT_AGENT
#else
const port_t PORT_CPU = 64;
#endif
const MirrorId_t MIRROR_SESSION_AGENT = 1; // as CLONE_SESSION_AGENT

typedef bit<8> outcome_t; // COUNTER_*: bit<32> is dear here

// the packet that ended a flow; value: its index, by which to ask for a report
const bit<8> REASON_ENDED = 32;
const bit<8> REASON_UNREADABLE = 33; // headers that the switch does not read through
const bit<8> REASON_ICMP_ERROR = 34; // an error that may be about a flow
const bit<8> REASON_REPORT_TNA = 35; // then tna_report_t, tna_registers_t

const bit<32> COUNTER_DROP_CHECKSUM = 31; // a wrong IPv4 header checksum

// What stands in front of a copy on its way to the egress; see copies.p4.
const bit<8> COPY_ARRIVED = 1;
const bit<8> COPY_ARRIVED_RESOLVE = 2;
const bit<8> COPY_INJECTED = 3; // a packet_out stands between the copy's words and the frame
const bit<8> COPY_INJECTED_RESOLVE = 4;
const MirrorType_t MIRROR_UP = 1;
const MirrorType_t MIRROR_RESOLVE = 2;

#endif
