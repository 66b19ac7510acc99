// SPDX-License-Identifier: Apache-2.0
// Starting the other CPUs, meeting points, and the patience of waiting loops. The machine's other_cpus.h has how a CPU
// is started.
#include "guest.h"
#include "other_cpus.h"

#define PATIENCE_SECONDS 120

unsigned cpu_count = 1;
static void (*volatile secondary_work)(unsigned cpu);
static volatile bool secondaries_use_mmu;
static volatile uint32_t finished;
static volatile uint32_t meet_arrived, meet_round;

uint32_t fetch_add(volatile uint32_t *address, uint32_t value) {
    memory_barrier();
    uint32_t old = add_atomically(address, value);
    memory_barrier();
    return old;
}

// Called from start.S on each CPU that start_cpu started.
void secondary_main(unsigned cpu) {
    if (secondaries_use_mmu)
        mmu_on();
    wait_until(secondary_work);
    secondary_work(cpu);
    fetch_add(&finished, 1);
    wake_waiters();
}

void run_on_all(void (*work)(unsigned cpu)) {
    secondaries_use_mmu = mmu_is_on();
    prepare_start();
    for (cpu_count = 1; cpu_count < MAX_CPUS; cpu_count++)
        if (!start_cpu(cpu_count))
            break;
    memory_barrier();
    secondary_work = work;
    wake_waiters();
    work(0);
    wait_until(finished == cpu_count - 1);
}

void meet(void) {
    uint32_t round = meet_round;
    memory_barrier();
    if (fetch_add(&meet_arrived, 1) == cpu_count - 1) {
        meet_arrived = 0;
        memory_barrier();
        meet_round = round + 1;
        wake_waiters();
    } else {
        wait_until(meet_round != round);
    }
}

void spin_meet(SpinBarrier *barrier, unsigned count) {
    uint32_t round = barrier->round;
    memory_barrier();
    if (fetch_add(&barrier->arrived, 1) == count - 1) {
        barrier->arrived = 0;
        memory_barrier();
        barrier->round = round + 1;
    } else {
        spin_until(barrier->round != round);
    }
}

void check_patience(uint64_t start, const char *what) {
    stop_if_over();
    if ((counter() - start) >> 4 > (uint64_t)counter_frequency() / 16 * PATIENCE_SECONDS)
        fail("cpu %u waited too long for %s", cpu_id(), what);
}

// The compiler may call these for copies and initialisations.
void *memset(void *to, int value, size_t size) {
    for (char *p = to; size--;)
        *p++ = (char)value;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    char *p = to;
    for (const char *q = from; size--;)
        *p++ = *q++;
    return to;
}
