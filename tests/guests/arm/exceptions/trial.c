// SPDX-License-Identifier: Apache-2.0
// Vectors and frame of the trials; see trial.h.
#include "trial.h"

Record record;
uint32_t status_mask = ANY;
unsigned trial_count, wrong_count;

static const char *const kind_names[] = {"reset", "undefined", "svc", "prefetch-abort", "data-abort",
                                         "hyp",   "irq",       "fiq", "nothing"};

typedef struct {
    uint32_t r[15], pc, psr;
} Start;
void run_snippet(const Start *start);
extern const char snippet_end[];

__asm__(".pushsection .text.trial, \"ax\", %progbits\n"
        ".syntax unified\n"
        ".arm\n"
        ".balign 32\n"
        ".global trial_vectors\n"
        "trial_vectors:\n"
        "    b .\n"
        "    b trial_undefined\n"
        "    b trial_svc\n"
        "    b trial_prefetch\n"
        "    b trial_data\n"
        "    b .\n"
        "    b trial_irq\n"
        "    b trial_fiq\n"
        ".macro caught name, kind\n"
        "\\name:\n"
        "    stm sp, {r0-lr}^\n" // the snippet's own bank
        "    nop\n"
        "    mov r0, #\\kind\n"
        "    b caught_common\n"
        ".endm\n"
        "    caught trial_undefined, 1\n"
        "    caught trial_svc, 2\n"
        "    caught trial_prefetch, 3\n"
        "    caught trial_data, 4\n"
        "    caught trial_irq, 6\n"
        "    caught trial_fiq, 7\n"
        "caught_common:\n"
        "    mov r1, lr\n"
        "    mrs r2, spsr\n"
        "    mrs r3, cpsr\n"
        "    mrc p15, 0, r4, c5, c0, 0\n" // DFSR
        "    mrc p15, 0, r5, c6, c0, 0\n" // DFAR
        "    mrc p15, 0, r6, c5, c0, 1\n" // IFSR
        "    mrc p15, 0, r7, c6, c0, 2\n" // IFAR
        "    add r8, sp, #60\n"
        "    stm r8, {r0-r7}\n"
        "    msr cpsr_cxsf, #0xd3\n"
        "    ldr r0, =stack_of_caller\n"
        "    ldr sp, [r0]\n"
        "    pop {r4-r12, pc}\n"
        ".global run_snippet\n"
        ".type run_snippet, %function\n"
        "run_snippet:\n"
        "    push {r4-r12, lr}\n"
        "    ldr r1, =stack_of_caller\n"
        "    str sp, [r1]\n"
        "    ldr r1, =record\n"
        "    cps #0x11\n"
        "    mov sp, r1\n"
        "    cps #0x12\n"
        "    mov sp, r1\n"
        "    cps #0x17\n"
        "    mov sp, r1\n"
        "    cps #0x1b\n"
        "    mov sp, r1\n"
        "    cps #0x13\n"
        "    mov sp, r1\n"
        "    ldr r1, [r0, #64]\n"
        "    msr spsr_cxsf, r1\n"
        "    mov lr, r0\n"
        "    ldm lr, {r0-lr}^\n" // the snippet's own bank
        "    nop\n"
        "    ldr lr, [lr, #60]\n"
        "    movs pc, lr\n"
        "    .ltorg\n"
        ".global snippet_end\n"
        "snippet_end:\n"
        "    svc #0xff\n"
        ".popsection\n");

uint32_t stack_of_caller;
static uint32_t snippet_stack[64] ALIGNED(8);

void trials_on(void) {
    WRITE_CP15(0, c12, c0, 0, trial_vectors); // VBAR
    isb();
}

static bool differs(uint32_t observed, uint32_t expected) { return expected != ANY && observed != expected; }

void trial(const char *name, const void *snippet, uint32_t psr, uint32_t r0, uint32_t r1, Expected expected) {
    Start start = {.r = {r0, r1}};
    uint32_t base = (uint32_t)snippet & ~1u;
    start.r[13] = (uint32_t)&snippet_stack[64];
    start.r[14] = (uint32_t)snippet_end;
    start.pc = base;
    start.psr = psr | CPSR_MASKED | ((uint32_t)snippet & 1 ? CPSR_T : 0);
    WRITE_CP15(0, c5, c0, 0, 0); // DFSR, DFAR, IFSR, IFAR
    WRITE_CP15(0, c6, c0, 0, 0);
    WRITE_CP15(0, c5, c0, 1, 0);
    WRITE_CP15(0, c6, c0, 2, 0);
    isb();
    run_snippet(&start);
    bool ended = record.kind == SVC && record.lr == (uint32_t)snippet_end + 4;
    if (ended)
        record.kind = NOTHING;
    bool fetch = record.kind == PREFETCH_ABORT;
    uint32_t status = fetch ? record.ifsr : record.dfsr, address = fetch ? record.ifar : record.dfar;
    bool wrong = record.kind != expected.kind || differs(record.lr - base, expected.lr) ||
                 (expected.status != ANY && (status ^ expected.status) & status_mask) ||
                 differs(address, expected.address);
    print("%s: %s", name, kind_names[record.kind]);
    if (ended)
        print(" psr=%08x", record.spsr);
    else if (fetch)
        print(" lr=%08x spsr=%08x cpsr=%08x ifsr=%04x ifar=%08x", record.lr, record.spsr, record.cpsr, status, address);
    else
        print(" lr=+%x spsr=%08x cpsr=%08x", record.lr - base, record.spsr, record.cpsr);
    if (record.kind == DATA_ABORT)
        print(" dfsr=%04x dfar=%08x", status, address);
    print(" r0=%08x r1=%08x r2=%08x sp=%x%s\n", record.r[0], record.r[1], record.r[2],
          record.r[13] - (uint32_t)snippet_stack, wrong ? " WRONG" : "");
    trial_count++;
    wrong_count += wrong;
}

void value(const char *name, uint32_t observed, uint32_t expected) {
    bool wrong = differs(observed, expected);
    print("%s: %08x%s\n", name, observed, wrong ? " WRONG" : "");
    trial_count++;
    wrong_count += wrong;
}

void finish(void) {
    if (wrong_count)
        fail("%u of %u checks wrong", wrong_count, trial_count);
    pass("checks=%u", trial_count);
}
