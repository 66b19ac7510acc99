// SPDX-License-Identifier: Apache-2.0
// Writing instructions by the sequence of ARM DDI 0406C, A3.5.4.
#include "guest.h"

// A function that returns the value.
static inline void encode(uint32_t *at, uint32_t value) {
    at[0] = 0xe3000000u | (value & 0xf000) << 4 | (value & 0xfff);     // movw r0, #low
    at[1] = 0xe3400000u | (value >> 28) << 16 | (value >> 16 & 0xfff); // movt r0, #high
    at[2] = 0xe12fff1eu;                                               // bx lr
}

static inline void synchronise_code(uint32_t *at, unsigned words) {
    for (unsigned i = 0; i < words; i++)
        WRITE_CP15(0, c7, c11, 1, &at[i]); // DCCMVAU
    dsb();
    for (unsigned i = 0; i < words; i++)
        WRITE_CP15(0, c7, c5, 1, &at[i]); // ICIMVAU
    WRITE_CP15(0, c7, c1, 6, 0);          // BPIALLIS
    dsb();
    isb();
}

// The exception does it.
static inline void synchronise_in_handler(void) {}
