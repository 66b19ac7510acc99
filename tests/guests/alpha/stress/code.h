// SPDX-License-Identifier: Apache-2.0
// Writing instructions: each CPU that runs them has to execute an IMB (Alpha Architecture Reference Manual, 6.7.3).
#include "guest.h"

// A function that returns the value, whose bit 15 is clear.
static inline void encode(uint32_t *at, uint32_t value) {
    at[0] = 0x241f0000u | value >> 16;     // ldah $0, high($31)
    at[1] = 0x20000000u | (value & 0xffff); // lda $0, low($0)
    at[2] = 0x6bfa8001u;                    // ret
}

static inline void synchronise_code(uint32_t *at, unsigned words) {
    (void)at, (void)words;
    memory_barrier();
    fetch_barrier();
}

static inline void synchronise_in_handler(void) { fetch_barrier(); }
