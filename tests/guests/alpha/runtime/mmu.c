// SPDX-License-Identifier: Apache-2.0
// Page tables of three levels (Alpha Architecture Reference Manual, II-B 3), one table each.
#include "context.h"

#define ENTRIES (PAGE_BYTES / 8)
#define TABLE __attribute__((section(".bss.tables"), aligned(PAGE_BYTES)))

static volatile uint64_t level1[ENTRIES] TABLE, level2[ENTRIES] TABLE, level3[ENTRIES] TABLE;
Context context ALIGNED(128);
uint64_t restart_block;

bool mmu_is_on(void) { return context.page_table != 0; }

// The console gives CPUs that are started later the same context.
void mmu_on(void) {
    if (mmu_is_on())
        return;
    restart_block = KSEG + FIELD(BLOCK_VIRTUAL, 0);
    level1[ENTRIES - 1] = entry_of(level1, PTE_VALID | PTE_GLOBAL | PTE_KERNEL); // where PALcode reads page tables
    context.page_table = PHYSICAL(level1) / PAGE_BYTES;
    context.flags = CONTEXT_FLOAT;
    memory_barrier();
    swap_context(PHYSICAL(&context));
    tbi(TBI_ALL, 0);
}

volatile uint64_t *page_entry(uint64_t address) {
    level1[address >> 33 & (ENTRIES - 1)] = entry_of(level2, PTE_VALID | PTE_KERNEL);
    level2[address >> 23 & (ENTRIES - 1)] = entry_of(level3, PTE_VALID | PTE_KERNEL);
    return &level3[address >> 13 & (ENTRIES - 1)];
}
