// SPDX-License-Identifier: Apache-2.0
// What the agent and the switch call things by.  An id is given once: whatever is taken out of the
// program takes its id with it, and a table, action or field that changes its meaning gets a new one.
// (The first octet is P4Runtime's: 01 action, 02 table, 12 counter, 13 direct counter, 14 meter,
// 16 register.)
#ifndef SPLITPLANE_IDS_P4
#define SPLITPLANE_IDS_P4

// --- tables; the ids of their match fields stand in the tables ---------------------------------
#define INTERFACES_ID        0x02000001
#define LOCAL_ADDRESSES_ID   0x02000002
#define VIRTUAL_ADDRESSES_ID 0x02000003
#define VIRTUAL_SERVERS_ID   0x02000004
#define FLOWS_ID             0x02000005
#define ROUTES_ID            0x02000006
#define NEIGHBOURS_ID        0x02000007
#define NEXT_HOPS_ID         0x02000008
#define TUNNEL_SOURCES_ID    0x02000009
#define OWN_SOURCES_ID       0x0200000a
#define VIRTUAL_SOURCES_ID   0x0200000b
#define ASLEEP_ID            0x0200000c

// --- actions; the ids of their parameters stand in the actions ---------------------------------
#define NO_INTERFACE_ID      0x01000001
#define SET_INTERFACE_ID     0x01000002
#define OWN_ADDRESS_ID       0x01000003
#define RESERVED_ADDRESS_ID  0x01000004
#define ANSWERED_ADDRESS_ID  0x01000005
#define SILENT_ADDRESS_ID    0x01000006
#define SET_SERVER_ID        0x01000007
#define INBOUND_ID           0x01000008
#define RETURNING_ID         0x01000009
#define VIA_ID               0x0100000a
#define CONNECTED_ID         0x0100000b
#define SET_NEIGHBOUR_ID     0x0100000c
#define FORWARD_ID           0x0100000d
#define SET_TUNNEL_SOURCE_ID 0x0100000e
#define NOT_LOCAL_ID         0x0100000f
#define NOT_VIRTUAL_ID       0x01000010
#define NO_FLOW_ID           0x01000011
#define NO_SERVER_ID         0x01000012
#define NO_ROUTE_ID          0x01000013
#define NO_NEIGHBOUR_ID      0x01000014
#define NO_NEXT_HOP_ID       0x01000015
#define NO_TUNNEL_SOURCE_ID  0x01000016
#define FROM_OWN_ID          0x01000017
#define FROM_VIRTUAL_ID      0x01000018
#define NOT_FROM_OWN_ID      0x01000019
#define NOT_FROM_VIRTUAL_ID  0x0100001a
#define SET_ASLEEP_ID        0x0100001b
#define NOT_ASLEEP_ID        0x0100001c

// --- counters, meters, registers ---------------------------------------------------------------
#define OUTCOMES_ID          0x12000001
#define INTERFACE_FRAMES_ID  0x13000001
#define FLOW_FRAMES_ID       0x13000002
#define UP_CALL_METER_ID     0x14000001
// given up: 0x16000001 flow_counts, 02 flow_sequences, 03 flow_windows, 04 flow_fin_ends, 08 flow_times
#define FLOW_STATES_ID       0x1600000b
#define FLOW_ENDS_ID         0x1600000c
#define FRAGMENT_KEYS_ID     0x16000005
#define FRAGMENT_PORTS_ID    0x16000006
#define FRAGMENT_TIMES_ID    0x16000007
#define LISTENING_ID         0x16000009
#define FLOW_SYNS_ID         0x1600000a

#endif
