// SPDX-License-Identifier: Apache-2.0
// LDx_L and STx_C as only Alpha has them. A counter is added to with what implementations let a STx_C fail for in
// between: a branch that is taken, a store and a load of the same CPU elsewhere. Whether it fails or not, no addition
// may be lost or done twice. After an interrupt's return, and after another STx_C, it must fail (Alpha Architecture
// Reference Manual, 4.2.5 and II-B 2.2). Control: plain loads and stores.
#include "atomic.h"
GUEST_ENTRY

#define TRIES 100u // then without anything in between

#ifdef CONTROL
#define LOCKED(load, between, store) load " %0, %2\n\t" between "addq %0, 1, %0\n\t" store " %0, %2\n\tlda %0, 1($31)"
#define LOAD32 "ldl"
#define STORE32 "stl"
#define LOAD64 "ldq"
#define STORE64 "stq"
#else
#define LOCKED(load, between, store) load " %0, %2\n\t" between "addq %0, 1, %0\n\t" store " %0, %2"
#define LOAD32 "ldl_l"
#define STORE32 "stl_c"
#define LOAD64 "ldq_l"
#define STORE64 "stq_c"
#endif
#define NOTHING ""
#define BRANCH "br $31, 1f\n\tcall_pal 0\n1:\t"
#define OWN_STORE "stq %0, %3\n\t"
#define OWN_LOAD "ldq %1, %3\n\t"

// One addition; whether it was done.
#define TRY(address, load, between, store)                                                                             \
    ({                                                                                                                 \
        uint64_t done_, other_;                                                                                        \
        __asm__ volatile(LOCKED(load, between, store)                                                                  \
                         : "=&r"(done_), "=&r"(other_), "+m"(*(address)), "+m"(scratch[cpu][0])                        \
                         :                                                                                             \
                         : "memory");                                                                                  \
        done_ != 0;                                                                                                    \
    })
#define ADD(address, load, between, store)                                                                             \
    do {                                                                                                               \
        unsigned left_ = TRIES;                                                                                        \
        while (left_ && !TRY(address, load, between, store))                                                           \
            left_--;                                                                                                   \
        while (!left_ && !TRY(address, load, NOTHING, store)) {                                                        \
        }                                                                                                              \
    } while (0)

static volatile uint32_t longs ALIGNED(128);
static volatile uint64_t quads ALIGNED(128);
static volatile uint64_t scratch[MAX_CPUS][16] ALIGNED(128);
static volatile uint32_t ticks[MAX_CPUS][16];
static volatile uint32_t kept;

static void tick(void) { ticks[cpu_id()][0]++; }

#ifndef CONTROL
// An interrupt between the load and the store: the return from it clears the lock flag. The alarm is let in only after
// the load.
static void check_interrupted(unsigned cpu) {
    uint64_t seen, before = ticks[cpu][0], done = 1;
    alarm_in(10000);
    __asm__ volatile("ldq_l %0, %2\n\t"
                     "bis $31, $31, $16\n\t"
                     "call_pal 0x35\n" // SWPIPL
                     "1:\tldl %0, %3\n\t"
                     "cmpeq %0, %4, %0\n\t"
                     "bne %0, 1b\n\t"
                     "stq_c %1, %2"
                     : "=&r"(seen), "+&r"(done), "+m"(scratch[cpu][8])
                     : "m"(ticks[cpu][0]), "r"(before)
                     : "memory", "$0", "$1", "$16", "$22", "$23", "$24", "$25");
    irq_off();
    if (done)
        fetch_add(&kept, 1);
}

static void check_second_store(unsigned cpu) {
    uint64_t first, second = 1;
    __asm__ volatile("ldq_l %0, %2\n\tstq_c %0, %2\n\tstq_c %1, %2"
                     : "=&r"(first), "+&r"(second), "+m"(scratch[cpu][8])::"memory");
    if (second)
        fetch_add(&kept, 1);
}
#endif

static void work(unsigned cpu) {
    meet();
    for (unsigned i = 0; i < ROUNDS; i++) {
        ADD(&longs, LOAD32, NOTHING, STORE32);
        ADD(&quads, LOAD64, BRANCH, STORE64);
        ADD(&longs, LOAD32, OWN_STORE, STORE32);
        ADD(&quads, LOAD64, OWN_LOAD, STORE64);
#ifdef CONTROL
        if (i % 64 == 0) { // where CPUs run in turn, another one runs
            uint64_t old = quads;
            cpu_yield();
            quads = old;
        }
#else
        if (i % 1024 == 0)
            check_interrupted(cpu);
        if (i % 64 == 0)
            check_second_store(cpu);
#endif
    }
}

int main(void) {
    mmu_on();
    timer_hook = tick;
    run_on_all(work);
    uint32_t expected = 2 * cpu_count * ROUNDS;
    if (longs != expected || quads != expected || kept)
        fail("cpus=%u longs=%u quads=%llu of %u, stores of cleared locks=%u", cpu_count, longs, quads, expected, kept);
    pass("cpus=%u additions=%u", cpu_count, expected);
}
