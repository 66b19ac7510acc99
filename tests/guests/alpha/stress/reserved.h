// SPDX-License-Identifier: Apache-2.0
// LDL_L, an exchange with another CPU, STL_C. An implementation may let every STL_C fail that comes after a branch or
// another access (Alpha Architecture Reference Manual, 4.2.5), so only those that must fail say something.
#include "guest.h"

// Stores to `word` what LDL_L read there, once `answered` is the `round` that is stored to `asked`; whether STL_C
// failed.
static inline uint32_t store_what_was_there(volatile uint32_t *word, volatile uint32_t *asked,
                                            volatile uint32_t *answered, uint32_t round) {
    uint32_t old, seen;
    __asm__ volatile("ldl_l %[old], %[word]\n\t"
                     "mb\n\t"
                     "stl %[round], %[asked]\n\t"
                     "mb\n"
                     "1:\n\t"
                     "ldl %[seen], %[answered]\n\t"
                     "cmpeq %[seen], %[round], %[seen]\n\t"
                     "beq %[seen], 1b\n\t"
                     "mb\n\t"
                     "stl_c %[old], %[word]"
                     : [old] "=&r"(old), [seen] "=&r"(seen), [word] "+m"(*word), [asked] "=m"(*asked)
                     : [answered] "m"(*answered), [round] "r"(round)
                     : "memory");
    return !old;
}
