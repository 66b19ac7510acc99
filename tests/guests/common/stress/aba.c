// SPDX-License-Identifier: Apache-2.0
// Exact reservations: between load-locked and store-conditional of CPU 0, CPU 1 stores another value and then the old
// one (A, B, A), or the old one alone, to the reserved word; the store must fail (ARM DDI 0406C, A3.4.2; Alpha
// Architecture Reference Manual, 4.2.4). An emulator whose store compares values lets it succeed. Every third round CPU
// 1 stores elsewhere, and the store should succeed.
#include "reserved.h"
GUEST_ENTRY

static volatile uint32_t word ALIGNED(4096), elsewhere ALIGNED(4096);
static volatile uint32_t asked ALIGNED(64), answered ALIGNED(64);
static uint32_t broken, kept, needless;

static void reserve_and_store(uint32_t round) {
    uint32_t failed = store_what_was_there(&word, &asked, &answered, round);
    if (round % 3 == 0)
        needless += failed;
    else if (failed)
        broken++;
    else
        kept++;
}

static void work(unsigned cpu) {
    meet();
    if (cpu_count == 1 || cpu > 1)
        return;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        if (cpu == 0) {
            reserve_and_store(round);
            continue;
        }
        wait_until(asked == round);
        uint32_t old = word;
        if (round % 3 == 0) {
            elsewhere = round;
        } else {
            if (round % 3 == 1)
                word = ~old;
            word = old;
        }
        memory_barrier();
        answered = round;
        memory_barrier();
    }
}

int main(void) {
    mmu_on();
    run_on_all(work);
    if (kept)
        fail("cpus=%u a conditional store succeeded after a store to its word %u of %u times", cpu_count, kept,
             kept + broken);
    pass("cpus=%u refused=%u needlessly=%u", cpu_count, broken, needless);
}
