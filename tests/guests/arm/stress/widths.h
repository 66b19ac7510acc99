// SPDX-License-Identifier: Apache-2.0
// Atomic accesses of every width by LDREX{B,H,,D}/STREX{B,H,,D}.
#include "guest.h"

#ifdef CONTROL
#define LOAD(type, suffix) "ldr" #suffix " %[old], [%[address]]\n\t"
#define STORE(type, suffix) "str" #suffix " %[new], [%[address]]\n\tmov %[failed], #0\n\t"
#define LOAD_PAIR "ldrd %[old], %H[old], [%[address]]\n\t"
#define STORE_PAIR "strd %[new], %H[new], [%[address]]\n\tmov %[failed], #0\n\t"
#else
#define LOAD(type, suffix) "ldrex" #suffix " %[old], [%[address]]\n\t"
#define STORE(type, suffix) "strex" #suffix " %[failed], %[new], [%[address]]\n\t"
#define LOAD_PAIR "ldrexd %[old], %H[old], [%[address]]\n\t"
#define STORE_PAIR "strexd %[failed], %[new], %H[new], [%[address]]\n\t"
#endif

// One addition in a loop until the store succeeds; `between` puts a YIELD between load and store.
#define DEFINE_ADD(name, type, suffix)                                                                                 \
    static inline void name(volatile type *address, uint32_t value, bool between) {                                    \
        uint32_t old, new, failed;                                                                                     \
        do {                                                                                                           \
            if (between)                                                                                               \
                __asm__ volatile(LOAD(type, suffix) "yield\n\tadd %[new], %[old], %[value]\n\t" STORE(type, suffix)    \
                                 : [old] "=&r"(old), [new] "=&r"(new), [failed] "=&r"(failed)                          \
                                 : [address] "r"(address), [value] "r"(value)                                          \
                                 : "memory");                                                                          \
            else                                                                                                       \
                __asm__ volatile(LOAD(type, suffix) "add %[new], %[old], %[value]\n\t" STORE(type, suffix)             \
                                 : [old] "=&r"(old), [new] "=&r"(new), [failed] "=&r"(failed)                          \
                                 : [address] "r"(address), [value] "r"(value)                                          \
                                 : "memory");                                                                          \
        } while (failed);                                                                                              \
    }
DEFINE_ADD(add8, uint8_t, b)
DEFINE_ADD(add16, uint16_t, h)
DEFINE_ADD(add32, uint32_t, )

static inline void add64(volatile uint64_t *address, uint64_t value, bool between) {
    uint64_t old, new;
    uint32_t failed;
    do {
        if (between)
            __asm__ volatile(LOAD_PAIR "yield\n\tadds %[new], %[old], %[value]\n\tadc %H[new], %H[old], %H[value]\n\t"
                                 STORE_PAIR
                             : [old] "=&r"(old), [new] "=&r"(new), [failed] "=&r"(failed)
                             : [address] "r"(address), [value] "r"(value)
                             : "memory", "cc");
        else
            __asm__ volatile(LOAD_PAIR "adds %[new], %[old], %[value]\n\tadc %H[new], %H[old], %H[value]\n\t" STORE_PAIR
                             : [old] "=&r"(old), [new] "=&r"(new), [failed] "=&r"(failed)
                             : [address] "r"(address), [value] "r"(value)
                             : "memory", "cc");
    } while (failed);
}

static inline uint64_t exchange64(volatile uint64_t *address, uint64_t value) {
    uint64_t old;
    uint32_t failed;
    do {
        __asm__ volatile("ldrexd %0, %H0, [%2]\n\tstrexd %1, %3, %H3, [%2]"
                         : "=&r"(old), "=&r"(failed)
                         : "r"(address), "r"(value)
                         : "memory");
    } while (failed);
    return old;
}

static inline bool store_after_clear_fails(volatile uint32_t *word) {
    uint32_t old, failed;
    __asm__ volatile("ldrex %0, [%2]\n\tclrex\n\tstrex %1, %3, [%2]"
                     : "=&r"(old), "=&r"(failed)
                     : "r"(word), "r"(1)
                     : "memory");
    return failed == 1 && *word == 0;
}
