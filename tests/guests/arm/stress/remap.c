// SPDX-License-Identifier: Apache-2.0
// CPU 0 maps one virtual page to one physical page after the other, with a TLB shoot-down (TLBIMVAAIS, TLBIMVAIS,
// TLBIASIDIS or TLBIALLIS, then DSB) after each change. The others read and write the virtual page all the time. After
// the shoot-down nobody may read or write the old page: it is filled with POISON, which nobody may read, and which must
// still be there when the page's turn comes again. BREAK_BEFORE_MAKE: the entry is invalid in between, and the others'
// accesses abort and are done again. SHOOT_DOWN: one kind of shoot-down alone. Control: no shoot-down.
#include "guest.h"
GUEST_ENTRY

#define WINDOW 0x70000000u
#define PAGES 16u
#define WORDS (4096u / 4)
#define POISON 0xdead0000u
// Small page, S, TEX 001, AP 11, C, B, global.
#define PAGE_NORMAL 0x0000047eu

static uint32_t level2_table[256] __attribute__((section(".bss.tables"), aligned(1024)));
static volatile uint32_t pages[PAGES][WORDS] ALIGNED(4096);
static volatile uint32_t announced ALIGNED(64), stop;
static volatile uint32_t stale_reads, old_reads, stale_writes;
static volatile uint32_t accesses[MAX_CPUS][16], aborts[MAX_CPUS][16];

// Each CPU writes to a word of its own, and reads the first and the last word, which hold the version.
static uint32_t written_word(unsigned cpu) { return 64 + 16 * cpu; }

static void set_entry(uint32_t value) {
    *(volatile uint32_t *)&level2_table[0] = value;
    dsb();
}

static void shoot_down(uint32_t version) {
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

static void writer(void) {
    for (uint32_t version = 1; version <= ROUNDS; version++) {
        volatile uint32_t *old = pages[(version - 1) % PAGES], *new = pages[version % PAGES];
        if (version >= PAGES)
            for (unsigned i = 0; i < WORDS; i++)
                if (new[i] != POISON)
                    stale_writes++;
        new[0] = new[WORDS - 1] = version;
        for (unsigned cpu = 0; cpu < cpu_count; cpu++)
            new[written_word(cpu)] = 0;
        dmb();
#ifdef BREAK_BEFORE_MAKE
        set_entry(0);
        shoot_down(version);
        for (unsigned i = 0; i < WORDS; i++)
            old[i] = POISON;
        set_entry((uint32_t)new | PAGE_NORMAL);
#else
        set_entry((uint32_t)new | PAGE_NORMAL);
        shoot_down(version);
#endif
        announced = version;
#ifndef BREAK_BEFORE_MAKE
        for (unsigned i = 0; i < WORDS; i++)
            old[i] = POISON;
#endif
        if (*(volatile uint32_t *)WINDOW != version)
            fetch_add(&old_reads, 1);
        if (version % 8 == 0)
            cpu_yield();
        for (unsigned cpu = 1; cpu < cpu_count && version % 64 == 0; cpu++) {
            uint32_t before = accesses[cpu][0];
            spin_until(accesses[cpu][0] != before);
        }
    }
    dmb();
    stop = 1;
}

static void hook(uint32_t fault_status, uint32_t fault_address) {
    unsigned kind = (fault_status & 0xf) | (fault_status >> 6 & 0x10);
    if (kind != 7 || fault_address >> 12 != WINDOW >> 12)
        fail("cpu %u: abort dfsr=%x dfar=%08x", cpu_id(), fault_status, fault_address);
    aborts[cpu_id()][0]++;
    cpu_yield();
}

static void check(uint32_t value, uint32_t floor) {
    if (value == POISON)
        fetch_add(&stale_reads, 1);
    else if (value < floor)
        fetch_add(&old_reads, 1);
}

static void work(unsigned cpu) {
    volatile uint32_t *window = (volatile uint32_t *)WINDOW;
    meet();
    if (cpu == 0) {
        writer();
        return;
    }
    for (uint32_t i = 0; !stop; i++) {
        uint32_t floor = announced;
        dmb();
        check(window[0], floor);
        window[written_word(cpu)] = i;
        floor = announced;
        dmb();
        check(window[WORDS - 1], floor);
        accesses[cpu][0]++;
        if (i % 256 == 0)
            cpu_yield();
    }
}

int main(void) {
    mmu_on();
#ifdef BREAK_BEFORE_MAKE
    data_abort_hook = hook;
#else
    (void)hook;
#endif
    for (unsigned page = 1; page < PAGES; page++)
        for (unsigned i = 0; i < WORDS; i++)
            pages[page][i] = POISON;
    for (unsigned i = 1; i < 256; i++)
        level2_table[i] = 0;
    set_entry((uint32_t)pages[0] | PAGE_NORMAL);
    level1_table[WINDOW >> 20] = (uint32_t)level2_table | 1;
    dsb();
    WRITE_CP15(0, c8, c3, 0, 0); // TLBIALLIS
    dsb();
    isb();
    run_on_all(work);
    if (stale_reads || old_reads || stale_writes)
        fail("cpus=%u rounds=%u poison-reads=%u old-reads=%u stale-writes=%u", cpu_count, ROUNDS, stale_reads, old_reads,
             stale_writes);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}
