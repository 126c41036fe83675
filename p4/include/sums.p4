// SPDX-License-Identifier: Apache-2.0
// Checksums by difference (RFC 1624): the new one is the one's complement sum of the old one's
// complement, of what went (complemented) and of what came.  A right one stays right and a wrong one
// wrong.  The key determines a flow's old addresses and ports, so their difference is a constant of
// the entry.
#ifndef SPLITPLANE_SUMS_P4
#define SPLITPLANE_SUMS_P4

#define CHECKSUM(result, ...) hash(result, HashAlgorithm.csum16, 16w0, __VA_ARGS__, 32w0x10000);

// of (ttl, protocol) when ttl goes down by one
const bit<16> TTL_DELTA = 0xfeff;

#endif
