// SPDX-License-Identifier: Apache-2.0
// PL011: a driver empties the FIFO, more input fills it, and only then the driver clears the interrupt. Nothing may be
// lost. It says `window` while it waits for more input; the input ends with '#'.
#include "guest.h"
GUEST_ENTRY

#define UART(offset) REGISTER(0x09000000 + (offset))
#define INTERRUPT_UART 33
#define DR 0x00
#define FR 0x18
#define LCR_H 0x2c
#define CR 0x30
#define IMSC 0x38
#define ICR 0x44
#define RECEIVE_EMPTY 0x10
#define RECEIVE_FULL 0x40
#define RECEIVE_AND_TIMEOUT 0x50

static volatile uint32_t total, windows;
static volatile char last;

static void handler(unsigned interrupt, unsigned source) {
    (void)interrupt, (void)source;
    while (!(UART(FR) & RECEIVE_EMPTY)) {
        last = (char)UART(DR);
        total++;
    }
    if (windows < 3 && last != '#') {
        windows++;
        print("window %u\n", windows);
        spin_until(UART(FR) & RECEIVE_FULL);
    }
    UART(ICR) = RECEIVE_AND_TIMEOUT;
}

int main(void) {
    gic_on(handler);
    *(volatile uint8_t *)(GIC_DISTRIBUTOR + 0x800 + INTERRUPT_UART) = 1;
    gic_enable(INTERRUPT_UART);
    UART(LCR_H) = 0x70; // 8 bits, FIFOs
    UART(CR) = 0x301;
    UART(IMSC) = RECEIVE_AND_TIMEOUT;
    irq_on();
    print("ready\n");
    spin_until(last == '#');
    pass("received=%u", total);
}
