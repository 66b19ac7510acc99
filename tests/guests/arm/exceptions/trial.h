// SPDX-License-Identifier: Apache-2.0
// A trial runs a snippet in SYS or USR mode with given registers and catches the exception that it raises. Every
// exception goes to a mode other than the snippet's, whose stack pointer points at the record, so that nothing is lost.
#ifndef TRIAL_H
#define TRIAL_H

#include "guest.h"

#define MODE_USR 0x10u
#define MODE_FIQ 0x11u
#define MODE_IRQ 0x12u
#define MODE_SVC 0x13u
#define MODE_ABT 0x17u
#define MODE_UND 0x1bu
#define MODE_SYS 0x1fu
#define CPSR_T (1u << 5)
#define CPSR_MASKED (7u << 6) // A, I and F
#define CPSR_E (1u << 9)
#define CPSR_Z (1u << 30)
#define CPSR_IT(it) (((it) & 3u) << 25 | ((it) >> 2 & 0x3fu) << 10)

typedef enum { RESET, UNDEFINED, SVC, PREFETCH_ABORT, DATA_ABORT, HYP, IRQ, FIQ, NOTHING } Kind;

// Also laid out in the assembly of trial.c.
typedef struct {
    uint32_t r[15]; // r0 to r12, sp and lr as the snippet left them
    uint32_t kind, lr, spsr, cpsr, dfsr, dfar, ifsr, ifar;
} Record;
extern Record record;

// What must be observed. `lr` is the offset of the exception's LR from the snippet's start; fault status and address
// are the data side's for a data abort, the instruction side's for a prefetch abort. ANY: not compared.
#define ANY 0xffffffffu
typedef struct {
    Kind kind;
    uint32_t lr, status, address;
} Expected;
#define EXPECT_NOTHING ((Expected){NOTHING, ANY, ANY, ANY})
#define EXPECT_UNDEFINED(lr) ((Expected){UNDEFINED, lr, ANY, ANY})
#define EXPECT_SVC(lr) ((Expected){SVC, lr, ANY, ANY})
#define EXPECT_PREFETCH(status, address) ((Expected){PREFETCH_ABORT, ANY, status, address})
#define EXPECT_DATA(lr, status, address) ((Expected){DATA_ABORT, lr, status, address})

extern const char trial_vectors[];
void trials_on(void); // installs the vectors; the calling CPU's exceptions are the trials' from now on
// Runs `snippet` (odd: Thumb) with r0 and r1, prints one line with all that was observed, compares, and counts.
// `psr`: mode and flags; A, I and F are masked in addition. Fault status is compared in the bits of `status_mask`.
void trial(const char *name, const void *snippet, uint32_t psr, uint32_t r0, uint32_t r1, Expected expected);
// Prints one value and compares it.
void value(const char *name, uint32_t observed, uint32_t expected);
extern uint32_t status_mask;
extern unsigned trial_count, wrong_count;
void finish(void) __attribute__((noreturn)); // the verdict

#define SNIPPET_SECTION(symbol, state, body)                                                                           \
    extern const char symbol[];                                                                                        \
    __asm__(".pushsection .text.snippets, \"ax\", %progbits\n.syntax unified\n" state ".balign 8\n"                   \
            ".global " #symbol "\n.type " #symbol ", %function\n" #symbol ":\n" body "\n.arm\n.popsection\n")
#define ARM_SNIPPET(symbol, body) SNIPPET_SECTION(symbol, ".arm\n", body "\nbx lr\n")
#define THUMB_SNIPPET(symbol, body) SNIPPET_SECTION(symbol, ".thumb\n", body "\nbx lr\n")

#endif
