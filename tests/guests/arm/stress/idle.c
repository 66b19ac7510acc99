// SPDX-License-Identifier: Apache-2.0
// All CPUs sleep in WFI, without ticks, for SECONDS; CPU 0's timer ends it. For measuring what sleeping costs the host.
#include "guest.h"
GUEST_ENTRY

static volatile uint32_t over, wakes[MAX_CPUS][16];

static void handler(unsigned interrupt, unsigned source) {
    (void)source;
    if (interrupt == INTERRUPT_VIRTUAL_TIMER) {
        WRITE_CP15(0, c14, c3, 1, 0); // CNTV_CTL
        over = 1;
        if (cpu_count > 1)
            send_sgi_others(0);
    }
}

static void work(unsigned cpu) {
    if (cpu)
        gic_cpu_on();
    meet();
    if (cpu == 0) {
        gic_enable(INTERRUPT_VIRTUAL_TIMER);
        WRITE_CP15(0, c14, c3, 0, counter_frequency() * SECONDS); // CNTV_TVAL
        WRITE_CP15(0, c14, c3, 1, 1);                             // CNTV_CTL
        isb();
    }
    // Masked, so that an interrupt between the look and the WFI is not lost.
    while (!over) {
        wfi();
        wakes[cpu][0]++;
        irq_on();
        isb();
        irq_off();
    }
}

int main(void) {
    mmu_on();
    gic_on(handler);
    run_on_all(work);
    uint32_t total = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        total += wakes[cpu][0];
    pass("cpus=%u seconds=%u wakes=%u", cpu_count, SECONDS, total);
}
