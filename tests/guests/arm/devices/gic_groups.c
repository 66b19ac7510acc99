// SPDX-License-Identifier: Apache-2.0
// GICv2's interrupt groups as several real-time systems use them: IRQs in group 1, FIQs in group 0. With ALIAS, group 1
// is acknowledged and ended by AIAR and AEOIR, without it by IAR and EOIR with AckCtl set.
#include "guest.h"
GUEST_ENTRY

#define GICD(offset) REGISTER(GIC_DISTRIBUTOR + (offset))
#define GICC(offset) REGISTER(GIC_INTERFACE + (offset))
#define CTLR 0x000
#define IGROUPR 0x080
#define SGIR 0xf00
#define TO_SELF (2u << 24)
#define NSATT (1u << 15)
#define PMR 0x04
#define IAR 0x0c
#define EOIR 0x10
#define AIAR 0x20
#define AEOIR 0x24
#define GROUP_0 1u
#define GROUP_1 2u
#define ACKNOWLEDGE_BOTH 4u
#define BY_FIQ 8u
#define OTHER_GROUP 1022u

#ifdef ALIAS
#define CONTROL 0u
#else
#define CONTROL ACKNOWLEDGE_BOTH
#endif

static volatile uint32_t irqs, fiqs, last_irq, last_fiq, spurious;

#define fiq_on() __asm__ volatile("cpsie f" ::: "memory")
#define irq_and_fiq_off() __asm__ volatile("cpsid if" ::: "memory")

__attribute__((interrupt("IRQ"))) static void on_irq(void) {
    uint32_t interrupt = GICC(IAR);
#ifdef ALIAS
    if (interrupt != OTHER_GROUP)
        spurious++;
    interrupt = GICC(AIAR);
    GICC(AEOIR) = interrupt;
#else
    GICC(EOIR) = interrupt;
#endif
    last_irq = interrupt;
    irqs++;
}

__attribute__((interrupt("FIQ"))) static void on_fiq(void) {
    last_fiq = GICC(IAR);
    GICC(EOIR) = last_fiq;
    fiqs++;
}

__attribute__((naked, aligned(32))) static void vectors_of_both(void) {
    __asm__("b .\n\tb .\n\tb .\n\tb .\n\tb .\n\tb .\n\tb %c0\n\tb %c1" ::"i"(on_irq), "i"(on_fiq));
}

// What has come since the last call, after everything that is signalled has been taken.
static void expect(const char *what, uint32_t irqs_wanted, uint32_t fiqs_wanted) {
    isb();
    if (irqs != irqs_wanted || fiqs != fiqs_wanted || spurious)
        fail("%s: %u IRQs, %u FIQs, %u spurious", what, irqs, fiqs, spurious);
    irqs = fiqs = 0;
}

static void send(unsigned number, uint32_t attribute) {
    GICD(SGIR) = TO_SELF | attribute | number;
    dsb();
    (void)GICD(CTLR); // it has arrived
}

int main(void) {
    WRITE_CP15(0, c12, c0, 0, (uint32_t)vectors_of_both);
    isb();
    GICD(IGROUPR) = ~(1u << 3); // SGI 3 alone is in group 0
    if (GICD(IGROUPR) != ~(1u << 3))
        fail("IGROUPR0 is %08x", GICD(IGROUPR));
    GICD(CTLR) = GROUP_0 | GROUP_1;
    GICC(PMR) = 0xff;
    GICC(0) = CONTROL | BY_FIQ | GROUP_0 | GROUP_1;
    if (GICD(CTLR) != (GROUP_0 | GROUP_1) || (GICC(0) & 0xf) != (CONTROL | BY_FIQ | GROUP_0 | GROUP_1))
        fail("CTLR are %08x and %08x", GICD(CTLR), GICC(0));
    irq_on();
    fiq_on();
    send(4, NSATT);
    expect("group 1", 1, 0);
    send(3, 0);
    expect("group 0", 0, 1);
    if (last_irq != 4 || last_fiq != 3)
        fail("IRQ %u, FIQ %u", last_irq, last_fiq);
    irq_off();
    send(3, 0);
    send(5, NSATT);
    expect("IRQs masked", 0, 1);
    irq_on();
    expect("IRQs unmasked", 1, 0);
    irq_and_fiq_off();
    send(3, 0);
    expect("both masked", 0, 0);
    if ((READ_CP15(0, c12, c1, 0) & 0xc0) != 0x40)
        fail("ISR is %08x", READ_CP15(0, c12, c1, 0));
    wfi(); // a masked FIQ ends it
    fiq_on();
    expect("FIQs unmasked", 0, 1);
    irq_on();
    GICD(CTLR) = GROUP_1;
    GICC(0) = CONTROL | GROUP_1;
    send(6, NSATT);
    expect("group 1 alone", 1, 0);
    pass("last=%u", last_irq);
}
