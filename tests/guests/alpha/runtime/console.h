// SPDX-License-Identifier: Apache-2.0
// The 16550 of the first serial port, and the lock around what one CPU writes to it.
#include "atomic.h"

#define UART_DATA (*PORT(0x3f8))
#define UART_LINE_STATUS (*PORT(0x3fd))
#define UART_EMPTY 0x20u

typedef unsigned ConsoleState; // interrupt priority level

static volatile uint32_t console_lock;

static inline void console_put(char c) {
    while (!(UART_LINE_STATUS & UART_EMPTY)) {
    }
    UART_DATA = (uint8_t)c;
    memory_barrier();
}

// Interrupts are masked inside, because a handler that prints would wait for itself.
static ConsoleState console_enter(void) {
    ConsoleState level = swap_ipl(IPL_ALL);
    for (unsigned round = 0; exchange(&console_lock, 1); round++) {
        stop_if_over(); // who has given the verdict keeps the lock
        spin_hint(round);
    }
    memory_barrier();
    return level;
}

static void console_leave(ConsoleState level) {
    lock_release(&console_lock);
    (void)swap_ipl(level);
}
