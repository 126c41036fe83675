// SPDX-License-Identifier: Apache-2.0
// How much fits.  A switch with less memory is compiled with other numbers (-DFLOWS=...).
#ifndef SPLITPLANE_SIZES_P4
#define SPLITPLANE_SIZES_P4

#ifndef FLOWS
#define FLOWS 131072 // each with two entries, of which the second is the first one's index plus 1
#endif
#define FLOW_ENTRIES (2 * FLOWS)

#define INTERFACES 512        // as many as v1model has port numbers
#define LOCAL_ADDRESSES 4096
#define VIRTUAL_ADDRESSES 65536
#define VIRTUAL_SERVERS 65536
#define ASLEEP 65536          // flows that are gone and whose node may go on
#define ROUTES 16384
#define NEIGHBOURS 65536
#define NEXT_HOPS 65536

#define FRAGMENTS 16384       // a power of two; see fragments.p4
#define FRAGMENT_INDEX_BITS 14

#define VLAN_TAGS_MAX 2       // 802.1ad: one of the provider, one of the customer
#define EXTENSIONS_MAX 6      // more than any honest packet has
#define QUOTED_EXTENSIONS_MAX 6
#define EXTENSION_BITS_MAX 16320 // 255 times 8 octets

#endif
