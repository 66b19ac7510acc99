// SPDX-License-Identifier: Apache-2.0
// Counters of every width by LDREX{B,H,,D}/STREX{B,H,,D}; neighbouring bytes and halfwords, one for each CPU; CLREX;
// and a doubleword whose halves must always be seen together. Control: plain loads and stores.
#include "guest.h"
GUEST_ENTRY

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

#define START64 0xfffffffffffff000ull // the low word carries into the high one many times
static struct {
    volatile uint8_t byte ALIGNED(64);
    volatile uint16_t half ALIGNED(64);
    volatile uint32_t word ALIGNED(64);
    volatile uint64_t pair ALIGNED(64);
    volatile uint8_t bytes[MAX_CPUS] ALIGNED(64);
    volatile uint16_t halves[MAX_CPUS] ALIGNED(64);
    volatile uint64_t whole ALIGNED(64);
} shared;
static volatile uint32_t torn, not_cleared;

// Both halves hold the same number, whoever wrote last.
static void check_whole(unsigned i) {
    uint64_t value = (uint64_t)i << 32 | i, seen;
    uint32_t failed;
    do {
        __asm__ volatile("ldrexd %0, %H0, [%2]\n\tstrexd %1, %3, %H3, [%2]"
                         : "=&r"(seen), "=&r"(failed)
                         : "r"(&shared.whole), "r"(value)
                         : "memory");
    } while (failed);
    if ((uint32_t)seen != seen >> 32)
        fetch_add(&torn, 1);
}

// The store of a cleared reservation must fail.
static void check_clrex(void) {
    static volatile uint32_t scratch[MAX_CPUS];
    uint32_t old, failed;
    __asm__ volatile("ldrex %0, [%2]\n\tclrex\n\tstrex %1, %3, [%2]"
                     : "=&r"(old), "=&r"(failed)
                     : "r"(&scratch[cpu_id()]), "r"(1)
                     : "memory");
    if (failed != 1 || scratch[cpu_id()])
        fetch_add(&not_cleared, 1);
}

static void work(unsigned cpu) {
    meet();
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool between = i % 64 == 0;
        add8(&shared.byte, 3, between);
        add16(&shared.half, 5, between);
        add32(&shared.word, 0x10001, between);
        add64(&shared.pair, 0x100000001ull + 0x80000000u, between);
        add8(&shared.bytes[cpu], 1, between);
        add16(&shared.halves[cpu], 1, between);
        check_whole(i);
        if (i % 16 == 0)
            check_clrex();
    }
}

int main(void) {
    mmu_on();
    shared.pair = START64;
    run_on_all(work);
    uint32_t adds = cpu_count * ROUNDS;
    uint64_t pair = START64 + (0x100000001ull + 0x80000000u) * adds;
    unsigned wrong = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        wrong += (shared.bytes[cpu] != (uint8_t)ROUNDS) + (shared.halves[cpu] != (uint16_t)ROUNDS);
    if (shared.byte != (uint8_t)(3 * adds) || shared.half != (uint16_t)(5 * adds) || shared.word != 0x10001 * adds ||
        shared.pair != pair || wrong || torn || not_cleared)
        fail("cpus=%u adds=%u byte=%02x half=%04x word=%08x pair=%016llx (expected %02x %04x %08x %016llx) "
             "neighbours-wrong=%u torn=%u not-cleared=%u",
             cpu_count, adds, shared.byte, shared.half, shared.word, shared.pair, (uint8_t)(3 * adds),
             (uint16_t)(5 * adds), 0x10001 * adds, pair, wrong, torn, not_cleared);
    pass("cpus=%u adds=%u", cpu_count, adds);
}
