// SPDX-License-Identifier: Apache-2.0
// Interrupt storm: each CPU sends each other CPU software-generated interrupts of all 16 numbers, one after the other
// by target list and by "all others", never one that is still on its way; each must arrive once, with its number and
// sender. Control: sends without waiting, so that interrupts merge.
#include "guest.h"
GUEST_ENTRY

#define NUMBERS 16u
static volatile uint8_t on_the_way[MAX_CPUS][MAX_CPUS][NUMBERS]; // [target][source][number]
static volatile uint32_t received[MAX_CPUS][MAX_CPUS][NUMBERS];
static volatile uint32_t strange;

static void handler(unsigned interrupt, unsigned source) {
    unsigned cpu = cpu_id();
    if (interrupt >= NUMBERS || !on_the_way[cpu][source][interrupt]) {
        fetch_add(&strange, 1);
        return;
    }
    received[cpu][source][interrupt]++;
    on_the_way[cpu][source][interrupt] = 0;
    memory_barrier();
}

static void wait_arrival(unsigned target, unsigned source, unsigned number) {
#ifndef CONTROL
    spin_until(!on_the_way[target][source][number]);
#else
    (void)target, (void)source, (void)number;
#endif
}

static void work(unsigned cpu) {
    if (cpu)
        interrupts_start_cpu();
    irq_on();
    meet();
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned number = 0; number < NUMBERS; number++) {
            for (unsigned target = 0; target < cpu_count; target++)
                if (target != cpu) {
                    wait_arrival(target, cpu, number);
                    on_the_way[target][cpu][number] = 1;
                    if (round % 2)
                        send_sgi(number, 1u << target);
                }
            if (round % 2 == 0 && cpu_count > 1)
                send_sgi_others(number);
        }
    for (unsigned number = 0; number < NUMBERS; number++)
        for (unsigned target = 0; target < cpu_count; target++)
            wait_arrival(target, cpu, number);
    meet();
    irq_off();
}

int main(void) {
    mmu_on();
    interrupts_start(handler);
    run_on_all(work);
    unsigned lost = 0, total = 0;
    for (unsigned target = 0; target < cpu_count; target++)
        for (unsigned source = 0; source < cpu_count; source++)
            for (unsigned number = 0; number < NUMBERS; number++) {
                uint32_t expected = target == source ? 0 : ROUNDS;
                lost += expected - received[target][source][number];
                total += expected;
            }
#ifdef CONTROL
    strange = 0; // a merged interrupt is not strange here
#endif
    if (lost || strange)
        fail("cpus=%u sent=%u lost=%d strange=%u", cpu_count, total, (int)lost, strange);
    pass("cpus=%u sent=%u", cpu_count, total);
}
