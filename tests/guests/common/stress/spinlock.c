// SPDX-License-Identifier: Apache-2.0
// A spinning lock guards two counters and the name of its owner. Control: no lock.
#include "atomic.h"
GUEST_ENTRY

#ifndef CONTROL
static volatile uint32_t lock ALIGNED(64);
#endif
static volatile uint32_t owner ALIGNED(64);
static volatile uint32_t first, second;
static volatile uint32_t intruders;

static void acquire(void) {
#ifndef CONTROL
    lock_acquire(&lock);
#endif
}

static void release(void) {
#ifndef CONTROL
    lock_release(&lock);
#endif
}

static void work(unsigned cpu) {
    meet();
    for (unsigned i = 0; i < ROUNDS; i++) {
        acquire();
        owner = cpu + 1;
        first = first + 1;
        if (i % 64 == 0)
            cpu_yield(); // lets another CPU try, also when CPUs run in turn
        second = second + 1;
        if (owner != cpu + 1)
            intruders = intruders + 1;
        release();
    }
}

int main(void) {
    mmu_on();
    run_on_all(work);
    uint32_t expected = cpu_count * ROUNDS;
    if (first != expected || second != expected || intruders)
        fail("cpus=%u first=%u second=%u expected=%u intruders=%u", cpu_count, first, second, expected, intruders);
    pass("cpus=%u count=%u", cpu_count, expected);
}
