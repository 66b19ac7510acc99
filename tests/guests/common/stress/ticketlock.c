// SPDX-License-Identifier: Apache-2.0
// A ticket lock: tickets by atomic additions; who waits is woken. Control: nobody waits for the turn.
#include "guest.h"
GUEST_ENTRY

static volatile uint32_t next_ticket ALIGNED(64), now_serving ALIGNED(64);
static volatile uint32_t count ALIGNED(64), disorder;

#ifdef CONTROL
#define COUNT (ROUNDS * 1000) // nobody waits, so that it takes more to come in each other's way
#else
#define COUNT ROUNDS
#endif

static void work(unsigned cpu) {
    (void)cpu;
    meet();
    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t ticket = fetch_add(&next_ticket, 1);
#ifndef CONTROL
        wait_until(now_serving == ticket);
#endif
        uint32_t seen = count;
        if (i % 16 == 0)
            cpu_yield();
        if (seen != ticket)
            disorder = disorder + 1;
        count = seen + 1;
        memory_barrier();
        now_serving = ticket + 1;
        wake_waiters();
    }
}

int main(void) {
    mmu_on();
    run_on_all(work);
    uint32_t expected = cpu_count * COUNT;
    if (count != expected || disorder)
        fail("cpus=%u count=%u expected=%u disorder=%u", cpu_count, count, expected, disorder);
    pass("cpus=%u count=%u", cpu_count, expected);
}
