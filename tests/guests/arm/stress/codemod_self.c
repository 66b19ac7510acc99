// SPDX-License-Identifier: Apache-2.0
// Each CPU rewrites its own code and runs it: a function in a buffer; the next instruction of the very sequence that
// rewrites it; a Thumb function; and a function that another page's stores must leave alone. Control: each seventh
// rewriting is left out.
#include "guest.h"
GUEST_ENTRY

static uint32_t code[MAX_CPUS][4096 / 4] ALIGNED(4096);
static volatile uint32_t wrong_function, wrong_inline, wrong_thumb;
typedef uint32_t (*Function)(void);

static void synchronise_code(void *at) {
    WRITE_CP15(0, c7, c11, 1, at); // DCCMVAU
    dsb();
    WRITE_CP15(0, c7, c5, 1, at); // ICIMVAU
    WRITE_CP15(0, c7, c5, 6, 0);  // BPIALL
    dsb();
    isb();
}

static bool left_out(uint32_t i) {
#ifdef CONTROL
    return i % 7 == 0;
#else
    (void)i;
    return false;
#endif
}

// Copied to the CPU's page: stores r0 over its own fourth instruction from the end, synchronises, and falls into it.
extern const uint32_t rewriter[], rewriter_end[];
__asm__(".pushsection .text\n.syntax unified\n"
        ".arm\n"
        ".global rewriter, rewriter_end\n"
        "rewriter:\n"
        "    add r1, pc, #28\n"
        "    str r0, [r1]\n"
        "    mcr p15, 0, r1, c7, c11, 1\n" // DCCMVAU
        "    dsb\n"
        "    mcr p15, 0, r1, c7, c5, 1\n" // ICIMVAU
        "    mcr p15, 0, r1, c7, c5, 6\n" // BPIALL
        "    dsb\n"
        "    isb\n"
        "    nop\n"
        "    mov r0, #0\n" // rewritten
        "    bx lr\n"
        "rewriter_end:\n"
        ".popsection\n");

static void work(unsigned cpu) {
    uint32_t *arm = code[cpu], *thumb = code[cpu] + 64, *inside = code[cpu] + 128;
    unsigned words = (unsigned)(rewriter_end - rewriter);
    arm[0] = 0xe3a00000;   // mov r0, #i
    arm[1] = 0xe12fff1e;   // bx lr
    thumb[0] = 0x47702000; // movs r0, #i; bx lr
    for (unsigned i = 0; i < words; i++)
        inside[i] = rewriter[i];
    for (unsigned i = 0; i < 256; i++)
        synchronise_code(&code[cpu][i]);
    meet();
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        uint32_t byte = i & 0xff;
        if (!left_out(i)) {
            arm[0] = 0xe3a00000 | byte;
            synchronise_code(arm);
            *(volatile uint8_t *)thumb = (uint8_t)byte;
            synchronise_code(thumb);
        }
        if (((Function)arm)() != byte)
            fetch_add(&wrong_function, 1);
        if (((Function)((uint32_t)thumb | 1))() != byte)
            fetch_add(&wrong_thumb, 1);
        if (((uint32_t(*)(uint32_t))inside)(0xe3a00000 | byte) != byte)
            fetch_add(&wrong_inline, 1);
        inside[words - 2] = 0xe3a00000; // and back, so that the code which runs next is the old one
        synchronise_code(&inside[words - 2]);
    }
}

int main(void) {
    mmu_on();
    run_on_all(work);
    if (wrong_function || wrong_inline || wrong_thumb)
        fail("cpus=%u rounds=%u function=%u inline=%u thumb=%u", cpu_count, ROUNDS, wrong_function, wrong_inline,
             wrong_thumb);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}
