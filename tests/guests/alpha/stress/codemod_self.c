// SPDX-License-Identifier: Apache-2.0
// Each CPU rewrites its own code and runs it after an IMB: a function, and the next instruction of the very sequence
// that rewrites it. Control: each seventh rewriting is left out.
#include "guest.h"
GUEST_ENTRY

static uint32_t code[MAX_CPUS][PAGE_BYTES / 4] ALIGNED(PAGE_BYTES);
static volatile uint32_t wrong_function, wrong_inline;
typedef uint32_t (*Function)(void);

#define LDA_V0 0x201f0000u // lda $0, i($31)
#define RETURN 0x6bfa8001u

static bool left_out(uint32_t i) {
#ifdef CONTROL
    return i % 7 == 0;
#else
    (void)i;
    return false;
#endif
}

// Copied to the CPU's page: stores r16 over its own last instruction but one, and falls into it.
extern const uint32_t rewriter[], rewriter_end[];
__asm__(".pushsection .text\n"
        ".globl rewriter, rewriter_end\n"
        "rewriter:\n"
        "    br $1, 1f\n"
        "1:  stl $16, 16($1)\n"
        "    mb\n"
        "    call_pal 0x86\n" // IMB
        "    bis $31, $31, $31\n"
        "    lda $0, 0($31)\n" // rewritten
        "    ret\n"
        "rewriter_end:\n"
        ".popsection\n");

static void work(unsigned cpu) {
    uint32_t *function = code[cpu], *inside = code[cpu] + 128;
    unsigned words = (unsigned)(rewriter_end - rewriter);
    function[0] = LDA_V0;
    function[1] = RETURN;
    for (unsigned i = 0; i < words; i++)
        inside[i] = rewriter[i];
    fetch_barrier();
    meet();
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        uint32_t byte = i & 0xff;
        if (!left_out(i)) {
            *(volatile uint32_t *)function = LDA_V0 | byte;
            fetch_barrier();
        }
        if (((Function)function)() != byte)
            fetch_add(&wrong_function, 1);
        if (((uint32_t(*)(uint32_t))inside)(LDA_V0 | byte) != byte)
            fetch_add(&wrong_inline, 1);
        *(volatile uint32_t *)&inside[words - 2] = LDA_V0; // and back, so that the code which runs next is the old one
        fetch_barrier();
    }
}

int main(void) {
    mmu_on();
    run_on_all(work);
    if (wrong_function || wrong_inline)
        fail("cpus=%u rounds=%u function=%u inline=%u", cpu_count, ROUNDS, wrong_function, wrong_inline);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}
