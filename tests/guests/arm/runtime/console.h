// SPDX-License-Identifier: Apache-2.0
// The PL011, and the lock around what one CPU writes to it.
#include "atomic.h"

#define UART 0x09000000u
#define UART_DR REGISTER(UART + 0x00)
#define UART_FR REGISTER(UART + 0x18)
#define UART_FR_TXFF 0x20u

typedef uint32_t ConsoleState; // CPSR

static volatile uint32_t console_lock;

static inline void console_put(char c) {
    while (UART_FR & UART_FR_TXFF) {
    }
    UART_DR = (uint8_t)c;
}

// Exclusives need normal cacheable memory, so there is a lock only when the MMU is on. IRQs are masked inside, because
// a handler that prints would wait for itself.
static ConsoleState console_enter(void) {
    uint32_t cpsr;
    __asm__ volatile("mrs %0, cpsr" : "=r"(cpsr));
    irq_off();
    if (mmu_is_on())
        lock_acquire(&console_lock);
    return cpsr;
}

static void console_leave(ConsoleState cpsr) {
    lock_release(&console_lock);
    __asm__ volatile("msr cpsr_c, %0" ::"r"(cpsr) : "memory");
}
