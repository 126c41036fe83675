// SPDX-License-Identifier: Apache-2.0
// How much fits a Tofino; docs/design/0003-p4.md says what it was compiled with.
#ifndef SPLITPLANE_TNA_SIZES_P4
#define SPLITPLANE_TNA_SIZES_P4

#ifndef FLOW_BITS
#define FLOW_BITS 14 // flows of both families together: a place in each register
#endif
#ifndef FLOWS_IPV4
#define FLOWS_IPV4 16384
#endif
#ifndef FLOWS_IPV6
#define FLOWS_IPV6 4096
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
