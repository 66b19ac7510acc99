// SPDX-License-Identifier: Apache-2.0
// What benchmark kernels of floating point share. Their sums are IEEE double arithmetic, with every operation rounded by
// itself, so that each machine has the same checksum.
#ifndef FLOATS_H
#define FLOATS_H

#include "bench.h"

// In 0 to 1.
static inline double next_fraction(uint32_t *state) { return (next_random(state) >> 8) * (1.0 / 0x1000000); }

// Every bit of the value counts.
static inline uint32_t add_bits(uint32_t checksum, double value) {
    union {
        double value;
        uint64_t bits;
    } both = {value};
    return (checksum * 31 + (uint32_t)both.bits) * 31 + (uint32_t)(both.bits >> 32);
}

#endif
