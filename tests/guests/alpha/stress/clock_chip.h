// SPDX-License-Identifier: Apache-2.0
// The clock chip (Motorola, MC146818), whose periodic interrupt is the interval timer: register A has the rate, bit 6 of B
// turns the interrupt on.
#ifndef CLOCK_CHIP_H
#define CLOCK_CHIP_H

#define CLOCK_INDEX (*PORT(0x70))
#define CLOCK_DATA (*PORT(0x71))
enum { CLOCK_A = 10, CLOCK_B = 11, CLOCK_1024_HZ = 0x26, CLOCK_24_HOURS = 2, CLOCK_PERIODIC = 0x40 };

static inline void set_clock(uint8_t index, uint8_t value) {
    CLOCK_INDEX = index;
    memory_barrier();
    CLOCK_DATA = value;
    memory_barrier();
}

static inline void tick_periodically(void) {
    set_clock(CLOCK_A, CLOCK_1024_HZ);
    set_clock(CLOCK_B, CLOCK_24_HOURS | CLOCK_PERIODIC);
}

#endif
