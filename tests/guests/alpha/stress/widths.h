// SPDX-License-Identifier: Apache-2.0
// Atomic accesses of every width: those of bytes and words by the quadword that they are in.
#include "atomic.h"

#ifdef CONTROL
// `between`: sleeps between load and store.
#define DEFINE_ADD(name, type)                                                                                         \
    static inline void name(volatile type *address, type value, bool between) {                                        \
        type old = *address;                                                                                           \
        if (between)                                                                                                   \
            cpu_yield();                                                                                               \
        *address = (type)(old + value);                                                                                \
    }
DEFINE_ADD(add8, uint8_t)
DEFINE_ADD(add16, uint16_t)
DEFINE_ADD(add32, uint32_t)
DEFINE_ADD(add64, uint64_t)
#else
#define DEFINE_ADD_WITHIN(name, type, extract, insert, mask)                                                           \
    static inline void name(volatile type *address, uint64_t value, bool between) {                                    \
        volatile uint64_t *quad = (volatile uint64_t *)((uint64_t)address & ~7ull);                                    \
        uint64_t old, new;                                                                                             \
        (void)between;                                                                                                 \
        do {                                                                                                           \
            __asm__ volatile("ldq_l %0, %2\n\t" extract " %0, %3, %1\n\taddq %1, %4, %1\n\t" insert                  \
                             " %1, %3, %1\n\t" mask " %0, %3, %0\n\tbis %0, %1, %1\n\tstq_c %1, %2"                  \
                             : "=&r"(old), "=&r"(new), "+m"(*quad)                                                     \
                             : "r"(address), "r"(value)                                                                \
                             : "memory");                                                                              \
        } while (!new);                                                                                                \
    }
DEFINE_ADD_WITHIN(add8, uint8_t, "extbl", "insbl", "mskbl")
DEFINE_ADD_WITHIN(add16, uint16_t, "extwl", "inswl", "mskwl")

static inline void add32(volatile uint32_t *address, uint32_t value, bool between) {
    (void)between;
    add_atomically(address, value);
}

static inline void add64(volatile uint64_t *address, uint64_t value, bool between) {
    uint64_t new;
    (void)between;
    do {
        __asm__ volatile("ldq_l %0, %1\n\taddq %0, %2, %0\n\tstq_c %0, %1"
                         : "=&r"(new), "+m"(*address)
                         : "r"(value)
                         : "memory");
    } while (!new);
}
#endif

static inline uint64_t exchange64(volatile uint64_t *address, uint64_t value) {
    uint64_t old, done;
    do {
        __asm__ volatile("ldq_l %0, %2\n\tbis $31, %3, %1\n\tstq_c %1, %2"
                         : "=&r"(old), "=&r"(done), "+m"(*address)
                         : "r"(value)
                         : "memory");
    } while (!done);
    return old;
}

// A store-conditional clears the lock flag, whether it stores or not (Alpha Architecture Reference Manual, 4.2.5).
static inline bool store_after_clear_fails(volatile uint32_t *word) {
    uint32_t old, done = 1;
    __asm__ volatile("ldl_l %0, %2\n\tstl_c %0, %2\n\tstl_c %1, %2" : "=&r"(old), "+&r"(done), "+m"(*word)::"memory");
    return !done && *word == 0;
}
