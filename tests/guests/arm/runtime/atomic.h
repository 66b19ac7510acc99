// SPDX-License-Identifier: Apache-2.0
// What LDREX and STREX make atomic.
#ifndef ATOMIC_H
#define ATOMIC_H

#include "guest.h"

static inline uint32_t add_atomically(volatile uint32_t *address, uint32_t value) {
    uint32_t old, new, failed;
    do {
        __asm__ volatile("ldrex %0, [%3]\n\tadd %1, %0, %4\n\tstrex %2, %1, [%3]"
                         : "=&r"(old), "=&r"(new), "=&r"(failed)
                         : "r"(address), "r"(value)
                         : "memory");
    } while (failed);
    return old;
}

// 0: free, 1: taken.
static inline void lock_acquire(volatile uint32_t *lock) {
    uint32_t old, failed;
    do {
        __asm__ volatile("ldrex %0, [%2]\n\tcmp %0, #0\n\tstrexeq %1, %3, [%2]\n\tmovne %1, #1\n\tyieldne"
                         : "=&r"(old), "=&r"(failed)
                         : "r"(lock), "r"(1)
                         : "memory", "cc");
    } while (failed);
    dmb();
}

static inline void lock_release(volatile uint32_t *lock) {
    dmb();
    *lock = 0;
}

#endif
