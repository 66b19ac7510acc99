// SPDX-License-Identifier: Apache-2.0
// One token goes round all CPUs by software-generated interrupts: who gets it sends it on, and sleeps in WFI until it
// comes again (SPIN: spins with YIELD). Each hop must come from the CPU before, with the number that this hop has.
#include "guest.h"
GUEST_ENTRY

#define NUMBERS 16u

// Written by the CPU that has the token alone.
static volatile uint32_t hops ALIGNED(64), strange;
static volatile uint32_t last_hop[MAX_CPUS][16];

static void send_on(unsigned cpu, uint32_t hop) { send_sgi(hop % NUMBERS, 1u << (cpu + 1) % cpu_count); }

static void handler(unsigned interrupt, unsigned source) {
    unsigned cpu = cpu_id();
    uint32_t hop = hops;
    if (interrupt != hop % NUMBERS || (source + 1) % cpu_count != cpu)
        strange++;
    hops = hop + 1;
    last_hop[cpu][0] = hop;
    memory_barrier();
    if (hop + 1 < ROUNDS + cpu_count)
        send_on(cpu, hop + 1);
}

static void work(unsigned cpu) {
    if (cpu)
        interrupts_start_cpu();
    meet();
    if (cpu == 0)
        send_on(cpu, 0);
    while (last_hop[cpu][0] < ROUNDS) {
#ifdef SPIN
        cpu_yield();
#else
        wfi();
#endif
        irq_on();
        irq_off();
    }
}

int main(void) {
    mmu_on();
    interrupts_start(handler);
    run_on_all(work);
    if (strange || hops != ROUNDS + cpu_count)
        fail("cpus=%u hops=%u strange=%u", cpu_count, hops, strange);
    pass("cpus=%u hops=%u", cpu_count, hops);
}
