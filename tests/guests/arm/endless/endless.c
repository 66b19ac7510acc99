// SPDX-License-Identifier: Apache-2.0
// Guests that never end by themselves, for tests of stopping, pausing and looking at a machine in trouble. Each CPU but
// the one in trouble stays in the same loop. They print "ready" first.
//   LOOP            a branch to itself, interrupts masked
//   COUNT           counts in memory and in r0, MMU on
//   SLEEP           WFI with nothing to wake it
//   STRAY_PC        a jump to where no memory is; the vectors are there too: aborts for ever
//   STRAY_UNDEFINED an undefined instruction whose vector is another one
#include "guest.h"
GUEST_ENTRY

static volatile uint32_t ready;

#ifdef COUNT
volatile uint32_t counts[MAX_CPUS][16];
#endif

static void trouble(unsigned cpu) {
    fetch_add(&ready, 1);
    sev();
    if (cpu == 0) {
        wait_until(ready == cpu_count);
        print("ready cpus=%u\n", cpu_count);
    }
#if defined LOOP
    __asm__ volatile("b .");
#elif defined COUNT
    for (uint32_t i = 0;; i++)
        counts[cpu][0] = i;
#elif defined SLEEP
    for (;;)
        wfi();
#elif defined STRAY_PC
    WRITE_CP15(0, c12, c0, 0, 0x20000000); // VBAR
    isb();
    ((void (*)(void))0x20001000)();
#elif defined STRAY_UNDEFINED
    static const uint32_t undefined_vectors[8] ALIGNED(32) = {0xe7f000f0, 0xe7f000f0, 0xe7f000f0, 0xe7f000f0,
                                                              0xe7f000f0, 0xe7f000f0, 0xe7f000f0, 0xe7f000f0};
    WRITE_CP15(0, c12, c0, 0, undefined_vectors);
    isb();
    __asm__ volatile(".inst 0xe7f000f0");
#endif
}

int main(void) {
    mmu_on();
    run_on_all(trouble);
    fail("came back");
}
