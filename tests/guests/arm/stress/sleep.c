// SPDX-License-Identifier: Apache-2.0
// WFI and WFE: a masked interrupt wakes WFI without being taken; WFI lasts until the timer; an event is kept for the
// next WFE; an interrupt wakes WFE; a token goes round all CPUs, passed on by SEV to sleepers in WFE, then by SGI to
// sleepers in WFI. A one-second timer is the backstop of the rounds. Control: no SEV (which shows only where WFE
// really sleeps) and no SGI.
#include "guest.h"
GUEST_ENTRY

#ifdef CONTROL
#define PATIENCE_MS 200
#else
#define PATIENCE_MS 20000
#endif

static volatile uint32_t timer_taken[MAX_CPUS][16], sgi_taken[MAX_CPUS][16];
static volatile uint32_t rearmed_ticks[MAX_CPUS][16]; // what the handler arms the timer with again; 0: it stays off
static volatile uint32_t event_token ALIGNED(64), sgi_token ALIGNED(64);

static void timer_off(void) {
    WRITE_CP15(0, c14, c3, 1, 0);
    isb();
}

static void timer_in(uint32_t ticks) {
    WRITE_CP15(0, c14, c3, 0, ticks); // CNTV_TVAL
    WRITE_CP15(0, c14, c3, 1, 1);     // CNTV_CTL
    isb();
}

static void handler(unsigned interrupt, unsigned source) {
    (void)source;
    unsigned cpu = cpu_id();
    if (interrupt == INTERRUPT_VIRTUAL_TIMER) {
        timer_off();
        timer_taken[cpu][0]++;
        if (rearmed_ticks[cpu][0])
            timer_in(rearmed_ticks[cpu][0]);
        sev(); // an interrupt between a look and the WFE after it must not be lost
    } else {
        sgi_taken[cpu][0]++;
    }
}

static void check_wfi_masked(unsigned cpu) {
    uint32_t before = timer_taken[cpu][0], ticks = milliseconds_to_ticks(20);
    irq_off();
    uint64_t start = counter();
    timer_in(ticks);
    do
        wfi();
    while (!(READ_CP15(0, c14, c3, 1) & 4)); // ISTATUS
    uint64_t slept = counter() - start;
    if (slept < ticks)
        fail("cpu %u: woke after %llu of %u ticks", cpu, slept, ticks);
    if (timer_taken[cpu][0] != before)
        fail("cpu %u: a masked interrupt was taken", cpu);
    irq_on();
    isb();
    if (timer_taken[cpu][0] != before + 1)
        fail("cpu %u: the interrupt was not taken when unmasked", cpu);
}

// With interrupts on, WFI returns after the handler has run. The timer goes on ticking, because its first interrupt may
// come between the look and the WFI.
static void check_wfi_taken(unsigned cpu) {
    uint32_t before = timer_taken[cpu][0], ticks = milliseconds_to_ticks(20);
    uint64_t start = counter();
    rearmed_ticks[cpu][0] = ticks;
    timer_in(ticks);
    while (timer_taken[cpu][0] == before)
        wfi();
    irq_off();
    rearmed_ticks[cpu][0] = 0;
    timer_off();
    irq_on();
    if (counter() - start < ticks)
        fail("cpu %u: timer came early", cpu);
}

// Two events are one; the WFE after it may sleep, until the timer's interrupt at the latest.
static void check_wfe(unsigned cpu) {
    uint32_t before = timer_taken[cpu][0];
    sev();
    sev();
    wfe();
    timer_in(milliseconds_to_ticks(20));
    while (timer_taken[cpu][0] == before)
        wfe();
}

static void sleep_checks(unsigned cpu) {
    for (unsigned i = 0; i < 3; i++) {
        check_wfi_masked(cpu);
        check_wfi_taken(cpu);
        check_wfe(cpu);
    }
}

static void tokens_by_event(unsigned cpu) {
    timer_in(milliseconds_to_ticks(PATIENCE_MS));
    uint32_t before = timer_taken[cpu][0];
    for (unsigned round = 0; round < ROUNDS; round++) {
        while (event_token != round * cpu_count + cpu) {
            wfe();
            if (timer_taken[cpu][0] != before)
                fail("cpu %u round %u: WFE was not woken by SEV", cpu, round);
        }
        dmb();
        event_token = event_token + 1;
#ifdef CONTROL
        dsb();
#else
        sev();
#endif
    }
    timer_off();
}

static void tokens_by_sgi(unsigned cpu) {
    timer_in(milliseconds_to_ticks(PATIENCE_MS));
    uint32_t before = timer_taken[cpu][0];
    for (unsigned round = 0; round < ROUNDS; round++) {
        // Masked, so that an SGI between the look and the WFI is not lost: it stays pending and wakes the WFI.
        irq_off();
        while (sgi_token != round * cpu_count + cpu) {
            wfi();
            irq_on();
            isb();
            irq_off();
            if (timer_taken[cpu][0] != before)
                fail("cpu %u round %u: WFI was not woken by an SGI", cpu, round);
        }
        irq_on();
        dmb();
        sgi_token = sgi_token + 1;
#ifndef CONTROL
        send_sgi(round % 16, 1u << (cpu + 1) % cpu_count);
#endif
    }
    timer_off();
}

static void work(unsigned cpu) {
    if (cpu)
        gic_cpu_on();
    gic_enable(INTERRUPT_VIRTUAL_TIMER);
    irq_on();
    meet();
    sleep_checks(cpu);
    meet();
    tokens_by_event(cpu);
    meet();
    tokens_by_sgi(cpu);
    meet();
    irq_off();
}

int main(void) {
    mmu_on();
    gic_on(handler);
    run_on_all(work);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}
