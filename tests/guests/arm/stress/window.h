// SPDX-License-Identifier: Apache-2.0
// One page of virtual memory whose mapping changes, and the shoot-downs after that: TLBIMVAAIS, TLBIMVAIS, TLBIASIDIS
// or TLBIALLIS, then DSB.
#include "guest.h"

#define WINDOW 0x70000000u
#define WINDOW_BYTES 4096u
// Small page, S, TEX 001, AP 11, C, B, global.
#define PAGE_NORMAL 0x0000047eu

static uint32_t level2_table[256] __attribute__((section(".bss.tables"), aligned(1024)));

static inline void set_window(uint32_t value) {
    *(volatile uint32_t *)&level2_table[0] = value;
    dsb();
}

static inline void map_window(volatile void *page) { set_window((uint32_t)page | PAGE_NORMAL); }

// Before the other CPUs start.
static inline void open_window(volatile void *page) {
    map_window(page);
    level1_table[WINDOW >> 20] = (uint32_t)level2_table | 1;
    dsb();
    WRITE_CP15(0, c8, c3, 0, 0); // TLBIALLIS
    dsb();
    isb();
}

static inline void window_start_cpu(void) {}

static inline void shoot_down(uint32_t version) {
#ifdef CONTROL
    (void)version;
#else
#ifdef SHOOT_DOWN
    version = SHOOT_DOWN;
#endif
    switch (version % 4) {
    case 0:
        WRITE_CP15(0, c8, c3, 3, WINDOW); // TLBIMVAAIS
        break;
    case 1:
        WRITE_CP15(0, c8, c3, 1, WINDOW); // TLBIMVAIS, ASID 0 (the page is global)
        break;
    case 2:
        WRITE_CP15(0, c8, c3, 0, 0); // TLBIALLIS
        break;
    default:
        WRITE_CP15(0, c8, c3, 2, 0);      // TLBIASIDIS: leaves global entries
        WRITE_CP15(0, c8, c3, 3, WINDOW); // so this one has to follow
    }
    dsb();
    isb();
#endif
}

#ifdef BREAK_BEFORE_MAKE
static void (*window_fault)(void);

static inline void unmap_window(void) { set_window(0); }

static void window_abort(uint32_t fault_status, uint32_t fault_address) {
    unsigned kind = (fault_status & 0xf) | (fault_status >> 6 & 0x10);
    if (kind != 7 || fault_address >> 12 != WINDOW >> 12)
        fail("cpu %u: abort dfsr=%x dfar=%08x", cpu_id(), fault_status, fault_address);
    window_fault();
}

static inline void on_window_fault(void (*hook)(void)) {
    window_fault = hook;
    data_abort_hook = window_abort;
}
#endif
