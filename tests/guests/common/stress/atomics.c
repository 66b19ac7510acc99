// SPDX-License-Identifier: Apache-2.0
// Counters of every width by load-locked and store-conditional; neighbouring bytes and halfwords, one for each CPU;
// stores of a reservation that is cleared; and a doubleword whose halves must always be seen together. Control: plain
// loads and stores.
#include "widths.h"
GUEST_ENTRY

#define START64 0xfffffffffffff000ull // the low word carries into the high one many times
static struct {
    volatile uint8_t byte ALIGNED(64);
    volatile uint16_t half ALIGNED(64);
    volatile uint32_t word ALIGNED(64);
    volatile uint64_t pair ALIGNED(64);
    volatile uint8_t bytes[MAX_CPUS] ALIGNED(64);
    volatile uint16_t halves[MAX_CPUS] ALIGNED(64);
    volatile uint64_t whole ALIGNED(64);
} shared;
static volatile uint32_t torn, not_cleared;

// Both halves hold the same number, whoever wrote last.
static void check_whole(unsigned i) {
    uint64_t seen = exchange64(&shared.whole, (uint64_t)i << 32 | i);
    if ((uint32_t)seen != seen >> 32)
        fetch_add(&torn, 1);
}

// The store of a cleared reservation must fail.
static void check_cleared(void) {
    static volatile uint32_t scratch[MAX_CPUS];
    if (!store_after_clear_fails(&scratch[cpu_id()]))
        fetch_add(&not_cleared, 1);
}

static void work(unsigned cpu) {
    meet();
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool between = i % 64 == 0;
        add8(&shared.byte, 3, between);
        add16(&shared.half, 5, between);
        add32(&shared.word, 0x10001, between);
        add64(&shared.pair, 0x100000001ull + 0x80000000u, between);
        add8(&shared.bytes[cpu], 1, between);
        add16(&shared.halves[cpu], 1, between);
        check_whole(i);
        if (i % 16 == 0)
            check_cleared();
    }
}

int main(void) {
    mmu_on();
    shared.pair = START64;
    run_on_all(work);
    uint32_t adds = cpu_count * ROUNDS;
    uint64_t pair = START64 + (0x100000001ull + 0x80000000u) * adds;
    unsigned wrong = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        wrong += (shared.bytes[cpu] != (uint8_t)ROUNDS) + (shared.halves[cpu] != (uint16_t)ROUNDS);
    if (shared.byte != (uint8_t)(3 * adds) || shared.half != (uint16_t)(5 * adds) || shared.word != 0x10001 * adds ||
        shared.pair != pair || wrong || torn || not_cleared)
        fail("cpus=%u adds=%u byte=%02x half=%04x word=%08x pair=%016llx (expected %02x %04x %08x %016llx) "
             "neighbours-wrong=%u torn=%u not-cleared=%u",
             cpu_count, adds, shared.byte, shared.half, shared.word, shared.pair, (uint8_t)(3 * adds),
             (uint16_t)(5 * adds), 0x10001 * adds, pair, wrong, torn, not_cleared);
    pass("cpus=%u adds=%u", cpu_count, adds);
}
