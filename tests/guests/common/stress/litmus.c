// SPDX-License-Identifier: Apache-2.0
// Litmus tests with counted outcomes, CPUs 2n and 2n + 1 against each other, over many fresh pairs of locations. A
// barrier stands between the two accesses of each side, for stores alone where both are stores.
//   MESSAGE_PASSING   x = 1; y = 1    against   r0 = y; r1 = x               forbidden: r0 = 1, r1 = 0
//   DEPENDENT_LOADS   x[1] = 1; y = 1 against   r0 = y; r1 = x[r0]           forbidden: r0 = 1, r1 = 0
//   STORE_BUFFERING   x = 1; r0 = y   against   y = 1; r1 = x                forbidden: r0 = 0, r1 = 0
// Control: no barrier, or one that is too weak. Only a host that reorders so, with two of its cores at work, can show
// it: any for store buffering.
#include "guest.h"
GUEST_ENTRY

#ifdef CONTROL
#define BARRIER() control_barrier()
#else
#define BARRIER() memory_barrier()
#endif

#if defined MESSAGE_PASSING || defined DEPENDENT_LOADS
#define PASSES_MESSAGES
#endif

#define CELLS 1024u
typedef struct {
#ifdef DEPENDENT_LOADS
    volatile uint32_t never_1 ALIGNED(64);
    volatile uint32_t x;
#else
    volatile uint32_t x ALIGNED(64);
#endif
    volatile uint32_t y ALIGNED(64);
} Cell;
static Cell cells[MAX_CPUS / 2][CELLS];
static uint8_t r0[MAX_CPUS / 2][CELLS], r1[MAX_CPUS / 2][CELLS];
static SpinBarrier barriers[MAX_CPUS / 2];
static uint32_t outcomes[MAX_CPUS / 2][4];

static void first_side(Cell *cell, uint8_t *result) {
    cell->x = 1;
#ifdef PASSES_MESSAGES
    store_barrier();
    cell->y = 1;
    *result = 0;
#else
    BARRIER();
    *result = (uint8_t)cell->y;
#endif
}

// Gives r1; where messages are passed r0 in bit 1, too.
static void second_side(Cell *cell, uint8_t *result) {
#ifdef PASSES_MESSAGES
    uint32_t flag = cell->y;
    BARRIER();
#ifdef DEPENDENT_LOADS
    *result = (uint8_t)(flag << 1 | (&cell->never_1)[flag]);
#else
    *result = (uint8_t)(flag << 1 | cell->x);
#endif
#else
    cell->y = 1;
    BARRIER();
    *result = (uint8_t)cell->x;
#endif
}

static void work(unsigned cpu) {
    unsigned pair = cpu / 2, pairs = cpu_count / 2;
    if (pair >= pairs)
        return;
    for (unsigned batch = 0; batch < BATCHES / pairs; batch++) {
        spin_meet(&barriers[pair], 2);
        for (unsigned i = 0; i < CELLS; i++)
            if (cpu % 2 == 0)
                first_side(&cells[pair][i], &r0[pair][i]);
            else
                second_side(&cells[pair][i], &r1[pair][i]);
        spin_meet(&barriers[pair], 2);
        if (cpu % 2 == 0)
            for (unsigned i = 0; i < CELLS; i++) {
                outcomes[pair][r0[pair][i] << 1 | r1[pair][i]]++;
                cells[pair][i].x = cells[pair][i].y = 0;
            }
    }
}

int main(void) {
    uint32_t total[4] = {0};
    mmu_on();
    run_on_all(work);
    for (unsigned pair = 0; pair < MAX_CPUS / 2; pair++)
        for (unsigned i = 0; i < 4; i++)
            total[i] += outcomes[pair][i];
#ifdef PASSES_MESSAGES
    uint32_t forbidden = total[2];
#else
    uint32_t forbidden = total[0];
#endif
    if (forbidden)
        fail("cpus=%u forbidden=%u (r0,r1) 00=%u 01=%u 10=%u 11=%u", cpu_count, forbidden, total[0], total[1], total[2],
             total[3]);
    pass("cpus=%u (r0,r1) 00=%u 01=%u 10=%u 11=%u", cpu_count, total[0], total[1], total[2], total[3]);
}
