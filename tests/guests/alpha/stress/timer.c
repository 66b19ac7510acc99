// SPDX-License-Identifier: Apache-2.0
// Each CPU's alarm, masked and ticking, counted against the console's clock; the interval timer, which interrupts every
// CPU; clocks that never go backwards, also as seen from one CPU to the next. Control: the alarm is not set again after
// its first tick.
#include "guest.h"
#include "clock_chip.h"
GUEST_ENTRY

#ifdef CONTROL
#define LAST_TICK 1
#define PATIENCE_PERIODS (4 * TICKS)
#else
#define LAST_TICK TICKS
#define PATIENCE_PERIODS (400 * TICKS)
#endif
#define PERIOD_NS 1000000u
#define INTERVALS 20u

typedef struct {
    volatile uint32_t ticks, early;
    volatile uint64_t due;
} ALIGNED(64) Cpu;
static Cpu cpus[MAX_CPUS];
static volatile uint64_t latest ALIGNED(64);
static volatile uint32_t backwards;

static void tick(void) {
    Cpu *cpu = &cpus[cpu_id()];
    cpu->ticks++;
    if (!cpu->due)
        return;
    if (counter() < cpu->due)
        cpu->early++;
    cpu->due += PERIOD_NS;
    if (cpu->ticks < LAST_TICK)
        alarm_at(cpu->due);
}

// Waits by spinning with interrupts on: cpu_yield() has no alarm left, and who sleeps is not woken by a silent timer.
static void await_ticks(unsigned number, uint32_t count) {
    uint64_t start = counter();
    irq_on();
    while (cpus[number].ticks < count)
        if (counter() - start > (uint64_t)PERIOD_NS * PATIENCE_PERIODS)
            fail("cpu %u: %u of %u ticks", number, cpus[number].ticks, count);
    irq_off();
}

// Lets in an alarm of cpu_yield()'s, if the machine has kept it.
static void forget_ticks(unsigned number) {
    irq_on();
    irq_off();
    cpus[number].ticks = 0;
}

// An alarm that is masked is not taken, but ends the sleep; it is taken once it is not masked.
static void check_masked(unsigned number) {
    forget_ticks(number);
    uint64_t start = counter();
    alarm_in(2 * PERIOD_NS);
    wfi();
    if (counter() - start < 2 * PERIOD_NS)
        fail("cpu %u: woke after %llu ns", number, counter() - start);
    if (cpus[number].ticks)
        fail("cpu %u: a masked alarm was taken", number);
    await_ticks(number, 1);
}

// A clock's value, passed on from CPU to CPU: whoever looks next must not be behind it.
static void check_monotonic(unsigned cpu) {
    static volatile uint32_t turn;
    for (unsigned round = 0; round < 20; round++) {
        wait_until(turn % cpu_count == cpu);
        uint64_t now = counter();
        if (now < latest)
            backwards++;
        latest = now;
        memory_barrier();
        turn = turn + 1;
        wake_waiters();
    }
}

static void check_alarms(unsigned number) {
    Cpu *cpu = &cpus[number];
    forget_ticks(number);
    uint64_t start = counter();
    cpu->due = start + PERIOD_NS;
    alarm_at(cpu->due);
    await_ticks(number, TICKS);
    cpu->due = 0;
    if (counter() - start < (uint64_t)PERIOD_NS * TICKS)
        fail("cpu %u: %u ticks in %llu ns", number, TICKS, counter() - start);
}

static void work(unsigned number) {
    check_masked(number);
    meet();
    check_monotonic(number);
    meet();
    check_alarms(number);
    meet();
    cpus[number].ticks = 0;
    meet();
    if (number == 0)
        tick_periodically();
    await_ticks(number, INTERVALS);
    meet();
}

int main(void) {
    mmu_on();
    timer_hook = tick;
    run_on_all(work);
    unsigned early = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        early += cpus[cpu].early;
    if (early || backwards)
        fail("cpus=%u early=%u backwards=%u", cpu_count, early, backwards);
    pass("cpus=%u ticks=%u", cpu_count, TICKS);
}
