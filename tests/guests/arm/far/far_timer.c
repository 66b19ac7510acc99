// SPDX-License-Identifier: Apache-2.0
// With counted instructions, where idle time is skipped: a timer near the end of what 64 bits of nanoseconds can tell
// brings the guest there at once. The counter stands still at the end, what is due later never comes, and UART, alarm
// and timers go on working.
#include "guest.h"
GUEST_ENTRY

#define LAST_TICK 0x0fffffffffffffffull // (2^64 - 2) ns, 16 ns each
#define BEFORE 62500u                   // ticks: 1 ms
#define RTC 0x09010000u
#define RTC_DATA REGISTER(RTC)
#define RTC_MATCH REGISTER(RTC + 4)
#define RTC_STATUS REGISTER(RTC + 0x14)

#define WRITE_CNTP_CTL(value) WRITE_CP15(0, c14, c2, 1, value)
#define READ_CNTP_CTL() READ_CP15(0, c14, c2, 1)
#define WRITE_CNTP_TVAL(value) WRITE_CP15(0, c14, c2, 0, value)
#define WRITE_CNTP_CVAL(value) __asm__ volatile("mcrr p15, 2, %Q0, %R0, c14" ::"r"((uint64_t)(value)) : "memory")

static volatile uint32_t interrupts;

static void handler(unsigned interrupt, unsigned source) {
    (void)interrupt, (void)source;
    WRITE_CNTP_CTL(0);
    isb();
    interrupts++;
}

static void sleep_until(uint64_t tick) {
    uint32_t before = interrupts;
    WRITE_CNTP_CVAL(tick);
    WRITE_CNTP_CTL(1);
    isb();
    while (interrupts == before) {
        wfi();
        irq_on();
        isb();
        irq_off();
    }
    if (physical_counter() < tick)
        fail("woken at %llx, before %llx", physical_counter(), tick);
}

static void wait_for_the_end(void) {
    uint64_t last = physical_counter();
    for (unsigned same = 0; same < 100; same++) {
        uint64_t now = physical_counter();
        if (now < last)
            fail("the counter goes from %llx back to %llx", last, now);
        if (now != last)
            same = 0;
        last = now;
    }
    if (last != LAST_TICK)
        fail("the counter stands at %llx", last);
}

int main(void) {
    gic_on(handler);
    gic_enable(INTERRUPT_PHYSICAL_TIMER);
    sleep_until(LAST_TICK - BEFORE);
    print("a millisecond is left\n");
    RTC_MATCH = RTC_DATA + 1;
    if (RTC_STATUS)
        fail("the alarm rings a second early");
    wait_for_the_end();
    print("the end\n");
    for (unsigned seconds = 1; seconds; seconds <<= 1) {
        RTC_MATCH = RTC_DATA + seconds;
        if (RTC_STATUS)
            fail("the alarm rings %u seconds early", seconds);
    }
    WRITE_CNTP_TVAL(1);
    WRITE_CNTP_CTL(1);
    isb();
    if (READ_CNTP_CTL() != 1)
        fail("CNTP_CTL is %x a tick after the end", READ_CNTP_CTL());
    sleep_until(LAST_TICK);
    pass("interrupts=%u", interrupts);
}
