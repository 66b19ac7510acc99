// SPDX-License-Identifier: Apache-2.0
// One page of virtual memory whose mapping changes, and the shoot-downs after that: each CPU has to invalidate its own
// translations by TBI, so CPU 0 interrupts the others and waits for their acknowledgement (Alpha Architecture Reference
// Manual, II-B 3.8).
#include "guest.h"

#define WINDOW 0x40000000ull
#define WINDOW_BYTES PAGE_BYTES

static inline void map_window(volatile void *page) {
    *page_entry(WINDOW) = entry_of(page, PTE_VALID | PTE_KERNEL);
    memory_barrier();
}

#ifndef CONTROL
static volatile uint32_t shooting, shot_down[MAX_CPUS][16]; // versions

static void invalidate(uint32_t version) {
    static const int kinds[4] = {TBI_BOTH, TBI_DATA, TBI_ALL, TBI_PROCESS};
#ifdef SHOOT_DOWN
    version = SHOOT_DOWN;
#endif
    tbi(kinds[version % 4], WINDOW);
}
#endif

static void invalidate_too(unsigned interrupt, unsigned source) {
    (void)interrupt, (void)source;
#ifndef CONTROL
    uint32_t version = shooting;
    invalidate(version);
    memory_barrier();
    shot_down[cpu_id()][0] = version;
#endif
}

// Before the other CPUs start.
static inline void open_window(volatile void *page) {
    interrupts_start(invalidate_too);
    map_window(page);
    tbi(TBI_ALL, 0);
}

static inline void window_start_cpu(void) { irq_on(); }

static inline void shoot_down(uint32_t version) {
#ifdef CONTROL
    (void)version;
#else
    shooting = version;
    invalidate(version);
    send_sgi_others(0);
    for (unsigned cpu = 1; cpu < cpu_count; cpu++)
        spin_until(shot_down[cpu][0] == version);
#endif
}

#ifdef BREAK_BEFORE_MAKE
static void (*window_fault)(void);

static inline void unmap_window(void) {
    *page_entry(WINDOW) = PTE_KERNEL;
    memory_barrier();
}

static void window_not_valid(uint64_t address, uint64_t kind, uint64_t access) {
    if (kind != 0 || access > 1 || address / PAGE_BYTES != WINDOW / PAGE_BYTES)
        fail("cpu %u: fault address=%llx kind=%llu access=%llx", cpu_id(), address, kind, access);
    window_fault();
}

static inline void on_window_fault(void (*hook)(void)) {
    window_fault = hook;
    memory_fault_hook = window_not_valid;
}
#endif
