// SPDX-License-Identifier: Apache-2.0
// Every CPU says hello in turn, MMU and caches on.
#include "guest.h"
GUEST_ENTRY

static volatile uint32_t turn;

static void work(unsigned cpu) {
    wait_until(turn == cpu);
    print("hello from cpu %u " CPU_REGISTER "=%08x\n", cpu, cpu_register());
    memory_barrier();
    turn = cpu + 1;
    wake_waiters();
}

int main(void) {
    mmu_on();
    run_on_all(work);
    if (turn != cpu_count)
        fail("%u of %u CPUs had their turn", (unsigned)turn, cpu_count);
    pass("cpus=%u", cpu_count);
}
