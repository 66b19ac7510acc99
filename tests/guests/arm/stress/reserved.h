// SPDX-License-Identifier: Apache-2.0
// LDREX, an exchange with another CPU, STREX.
#include "guest.h"

// Stores to `word` what LDREX read there, once `answered` is the `round` that is stored to `asked`; whether STREX
// failed.
static inline uint32_t store_what_was_there(volatile uint32_t *word, volatile uint32_t *asked,
                                            volatile uint32_t *answered, uint32_t round) {
    uint32_t old, failed;
    __asm__ volatile("ldrex %[old], [%[word]]\n\t"
                     "dmb\n\t"
                     "str %[round], [%[asked]]\n\t"
                     "dsb\n\t"
                     "sev\n"
                     "1:\n\t"
                     "ldr %[failed], [%[answered]]\n\t"
                     "cmp %[failed], %[round]\n\t"
                     "yieldne\n\t"
                     "bne 1b\n\t"
                     "dmb\n\t"
                     "strex %[failed], %[old], [%[word]]"
                     : [old] "=&r"(old), [failed] "=&r"(failed)
                     : [word] "r"(word), [asked] "r"(asked), [answered] "r"(answered), [round] "r"(round)
                     : "memory", "cc");
    return failed;
}
