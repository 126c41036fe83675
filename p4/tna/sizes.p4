// SPDX-License-Identifier: Apache-2.0
// How much should fit a Tofino; no compiler has placed it all yet (docs/design/0003-p4.md).
#ifndef SPLITPLANE_TNA_SIZES_P4
#define SPLITPLANE_TNA_SIZES_P4

// Estimated by hand so that on Tofino 1 both flow tables stand in one stage (80 RAMs): one that
// needs two makes all that waits for it a stage later.
#if __TARGET_TOFINO__ == 2
#ifndef FLOW_BITS
#define FLOW_BITS 15 // a place in each register for each flow of both families
#endif
#ifndef FLOWS_IPV4
#define FLOWS_IPV4 16384
#endif
#ifndef FLOWS_IPV6
#define FLOWS_IPV6 4096
#endif
#else
#ifndef FLOW_BITS
#define FLOW_BITS 13
#endif
#ifndef FLOWS_IPV4
#define FLOWS_IPV4 4096
#endif
#ifndef FLOWS_IPV6
#define FLOWS_IPV6 1024
#endif
#endif
#define FLOW_PLACES (1 << FLOW_BITS)
#define FLOWS_WITH_OFFSETS 4096 // entries: two for each flow

#define TNA_LOCAL_ADDRESSES 1024
#define TNA_VIRTUAL_ADDRESSES 4096
#define TNA_VIRTUAL_SERVERS 1024 // TCAM
#define TNA_ROUTES 1024          // TCAM
#define TNA_NEIGHBOURS 4096
#define TNA_NEXT_HOPS 4096

#define TNA_FRAGMENT_BITS 14
#define TNA_FRAGMENTS (1 << TNA_FRAGMENT_BITS)

#endif
