// SPDX-License-Identifier: Apache-2.0
// LDRD and STRD of an aligned doubleword are single-copy atomic where there is LPAE (ARM DDI 0406C, A3.5.3): both halves
// hold the same number, whoever wrote last. Control: the doubleword written as two words.
#include "guest.h"
GUEST_ENTRY

static volatile uint64_t shared ALIGNED(64);
static volatile uint32_t torn;

static void work(unsigned cpu) {
    meet();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t number = i * MAX_CPUS + cpu;
        uint64_t value = (uint64_t)number << 32 | number, seen;
#ifdef CONTROL
        __asm__ volatile("str %0, [%1]" ::"r"(value), "r"(&shared) : "memory");
        if (i % 64 == 0)
            cpu_yield();
        __asm__ volatile("str %H0, [%1, #4]" ::"r"(value), "r"(&shared) : "memory");
#else
        __asm__ volatile("strd %0, %H0, [%1]" ::"r"(value), "r"(&shared) : "memory");
        if (i % 64 == 0)
            cpu_yield();
#endif
        __asm__ volatile("ldrd %0, %H0, [%1]" : "=r"(seen) : "r"(&shared) : "memory");
        if ((uint32_t)seen != seen >> 32)
            fetch_add(&torn, 1);
    }
}

int main(void) {
    mmu_on();
    run_on_all(work);
    if (torn)
        fail("cpus=%u torn=%u of %u", cpu_count, torn, cpu_count * ROUNDS);
    pass("cpus=%u accesses=%u", cpu_count, cpu_count * ROUNDS);
}
