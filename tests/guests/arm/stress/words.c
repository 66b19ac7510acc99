// SPDX-License-Identifier: Apache-2.0
// Each CPU writes code of ever new instruction words and runs it: data processing with immediates that no other round
// has, which must compute what they say, and as many that their condition skips. A translator that keeps something for
// each word has to forget. Control: each seventh round runs the code of the round before.
#include "guest.h"
GUEST_ENTRY

#define PAIRS 60
static uint32_t code[MAX_CPUS][1024] ALIGNED(4096);
static volatile uint32_t wrong;
typedef void (*Function)(uint32_t registers[4]);

static void synchronise_code(uint32_t *from, uint32_t *to) {
    for (uint32_t *at = from; at < to; at += 8)
        WRITE_CP15(0, c7, c11, 1, at); // DCCMVAU
    dsb();
    for (uint32_t *at = from; at < to; at += 8)
        WRITE_CP15(0, c7, c5, 1, at); // ICIMVAU
    WRITE_CP15(0, c7, c5, 6, 0); // BPIALL
    dsb();
    isb();
}

static uint32_t rotated(uint32_t immediate) {
    uint32_t value = immediate & 0xff, by = immediate >> 8 << 1;
    return by ? value >> by | value << (32 - by) : value;
}

// EOR, SUB, RSB or ADD rd, rn, #immediate with registers below r4: bits of `index` choose them. Does it to `registers`.
static uint32_t computing(uint32_t index, uint32_t *registers) {
    uint32_t operation = 1 + (index & 3), d = index >> 2 & 3, n = index >> 4 & 3, immediate = index >> 6 & 0xfff;
    uint32_t value = rotated(immediate), old = registers[n];
    registers[d] = operation == 1 ? old ^ value : operation == 2 ? old - value : operation == 3 ? value - old : old + value;
    return 0xe2000000 | operation << 21 | n << 16 | d << 12 | immediate;
}

// AND to RSC, some with S, with a register-shifted register, under a condition that does not hold between equals.
static uint32_t skipped(uint32_t index) {
    static const uint32_t conditions[8] = {1, 3, 4, 6, 8, 11, 12, 12}; // NE, CC, MI, VS, HI, LT, GT
    uint32_t m = index % 15, s = index / 15 % 15, d = index / 225 % 15, n = index / 3375 % 15;
    return conditions[index & 7] << 28 | (index >> 3 & 15) << 20 | n << 16 | d << 12 | s << 8 |
           (index >> 1 & 3) << 5 | 0x10 | m;
}

static void write_code(uint32_t *at, uint32_t first, uint32_t *registers) {
    uint32_t *start = at;
    *at++ = 0xe1a0c000; // mov r12, r0
    *at++ = 0xe89c000f; // ldm r12, {r0-r3}
    *at++ = 0xe1500000; // cmp r0, r0
    for (uint32_t i = 0; i < PAIRS; i++) {
        *at++ = computing(first + i, registers);
        *at++ = skipped(first + i);
    }
    *at++ = 0xe88c000f; // stm r12, {r0-r3}
    *at++ = 0xe12fff1e; // bx lr
    synchronise_code(start, at);
}

static void work(unsigned cpu) {
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t expected[4] = {round, 1, 2, 3}, found[4] = {round, 1, 2, 3};
        uint32_t first = (cpu * ROUNDS + round) * PAIRS;
#ifdef CONTROL
        if (round % 7 == 6) {
            computing(first, expected);
            computing(first + 1, expected);
        } else
#endif
            write_code(code[cpu], first, expected);
        ((Function)code[cpu])(found);
        for (int i = 0; i < 4; i++)
            if (found[i] != expected[i])
                fetch_add(&wrong, 1);
    }
}

int main(void) {
    mmu_on();
    run_on_all(work);
    if (wrong)
        fail("cpus=%u rounds=%u wrong=%u", cpu_count, ROUNDS, wrong);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}
