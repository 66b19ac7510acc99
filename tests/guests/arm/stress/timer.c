// SPDX-License-Identifier: Apache-2.0
// Generic timer on every CPU: the virtual one by compare value and the physical one by timer value, both ticking at the
// same time, counted against CNTVCT; IMASK, ISTATUS and the downward-counting TVAL; counters that never go backwards,
// also as seen from one CPU to the next. Control: the timers are not armed again after their first tick.
#include "guest.h"
GUEST_ENTRY

#define CTL_ENABLE 1u
#define CTL_IMASK 2u
#define CTL_ISTATUS 4u
#ifdef CONTROL
#define LAST_TICK 1
#define PATIENCE_PERIODS (4 * TICKS)
#else
#define LAST_TICK TICKS
#define PATIENCE_PERIODS (400 * TICKS)
#endif

#define READ_CNTV_CTL() READ_CP15(0, c14, c3, 1)
#define WRITE_CNTV_CTL(value) WRITE_CP15(0, c14, c3, 1, value)
#define WRITE_CNTV_TVAL(value) WRITE_CP15(0, c14, c3, 0, value)
#define READ_CNTV_TVAL() READ_CP15(0, c14, c3, 0)
#define WRITE_CNTP_CTL(value) WRITE_CP15(0, c14, c2, 1, value)
#define READ_CNTP_CTL() READ_CP15(0, c14, c2, 1)
#define WRITE_CNTP_TVAL(value) WRITE_CP15(0, c14, c2, 0, value)
#define WRITE_CNTV_CVAL(value) __asm__ volatile("mcrr p15, 3, %Q0, %R0, c14" ::"r"((uint64_t)(value)) : "memory")

typedef struct {
    volatile uint32_t virtual_ticks, physical_ticks, early;
    volatile uint64_t virtual_due, physical_due;
} Cpu;
static Cpu cpus[MAX_CPUS] ALIGNED(64);
static uint32_t period;
static volatile uint64_t latest ALIGNED(64);
static volatile uint32_t backwards;

static void handler(unsigned interrupt, unsigned source) {
    (void)source;
    Cpu *cpu = &cpus[cpu_id()];
    if (interrupt == INTERRUPT_VIRTUAL_TIMER) {
        if (counter() < cpu->virtual_due || !(READ_CNTV_CTL() & CTL_ISTATUS))
            cpu->early++;
        cpu->virtual_due += period;
        WRITE_CNTV_CVAL(cpu->virtual_due);
        if (++cpu->virtual_ticks == LAST_TICK)
            WRITE_CNTV_CTL(0);
    } else if (interrupt == INTERRUPT_PHYSICAL_TIMER) {
        if (physical_counter() < cpu->physical_due || !(READ_CNTP_CTL() & CTL_ISTATUS))
            cpu->early++;
        cpu->physical_due = physical_counter() + period;
        WRITE_CNTP_TVAL(period);
        if (++cpu->physical_ticks == LAST_TICK)
            WRITE_CNTP_CTL(0);
    } else {
        fail("cpu %u: interrupt %u", cpu_id(), interrupt);
    }
    isb();
}

// With IRQs masked and IMASK set: status and counting down without an interrupt.
static void check_registers(unsigned cpu) {
    uint32_t ticks = milliseconds_to_ticks(2);
    WRITE_CNTV_TVAL(ticks);
    WRITE_CNTV_CTL(CTL_ENABLE | CTL_IMASK);
    isb();
    int32_t before = (int32_t)READ_CNTV_TVAL();
    uint64_t start = counter();
    if (before > (int32_t)ticks)
        fail("cpu %u: TVAL %d above what was written", cpu, (int)before);
    while (counter() - start <= ticks)
        cpu_yield();
    // Hardware has the status at once; an emulator that sets it by a timer of its own is given two seconds.
    uint32_t control;
    do
        control = READ_CNTV_CTL();
    while (!(control & CTL_ISTATUS) && counter() - start < 1000 * (uint64_t)ticks);
    if (control != (CTL_ENABLE | CTL_IMASK | CTL_ISTATUS))
        fail("cpu %u: CTL %x after the time", cpu, control);
    if ((int32_t)READ_CNTV_TVAL() >= 0)
        fail("cpu %u: TVAL %d after the time", cpu, (int)READ_CNTV_TVAL());
    irq_on();
    isb();
    irq_off();
    WRITE_CNTV_CTL(0);
    isb();
}

// One CPU's counter value, passed on under a lock of order: whoever looks next must not be behind it.
static void check_monotonic(unsigned cpu) {
    static volatile uint32_t turn;
    for (unsigned round = 0; round < 50; round++) {
        wait_until(turn % cpu_count == cpu);
        uint64_t now = counter();
        if (now < latest)
            backwards++;
        latest = now;
        dmb();
        turn = turn + 1;
        sev();
    }
}

static void work(unsigned number) {
    Cpu *cpu = &cpus[number];
    if (number)
        gic_cpu_on();
    gic_enable(INTERRUPT_VIRTUAL_TIMER);
    gic_enable(INTERRUPT_PHYSICAL_TIMER);
    check_registers(number);
    if (cpu->virtual_ticks)
        fail("cpu %u: interrupt in spite of IMASK", number);
    meet();
    check_monotonic(number);
    meet();
    uint64_t start = counter();
    cpu->virtual_due = start + period;
    WRITE_CNTV_CVAL(cpu->virtual_due);
    cpu->physical_due = physical_counter() + period;
    WRITE_CNTP_TVAL(period);
    WRITE_CNTV_CTL(CTL_ENABLE);
    WRITE_CNTP_CTL(CTL_ENABLE);
    isb();
    irq_off();
    while (cpu->virtual_ticks < TICKS || cpu->physical_ticks < TICKS) {
        if (counter() - start > (uint64_t)period * PATIENCE_PERIODS)
            fail("cpu %u: virtual=%u physical=%u of %u ticks", number, cpu->virtual_ticks, cpu->physical_ticks, TICKS);
        cpu_yield(); // no WFI, which would not return when a timer stays silent
        irq_on();
        isb();
        irq_off();
    }
    uint64_t elapsed = counter() - start;
    if (elapsed < (uint64_t)period * TICKS)
        fail("cpu %u: %u ticks in %llu, a tick is %u", number, TICKS, elapsed, period);
    meet();
}

int main(void) {
    mmu_on();
    gic_on(handler);
    period = milliseconds_to_ticks(1);
    run_on_all(work);
    unsigned early = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        early += cpus[cpu].early;
    if (early || backwards)
        fail("cpus=%u early=%u backwards=%u", cpu_count, early, backwards);
    pass("cpus=%u ticks=%u frequency=%u", cpu_count, TICKS, counter_frequency());
}
