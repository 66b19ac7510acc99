// SPDX-License-Identifier: Apache-2.0
// Frame of a benchmark kernel: one CPU, MMU and caches on. build.py gives REPEATS and the checksum EXPECTED of it.
#include "guest.h"
GUEST_ENTRY

uint32_t kernel(void);

// Numerical Recipes' generator: the same data on every machine.
static inline uint32_t next_random(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

int main(void) {
    mmu_on();
    uint32_t checksum = kernel();
    if (checksum != EXPECTED)
        fail("checksum=%08x expected=%08x", checksum, EXPECTED);
    pass("checksum=%08x repeats=%u", checksum, REPEATS);
}
