// SPDX-License-Identifier: Apache-2.0
// What LDx_L and STx_C make atomic. As the manual wants it, no branch is taken and no memory is accessed in between
// (Alpha Architecture Reference Manual, 4.2.5).
#ifndef ATOMIC_H
#define ATOMIC_H

#include "guest.h"

// Stores NEW, an expression of OLD by an instruction, and gives the old value.
#define ATOMIC_LONG_(address, instruction, operand)                                                                    \
    ({                                                                                                                 \
        uint32_t old_, new_;                                                                                           \
        __asm__ volatile("1:\tldl_l %0, %2\n\t" instruction "\n\tstl_c %1, %2\n\tbeq %1, 2f\n\t"                       \
                         ".subsection 2\n2:\tbr 1b\n\t.previous"                                                       \
                         : "=&r"(old_), "=&r"(new_), "+m"(*(address))                                                  \
                         : "rI"(operand)                                                                               \
                         : "memory");                                                                                  \
        old_;                                                                                                          \
    })

static inline uint32_t add_atomically(volatile uint32_t *address, uint32_t value) {
    return ATOMIC_LONG_(address, "addl %0, %3, %1", value);
}
static inline uint32_t or_atomically(volatile uint32_t *address, uint32_t value) {
    return ATOMIC_LONG_(address, "bis %0, %3, %1", value);
}
static inline uint32_t exchange(volatile uint32_t *address, uint32_t value) {
    return ATOMIC_LONG_(address, "bis $31, %3, %1", value);
}

// 0: free, 1: taken.
static inline void lock_acquire(volatile uint32_t *lock) {
    for (unsigned round = 0; exchange(lock, 1); round++)
        spin_hint(round);
    memory_barrier();
}

static inline void lock_release(volatile uint32_t *lock) {
    memory_barrier();
    *lock = 0;
}

#endif
