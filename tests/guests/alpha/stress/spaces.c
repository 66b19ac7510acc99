// SPDX-License-Identifier: Apache-2.0
// Each CPU switches between more address spaces than a translator may keep apart, each with its own number. In each one
// a program in user mode, and the kernel, read and write one virtual page, which is another physical page in every
// space. Now and then the page of a space is replaced: by TBIS where the space is the current one, by TBIAP where it is
// not. Nobody may see the page of another space, or the one before. Control: no TBI.
#include "context.h"
GUEST_ENTRY

#ifdef CONTROL
#define INVALIDATES false
#else
#define INVALIDATES true
#endif
#define SPACES 6u
#define CODE 0x40000000ull
#define DATA (CODE + PAGE_BYTES)
#define USER_READ 0x200u
#define USER_WRITE 0x2000u

typedef volatile uint64_t Page[PAGE_BYTES / 8];
typedef struct {
    Page level1, level2, level3, pages[2];
} Space;

static Space spaces[MAX_CPUS][SPACES] ALIGNED(PAGE_BYTES);
static Context contexts[MAX_CPUS][SPACES] ALIGNED(128);
static Page code ALIGNED(PAGE_BYTES);
static volatile uint32_t wrong_reads, wrong_writes, wrong_kernel;

// Reads the first quadword of the page at r1 and writes it to the second one.
extern const uint32_t program[], program_end[];
// Runs code in user mode until it makes a system call; its r0. The stack keeps the return address.
uint64_t run_user(uint64_t pc, uint64_t argument);
extern char user_returns[];
__asm__(".pushsection .text\n\t.set noat\n\t.globl program, program_end, user_returns\n"
        "program:\n\t"
        "ldq $0, 0($1)\n\t"
        "stq $0, 8($1)\n\t"
        "call_pal 0x83\n" // CALLSYS
        "program_end:\n"
        "run_user:\n\t"
        "lda $30, -64($30)\n\t"
        "stq $26, 48($30)\n\t"
        "lda $0, 8($31)\n\t"
        "stq $0, 0($30)\n\t" // PS: user mode
        "stq $16, 8($30)\n\t"
        "stq $29, 16($30)\n\t"
        "bis $31, $17, $1\n\t"
        "call_pal 0x3f\n" // RTI
        "user_returns:\n\t"
        "ldq $26, 0($30)\n\t"
        "lda $30, 16($30)\n\t"
        "ret\n\t"
        ".popsection\n");

static void system_call(unsigned entry, uint64_t a0, uint64_t a1, uint64_t a2, Frame *frame) {
    if (entry != ENTRY_SYSTEM_CALL)
        fail("cpu %u: exception %u a0=%llx a1=%llx a2=%llx pc=%llx", cpu_id(), entry, a0, a1, a2, frame->pc);
    frame->ps = IPL_ALL;
    frame->pc = (uint64_t)user_returns;
    __asm__("bis $31, $29, %0" : "=r"(frame->gp));
}

static void map_data(Space *space, unsigned page) {
    space->level3[1] = entry_of(space->pages[page], PTE_VALID | PTE_KERNEL | USER_READ | USER_WRITE);
    memory_barrier();
}

static void make_space(unsigned cpu, unsigned number) {
    Space *space = &spaces[cpu][number];
    space->level1[CODE >> 33] = entry_of(space->level2, PTE_VALID | PTE_KERNEL);
    space->level2[CODE >> 23 & 1023] = entry_of(space->level3, PTE_VALID | PTE_KERNEL);
    space->level3[0] = entry_of(code, PTE_VALID | PTE_GLOBAL | PTE_KERNEL | USER_READ);
    map_data(space, 0);
    for (unsigned page = 0; page < 2; page++)
        space->pages[page][0] = (uint64_t)space->pages[page];
    contexts[cpu][number] = context;
    contexts[cpu][number].page_table = PHYSICAL(space->level1) / PAGE_BYTES;
    contexts[cpu][number].address_space = number + 1;
}

static void work(unsigned cpu) {
    unsigned mapped[SPACES] = {0};
    uint32_t random = cpu;
    for (unsigned number = 0; number < SPACES; number++)
        make_space(cpu, number);
    swap_context(PHYSICAL(&contexts[cpu][0]));
    tbi(TBI_ALL, 0);
    for (uint32_t round = 0, current = 0; round < ROUNDS; round++) {
        random = random * 1664525 + 1013904223;
        unsigned next = (random >> 24) % SPACES, changed = (random >> 16) % SPACES;
        if ((random >> 12) % 4 == 0) {
            mapped[changed] ^= 1;
            map_data(&spaces[cpu][changed], mapped[changed]);
            if (INVALIDATES)
                tbi(changed == current ? TBI_BOTH : TBI_PROCESS, DATA);
        }
        swap_context(PHYSICAL(&contexts[cpu][next]));
        current = next;
        Page *pages = spaces[cpu][next].pages;
        volatile uint64_t *own = pages[mapped[next]], *other = pages[!mapped[next]];
        own[1] = other[1] = 0;
        if (run_user(CODE, DATA) != own[0])
            fetch_add(&wrong_reads, 1);
        if (own[1] != own[0] || other[1])
            fetch_add(&wrong_writes, 1);
        if (*(volatile uint64_t *)DATA != own[0])
            fetch_add(&wrong_kernel, 1);
    }
}

int main(void) {
    mmu_on();
    exception_hook = system_call;
    for (unsigned i = 0; &program[i] < program_end; i++)
        ((volatile uint32_t *)code)[i] = program[i];
    fetch_barrier();
    run_on_all(work);
    if (wrong_reads || wrong_writes || wrong_kernel)
        fail("cpus=%u rounds=%u reads=%u writes=%u kernel=%u", cpu_count, ROUNDS, wrong_reads, wrong_writes,
             wrong_kernel);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}
