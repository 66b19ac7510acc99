// SPDX-License-Identifier: Apache-2.0
// Exact reservations: between LDREX and STREX of CPU 0, CPU 1 stores another value and then the old one (A, B, A), or
// the old one alone, to the reserved word; the STREX must fail (ARM DDI 0406C, A3.4.2). An emulator whose
// store-exclusive compares values lets it succeed. Every third round CPU 1 stores elsewhere, and STREX should succeed.
#include "guest.h"
GUEST_ENTRY

static volatile uint32_t word ALIGNED(4096), elsewhere ALIGNED(4096);
static volatile uint32_t asked ALIGNED(64), answered ALIGNED(64);
static uint32_t broken, kept, needless;

static void reserve_and_store(uint32_t round) {
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
                     : [word] "r"(&word), [asked] "r"(&asked), [answered] "r"(&answered), [round] "r"(round)
                     : "memory", "cc");
    if (round % 3 == 0)
        needless += failed;
    else if (failed)
        broken++;
    else
        kept++;
}

static void work(unsigned cpu) {
    meet();
    if (cpu_count == 1 || cpu > 1)
        return;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        if (cpu == 0) {
            reserve_and_store(round);
            continue;
        }
        wait_until(asked == round);
        uint32_t old = word;
        if (round % 3 == 0) {
            elsewhere = round;
        } else {
            if (round % 3 == 1)
                word = ~old;
            word = old;
        }
        dmb();
        answered = round;
        dsb();
    }
}

int main(void) {
    mmu_on();
    run_on_all(work);
    if (kept)
        fail("cpus=%u STREX succeeded after a store to its word %u of %u times", cpu_count, kept, kept + broken);
    pass("cpus=%u refused=%u needlessly=%u", cpu_count, broken, needless);
}
