// SPDX-License-Identifier: Apache-2.0
// GICv2 distributor and CPU interface: enough for SGIs and private timers.
#include "guest.h"

#define GICD_CTLR REGISTER(GIC_DISTRIBUTOR + 0x000)
#define GICD_ISENABLER(n) REGISTER(GIC_DISTRIBUTOR + 0x100 + 4 * (n))
#define GICD_ICENABLER(n) REGISTER(GIC_DISTRIBUTOR + 0x180 + 4 * (n))
#define GICD_IPRIORITYR_BYTE(n) (*(volatile uint8_t *)(GIC_DISTRIBUTOR + 0x400 + (n)))
#define GICD_SGIR REGISTER(GIC_DISTRIBUTOR + 0xf00)
#define GICC_CTLR REGISTER(GIC_INTERFACE + 0x00)
#define GICC_PMR REGISTER(GIC_INTERFACE + 0x04)
#define GICC_BPR REGISTER(GIC_INTERFACE + 0x08)
#define GICC_IAR REGISTER(GIC_INTERFACE + 0x0c)
#define GICC_EOIR REGISTER(GIC_INTERFACE + 0x10)
#define SPURIOUS 1023u

static InterruptHandler interrupt_handler;

void gic_on(InterruptHandler handler) {
    interrupt_handler = handler;
    GICD_CTLR = 1;
    gic_cpu_on();
}

void gic_cpu_on(void) {
    GICD_ISENABLER(0) = 0xffff;
    for (unsigned interrupt = 0; interrupt < 32; interrupt++)
        GICD_IPRIORITYR_BYTE(interrupt) = 0x80;
    GICC_PMR = 0xf0;
    GICC_BPR = 0;
    GICC_CTLR = 1;
    dsb();
}

void gic_enable(unsigned interrupt) { GICD_ISENABLER(interrupt / 32) = 1u << interrupt % 32; }

void gic_disable(unsigned interrupt) { GICD_ICENABLER(interrupt / 32) = 1u << interrupt % 32; }

void send_sgi(unsigned number, unsigned target_mask) {
    dsb();
    GICD_SGIR = target_mask << 16 | number;
}

void send_sgi_others(unsigned number) {
    dsb();
    GICD_SGIR = 1u << 24 | number;
}

// Called from the IRQ vector in start.S.
void irq_entry(void) {
    uint32_t acknowledge = GICC_IAR;
    unsigned interrupt = acknowledge & 0x3ff;
    if (interrupt == SPURIOUS)
        return;
    interrupt_handler(interrupt, acknowledge >> 10 & 7);
    GICC_EOIR = acknowledge;
}
