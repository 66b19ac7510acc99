// SPDX-License-Identifier: Apache-2.0
// The interval timer ticks 1024 times a second on every CPU, which sleeps in between. No tick is early, and none is lost:
// a CPU that is late gets them afterwards.
#include "guest.h"
#include "clock_chip.h"
GUEST_ENTRY

#define PERIODS_PER_SECOND 1024u
#define SECOND_NS 1000000000ull

static struct {
    volatile uint64_t ticks;
} ALIGNED(64) cpus[MAX_CPUS];
static volatile uint64_t start;
static volatile uint32_t ready;

static void tick(void) { cpus[cpu_id()].ticks++; }

static uint64_t periods(void) { return (counter() - start) * PERIODS_PER_SECOND / SECOND_NS; }

static void sleep_until(unsigned number, uint64_t ticks) {
    for (uint64_t now = 0; now < ticks; now = cpus[number].ticks) {
        if (now > periods() + 1)
            fail("cpu %u: %llu ticks in %llu periods", number, now, periods());
        wfi();
        irq_on();
        irq_off();
    }
}

static void work(unsigned number) {
    meet();
    irq_on(); // an alarm of cpu_yield()'s, if the machine has kept it
    irq_off();
    cpus[number].ticks = 0;
    fetch_add(&ready, 1);
    if (number == 0) {
        while (ready < cpu_count)
            ; // not by wait_until(), which sets alarms
        start = counter();
        tick_periodically();
    }
    sleep_until(number, TICKS);
    for (uint64_t due = periods(); cpus[number].ticks + 1 < due; due = periods()) // the host had no core for a while
        sleep_until(number, due - 1);
}

int main(void) {
    mmu_on();
    timer_hook = tick;
    run_on_all(work);
    pass("cpus=%u ticks=%u", cpu_count, TICKS);
}
