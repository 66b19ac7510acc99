// SPDX-License-Identifier: Apache-2.0
// CPU 0 maps one virtual page to one physical page after the other, with a TLB shoot-down of one kind or another after
// each change. The others read and write the virtual page all the time. After the shoot-down nobody may read or write
// the old page: it is filled with POISON, which nobody may read, and which must still be there when the page's turn
// comes again. BREAK_BEFORE_MAKE: the entry is invalid in between, and the others' accesses abort and are done again.
// SHOOT_DOWN: one kind of shoot-down alone. Control: no shoot-down.
#include "window.h"
GUEST_ENTRY

#define PAGES 16u
#define WORDS (WINDOW_BYTES / 4)
#define POISON 0xdead0000u

static volatile uint32_t pages[PAGES][WORDS] ALIGNED(WINDOW_BYTES);
static volatile uint32_t announced ALIGNED(64), stop;
static volatile uint32_t stale_reads, old_reads, stale_writes;
static volatile uint32_t accesses[MAX_CPUS][16];
#ifdef BREAK_BEFORE_MAKE
static volatile uint32_t aborts[MAX_CPUS][16];
#endif

// Each CPU writes to a word of its own, and reads the first and the last word, which hold the version.
static uint32_t written_word(unsigned cpu) { return 64 + 16 * cpu; }

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
        memory_barrier();
#ifdef BREAK_BEFORE_MAKE
        unmap_window();
        shoot_down(version);
        for (unsigned i = 0; i < WORDS; i++)
            old[i] = POISON;
        map_window(new);
#else
        map_window(new);
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
    memory_barrier();
    stop = 1;
}

#ifdef BREAK_BEFORE_MAKE
static void count_abort(void) {
    aborts[cpu_id()][0]++;
    cpu_yield();
}
#endif

static void check(uint32_t value, uint32_t floor) {
    if (value == POISON)
        fetch_add(&stale_reads, 1);
    else if (value < floor)
        fetch_add(&old_reads, 1);
}

static void work(unsigned cpu) {
    window_start_cpu();
    volatile uint32_t *window = (volatile uint32_t *)WINDOW;
    meet();
    if (cpu == 0) {
        writer();
        return;
    }
    for (uint32_t i = 0; !stop; i++) {
        uint32_t floor = announced;
        memory_barrier();
        check(window[0], floor);
        window[written_word(cpu)] = i;
        floor = announced;
        memory_barrier();
        check(window[WORDS - 1], floor);
        accesses[cpu][0]++;
        if (i % 256 == 0)
            cpu_yield();
    }
}

int main(void) {
    mmu_on();
#ifdef BREAK_BEFORE_MAKE
    on_window_fault(count_abort);
#endif
    for (unsigned page = 1; page < PAGES; page++)
        for (unsigned i = 0; i < WORDS; i++)
            pages[page][i] = POISON;
    open_window(pages[0]);
    run_on_all(work);
    if (stale_reads || old_reads || stale_writes)
        fail("cpus=%u rounds=%u poison-reads=%u old-reads=%u stale-writes=%u", cpu_count, ROUNDS, stale_reads, old_reads,
             stale_writes);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}
