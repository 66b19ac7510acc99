// SPDX-License-Identifier: Apache-2.0
// PSCI CPU_SUSPEND sleeps until an interrupt is pending, and a CPU that was powered down goes on at the entry that it
// named, its timer still running. Then the event stream ends WFE.
#include "guest.h"
GUEST_ENTRY

#define CPU_SUSPEND 0x84000001
#define POWER_DOWN (1u << 16)
#define INVALID_ADDRESS -9
#define ISTATUS 4u
#define CONTEXT 0x5a5a0001u
#define EVENTS 100u
#define EVENT_BIT 9u

static volatile uint32_t interrupts;
uint32_t saved_sp;
extern char vectors[], resume_entry[];
__asm__(".pushsection .text\n.arm\n.global resume_entry\n"
        "resume_entry:\n"
        "    mrs r1, cpsr\n"
        "    mrc p15, 0, r2, c1, c0, 0\n"
        "    cps #0x12\n"
        "    ldr sp, =__stacks + 0x4000\n" // as start.S has it
        "    cps #0x13\n"
        "    ldr r3, =saved_sp\n"
        "    ldr sp, [r3]\n"
        "    b resumed\n"
        "    .ltorg\n"
        ".popsection\n");

static void timer_off(void) {
    WRITE_CP15(0, c14, c3, 1, 0); // CNTV_CTL
    isb();
}

static void timer_in_ms(uint32_t ms) {
    WRITE_CP15(0, c14, c3, 0, milliseconds_to_ticks(ms)); // CNTV_TVAL
    WRITE_CP15(0, c14, c3, 1, 1);
    isb();
}

static bool timer_met(void) { return READ_CP15(0, c14, c3, 1) & ISTATUS; }

static void handler(unsigned interrupt, unsigned source) {
    (void)interrupt, (void)source;
    timer_off();
    interrupts++;
}

static void expect(const char *what, int32_t answer, int32_t expected) {
    if (answer != expected)
        fail("%s answers %d, not %d", what, (int)answer, (int)expected);
}

static void take_interrupt(const char *what) {
    interrupts = 0;
    irq_on();
    isb();
    irq_off();
    if (interrupts != 1)
        fail("%s: %u interrupts", what, interrupts);
}

// `up`: whether a bit that changes to 1 is an event, or one that changes to 0. Prints the time that the events took.
static void wait_for_events(bool up) {
    WRITE_CP15(0, c14, c1, 0, EVENT_BIT << 4 | (up ? 0u : 1u << 3) | 1u << 2); // CNTKCTL
    isb();
    uint32_t level = 0;
    uint64_t start = counter();
    for (unsigned event = 0; event < EVENTS; event++) {
        wfe();
        level += (uint32_t)counter() >> EVENT_BIT & 1;
    }
    print("%s ticks=%u high=%u\n", up ? "up" : "down", (uint32_t)(counter() - start), level);
    WRITE_CP15(0, c14, c1, 0, 0);
    isb();
}

__attribute__((noreturn)) static void finish(bool powered_down) {
    if (!timer_met())
        fail("the timer has not gone on");
    take_interrupt("after power-down");
    wait_for_events(true);
    wait_for_events(false);
    pass("powered-down=%u", powered_down);
}

void resumed(uint32_t context, uint32_t cpsr, uint32_t sctlr) {
    WRITE_CP15(0, c12, c0, 0, (uint32_t)vectors);
    isb();
    if (context != CONTEXT || (cpsr & 0x1ff) != 0x1d3 || (sctlr & 0x1005))
        fail("resumed with context %x cpsr %x sctlr %x", context, cpsr, sctlr);
    finish(true);
}

int main(void) {
    gic_on(handler);
    gic_enable(INTERRUPT_VIRTUAL_TIMER);
    expect("FEATURES CPU_SUSPEND", hvc_call(PSCI_FEATURES, CPU_SUSPEND, 0, 0), PSCI_SUCCESS);
    expect("a reserved bit", hvc_call(CPU_SUSPEND, 1u << 17, 0, 0), PSCI_INVALID_PARAMETERS);
    expect("another power level", hvc_call(CPU_SUSPEND, 1u << 24, 0, 0), PSCI_INVALID_PARAMETERS);
    unsigned calls = 0;
    for (timer_in_ms(20); !timer_met(); calls++)
        expect("CPU_SUSPEND", hvc_call(CPU_SUSPEND, 0, 0, 0), PSCI_SUCCESS);
    if (calls > 1)
        fail("%u calls until the timer's interrupt", calls);
    take_interrupt("after standby");
    timer_in_ms(20);
    __asm__ volatile("mov %0, sp" : "=r"(saved_sp)::"memory");
    expect("CPU_SUSPEND", hvc_call(CPU_SUSPEND, POWER_DOWN, (uint32_t)resume_entry, CONTEXT), PSCI_SUCCESS);
    finish(false); // where powering down is no more than standby, which is allowed
}
