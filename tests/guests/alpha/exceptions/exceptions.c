// SPDX-License-Identifier: Apache-2.0
// Exceptions and page tables in kernel and user mode, one line each with what was observed: entry point, its arguments,
// the PC from the beginning of the snippet that raised it, PS, and what the snippet has left in r0. Lines that are not
// what the Alpha Architecture Reference Manual says (II-B 3 and 5) end with WRONG.
#include "context.h"
GUEST_ENTRY

#define WINDOW 0x40000000ull // pages of the guest's own table
#define PAGE(n) (WINDOW + (n) * PAGE_BYTES)
#define USER_CODE PAGE(64)
#define USER_DATA PAGE(65)
#define USER_STACK (PAGE(66) + PAGE_BYTES)
#define OTHER_LEVEL3 (WINDOW + (1ull << 23))
#define OTHER_LEVEL2 (WINDOW + (1ull << 33))
#define NOT_CANONICAL (1ull << 50)
enum { RE_K = 0x100, RE_U = 0x200, WE_K = 0x1000, WE_U = 0x2000, FOR = 2, FOW = 4, FOE = 8 };
#define ALL_RIGHTS (PTE_VALID | RE_K | WE_K | RE_U | WE_U)
enum { NOT_VALID, ACCESS_VIOLATION, FAULT_ON_READ, FAULT_ON_EXECUTE, FAULT_ON_WRITE };
enum { READ = 0, WRITE = 1 };
#define FETCH (~0ull)
enum { BREAKPOINT, BUGCHECK, GENERATED, FLOAT_DISABLED, NO_INSTRUCTION };
#define USER_MODE 8u
#define NONE 99u // no exception

// ---- snippets: r1 and r2 are arguments, r0 is the result ------------------------------------------------------------

#define SNIPPET(name, code)                                                                                            \
    extern const uint32_t name[], name##_end[];                                                                        \
    __asm__(".pushsection .text\n\t.globl " #name ", " #name "_end\n" #name ":\n\t" code                  \
            "\n\tret\n" #name "_end:\n\t.popsection\n");

SNIPPET(nothing, "lda $0, 7($31)")
SNIPPET(load, "ldq $0, 0($1)")
SNIPPET(load_long, "ldl $0, 0($1)")
SNIPPET(load_word, "ldwu $0, 0($1)")
SNIPPET(load_locked, "ldq_l $0, 0($1)")
SNIPPET(load_unaligned, "ldq_u $0, 0($1)")
SNIPPET(prefetch, "ldl $31, 0($1)")
SNIPPET(store, "stq $2, 0($1)")
SNIPPET(store_long, "stl $2, 0($1)")
SNIPPET(store_word, "stw $2, 0($1)")
SNIPPET(store_byte, "stb $2, 0($1)")
SNIPPET(jump, "jmp $31, ($1)")
SNIPPET(breakpoint, "call_pal 0x80")
SNIPPET(bugcheck, "call_pal 0x81")
SNIPPET(gentrap, "call_pal 0xaa")
SNIPPET(no_opcode, ".long 0x04000000")
SNIPPET(no_function, "call_pal 0x3b")
SNIPPET(no_user_function, "call_pal 0xbe")
SNIPPET(swap_level, "call_pal 0x35")
SNIPPET(swap_level_unprivileged, "call_pal 0x9e\n\tcall_pal 0x35")
SNIPPET(write_unique, "bis $1, $1, $16\n\tcall_pal 0x9f\n\tlda $0, 0($31)\n\tcall_pal 0x9e")
SNIPPET(float_add, ".arch ev67\n\taddt $f1, $f2, $f3")
SNIPPET(overflow_add, "bis $31, $1, $4\n\taddq/v $1, $2, $3")
SNIPPET(overflow_multiply, "mull/v $1, $2, $5")
SNIPPET(divide_by_zero, "itoft $1, $f1\n\titoft $31, $f2\n\tdivt $f1, $f2, $f3\n\ttrapb")
SNIPPET(divide_completed, "itoft $1, $f1\n\titoft $31, $f2\n\tdivt/su $f1, $f2, $f3\n\ttrapb")
SNIPPET(invalid_float, "itoft $1, $f1\n\taddt $f1, $f1, $f4\n\ttrapb")
SNIPPET(inexact, "itoft $1, $f1\n\titoft $2, $f2\n\tdivt/sui $f1, $f2, $f6\n\ttrapb")
SNIPPET(system_call_frame, "bis $31, $1, $16\n\tbis $31, $2, $17\n\tcall_pal 0x83")

// ---- one trial ------------------------------------------------------------------------------------------------------

static volatile struct {
    unsigned entry;
    uint64_t a0, a1, a2, pc, ps;
} taken;
uint64_t landing_stack, landing_return, landing_result;

// Runs code with two arguments; its r0. An exception goes on at `landed`.
uint64_t enter_snippet(const void *code, uint64_t first, uint64_t second);
void enter_user(uint64_t pc, uint64_t first, uint64_t second); // comes back by an exception
extern char landed[];
__asm__(".pushsection .text\n\t.set noat\n"
        "enter_snippet:\n\t"
        "ldah $0, landing_stack($29)\t\t!gprelhigh\n\t"
        "stq $30, landing_stack($0)\t\t!gprellow\n\t"
        "ldah $0, landing_return($29)\t\t!gprelhigh\n\t"
        "stq $26, landing_return($0)\t\t!gprellow\n\t"
        "bis $31, $17, $1\n\t"
        "bis $31, $18, $2\n\t"
        "lda $0, 0($31)\n\t"
        "jsr $26, ($16)\n\t"
        "br $31, 1f\n\t"
        ".globl landed\n"
        "landed:\n"
        "1:\tldah $1, landing_return($29)\t!gprelhigh\n\t"
        "ldq $26, landing_return($1)\t\t!gprellow\n\t"
        "ldah $1, landing_stack($29)\t\t!gprelhigh\n\t"
        "ldq $30, landing_stack($1)\t\t!gprellow\n\t"
        "ret\n"
        // RTI takes PS, PC, r29 and r16 to r18 from the stack.
        "enter_user:\n\t"
        "ldah $0, landing_stack($29)\t\t!gprelhigh\n\t"
        "stq $30, landing_stack($0)\t\t!gprellow\n\t"
        "ldah $0, landing_return($29)\t\t!gprelhigh\n\t"
        "stq $26, landing_return($0)\t\t!gprellow\n\t"
        "lda $30, -48($30)\n\t"
        "lda $0, 8($31)\n\t"
        "stq $0, 0($30)\n\t"
        "stq $16, 8($30)\n\t"
        "stq $29, 16($30)\n\t"
        "bis $31, $17, $1\n\t"
        "bis $31, $18, $2\n\t"
        "lda $0, 0($31)\n\t"
        "call_pal 0x3f\n\t"
        ".popsection\n");

static void record(unsigned entry, uint64_t a0, uint64_t a1, uint64_t a2, Frame *frame) {
    taken.entry = entry;
    taken.a0 = a0;
    taken.a1 = a1;
    taken.a2 = a2;
    taken.pc = frame->pc;
    taken.ps = frame->ps;
    frame->ps = IPL_ALL;
    frame->pc = (uint64_t)landed;
    __asm__("bis $31, $29, %0" : "=r"(frame->gp));
}

static unsigned wrong;
static const char *group = ""; // begins the names of trials

// How many arguments an entry point has.
static const unsigned argument_counts[] = {0, 2, 3, 1, 3, 0};
static const char *const entry_names[] = {"int", "arith", "mm", "if", "una", "sys"};

static void say(const char *name, uint64_t start, uint64_t result, bool right) {
    print("%s%s:", group, name);
    if (taken.entry == NONE) {
        print(" r0=%llx", result);
    } else {
        print(" %s", entry_names[taken.entry]);
        const uint64_t arguments[] = {taken.a0, taken.a1, taken.a2};
        for (unsigned i = 0; i < argument_counts[taken.entry]; i++)
            print(" a%u=%llx", i, arguments[i]);
        // A jump to nowhere: where it went, not how far it is.
        if (taken.pc - start < PAGE_BYTES)
            print(" pc=+%llx ps=%llx", taken.pc - start, taken.ps);
        else
            print(" pc=%llx ps=%llx", taken.pc, taken.ps);
    }
    print(right ? "\n" : " WRONG\n");
    wrong += !right;
}

typedef struct {
    unsigned entry;
    uint64_t a0, a1, a2, pc;
} Expected;

static bool as_expected(const Expected *expected, uint64_t start, uint64_t ps) {
    if (taken.entry != expected->entry)
        return false;
    const uint64_t found[] = {taken.a0, taken.a1, taken.a2}, wanted[] = {expected->a0, expected->a1, expected->a2};
    for (unsigned i = 0; i < argument_counts[taken.entry]; i++)
        if (found[i] != wanted[i])
            return false;
    uint64_t pc = expected->pc >= PAGE_BYTES ? expected->pc : start + expected->pc;
    return taken.pc == pc && taken.ps == ps;
}

static void kernel_trial(const char *name, const uint32_t *code, uint64_t first, uint64_t second, Expected expected) {
    taken.entry = NONE;
    uint64_t result = enter_snippet(code, first, second);
    say(name, (uint64_t)code, result, as_expected(&expected, (uint64_t)code, IPL_ALL));
}

// No exception, and this result.
static void plain_trial(const char *name, const uint32_t *code, uint64_t first, uint64_t second, uint64_t expected) {
    taken.entry = NONE;
    uint64_t result = enter_snippet(code, first, second);
    say(name, (uint64_t)code, result, taken.entry == NONE && result == expected);
}

static uint32_t pages[8][PAGE_BYTES / 4] ALIGNED(PAGE_BYTES);

static uint64_t first_quad(unsigned page) { return pages[page][0] | (uint64_t)pages[page][1] << 32; }

static void map(uint64_t address, unsigned page, uint64_t bits) {
    *page_entry(address) = entry_of(pages[page], bits);
    memory_barrier();
    tbi(TBI_BOTH, address);
}

// The code is copied to a page of the user's; its RET leads to where nothing is.
static void user_trial(const char *name, const uint32_t *code, const uint32_t *end, uint64_t first, uint64_t second,
                       Expected expected) {
    for (unsigned i = 0; &code[i] < end; i++)
        pages[6][i] = code[i];
    fetch_barrier();
    (void)CALL_PAL(0x38, USER_STACK, 0); // WRUSP
    taken.entry = NONE;
    enter_user(USER_CODE, first, second);
    say(name, USER_CODE, 0, as_expected(&expected, USER_CODE, USER_MODE));
}
#define USER_TRIAL(name, code, first, second, ...)                                                                     \
    user_trial(name, code, code##_end, first, second, (Expected){__VA_ARGS__})
#define KERNEL_TRIAL(name, code, first, second, ...)                                                                   \
    kernel_trial(name, code, first, second, (Expected){__VA_ARGS__})

// ---- trials ---------------------------------------------------------------------------------------------------------

static void instructions(void) {
    plain_trial("nothing", nothing, 0, 0, 7);
    KERNEL_TRIAL("bpt", breakpoint, 0, 0, ENTRY_INSTRUCTION, BREAKPOINT, .pc = 4);
    KERNEL_TRIAL("bugchk", bugcheck, 0, 0, ENTRY_INSTRUCTION, BUGCHECK, .pc = 4);
    KERNEL_TRIAL("gentrap", gentrap, 0, 0, ENTRY_INSTRUCTION, GENERATED, .pc = 4);
    KERNEL_TRIAL("no-opcode", no_opcode, 0, 0, ENTRY_INSTRUCTION, NO_INSTRUCTION, .pc = 4);
    KERNEL_TRIAL("no-function", no_function, 0, 0, ENTRY_INSTRUCTION, NO_INSTRUCTION, .pc = 4);
    KERNEL_TRIAL("no-user-function", no_user_function, 0, 0, ENTRY_INSTRUCTION, NO_INSTRUCTION, .pc = 4);
    plain_trial("unique", write_unique, 0x123456789abcdefull, 0, 0x123456789abcdefull);
    (void)CALL_PAL(0x2b, 0, 0); // WRFEN
    KERNEL_TRIAL("float-off", float_add, 0, 0, ENTRY_INSTRUCTION, FLOAT_DISABLED, .pc = 0);
    (void)CALL_PAL(0x2b, 1, 0);
    plain_trial("float-on", float_add, 0, 0, 0);
}

static void traps(void) {
    const uint64_t one = 0x3ffull << 52, three = 0x4008ull << 48, denormal = 1;
    KERNEL_TRIAL("addq-v", overflow_add, ~0ull >> 1, 1, ENTRY_ARITHMETIC, 0x40, 1u << 3, .pc = 8);
    KERNEL_TRIAL("mull-v", overflow_multiply, 0x10000, 0x10000, ENTRY_ARITHMETIC, 0x40, 1u << 5, .pc = 4);
    plain_trial("addq-v-fits", overflow_add, 1, 2, 0);
    KERNEL_TRIAL("divt-0", divide_by_zero, one, 0, ENTRY_ARITHMETIC, 0x04, 1ull << 35, .pc = 12);
    KERNEL_TRIAL("divt-su-0", divide_completed, one, 0, ENTRY_ARITHMETIC, 0x05, 1ull << 35, .pc = 12);
    KERNEL_TRIAL("addt-denormal", invalid_float, denormal, 0, ENTRY_ARITHMETIC, 0x02, 1ull << 36, .pc = 8);
    KERNEL_TRIAL("divt-sui-inexact", inexact, one, three, ENTRY_ARITHMETIC, 0x21, 1ull << 38, .pc = 12);
}

static void alignment(void) {
    map(PAGE(0), 0, ALL_RIGHTS);
    KERNEL_TRIAL("ldq-4", load, PAGE(0) + 4, 0, ENTRY_UNALIGNED, PAGE(0) + 4, 0x29, 0, .pc = 4);
    KERNEL_TRIAL("ldl-2", load_long, PAGE(0) + 2, 0, ENTRY_UNALIGNED, PAGE(0) + 2, 0x28, 0, .pc = 4);
    KERNEL_TRIAL("ldwu-1", load_word, PAGE(0) + 1, 0, ENTRY_UNALIGNED, PAGE(0) + 1, 0x0c, 0, .pc = 4);
    KERNEL_TRIAL("stq-1", store, PAGE(0) + 1, 0, ENTRY_UNALIGNED, PAGE(0) + 1, 0x2d, 2, .pc = 4);
    KERNEL_TRIAL("stl-3", store_long, PAGE(0) + 3, 0, ENTRY_UNALIGNED, PAGE(0) + 3, 0x2c, 2, .pc = 4);
    KERNEL_TRIAL("stw-1", store_word, PAGE(0) + 1, 0, ENTRY_UNALIGNED, PAGE(0) + 1, 0x0d, 2, .pc = 4);
    plain_trial("ldq_u-5", load_unaligned, PAGE(0) + 5, 0, 0);
    plain_trial("stb-7", store_byte, PAGE(0) + 7, 0x80, 0);
    plain_trial("ldq-after-stb", load, PAGE(0), 0, 0x80ull << 56);
}

static void translations(void) {
    static const struct {
        const char *name;
        uint64_t bits;
        unsigned read, write, fetch; // kinds of faults, NONE for none
    } entries[] = {
        {"none-", 0, ACCESS_VIOLATION, ACCESS_VIOLATION, ACCESS_VIOLATION},
        {"not-valid-", RE_K | WE_K, NOT_VALID, NOT_VALID, NOT_VALID},
        {"no-rights-", PTE_VALID, ACCESS_VIOLATION, ACCESS_VIOLATION, ACCESS_VIOLATION},
        {"read-only-", PTE_VALID | RE_K, NONE, ACCESS_VIOLATION, NONE},
        {"write-only-", PTE_VALID | WE_K, ACCESS_VIOLATION, NONE, ACCESS_VIOLATION},
        {"user-only-", PTE_VALID | RE_U | WE_U, ACCESS_VIOLATION, ACCESS_VIOLATION, ACCESS_VIOLATION},
        {"all-", ALL_RIGHTS, NONE, NONE, NONE},
        {"for-", ALL_RIGHTS | FOR, FAULT_ON_READ, NONE, NONE},
        {"fow-", ALL_RIGHTS | FOW, NONE, FAULT_ON_WRITE, NONE},
        {"foe-", ALL_RIGHTS | FOE, NONE, NONE, FAULT_ON_EXECUTE},
        {"for-not-readable-", PTE_VALID | WE_K | FOR, ACCESS_VIOLATION, NONE, ACCESS_VIOLATION},
    };
    pages[1][0] = nothing[0];
    pages[1][1] = nothing[1];
    fetch_barrier();
    for (unsigned i = 0; i < sizeof entries / sizeof *entries; i++) {
        uint64_t address = PAGE(1 + i);
        map(address, 1, entries[i].bits);
        group = entries[i].name;
        uint64_t content = first_quad(1);
        if (entries[i].read == NONE)
            plain_trial("read", load, address, 0, content);
        else
            KERNEL_TRIAL("read", load, address, 0, ENTRY_MEMORY, address, entries[i].read, READ, 0);
        plain_trial("prefetch", prefetch, address, 0, 0);
        if (entries[i].write == NONE)
            plain_trial("write", store, address, content, 0);
        else
            KERNEL_TRIAL("write", store, address, content, ENTRY_MEMORY, address, entries[i].write, WRITE, 0);
        if (entries[i].fetch == NONE)
            plain_trial("fetch", jump, address, 0, 7);
        else
            KERNEL_TRIAL("fetch", jump, address, 0, ENTRY_MEMORY, address, entries[i].fetch, FETCH, address);
    }
    group = "";
    KERNEL_TRIAL("no-level-3", load, OTHER_LEVEL3, 0, ENTRY_MEMORY, OTHER_LEVEL3, ACCESS_VIOLATION, READ, 0);
    KERNEL_TRIAL("no-level-2", load, OTHER_LEVEL2, 0, ENTRY_MEMORY, OTHER_LEVEL2, ACCESS_VIOLATION, READ, 0);
    KERNEL_TRIAL("not-canonical", load, NOT_CANONICAL, 0, ENTRY_MEMORY, NOT_CANONICAL, ACCESS_VIOLATION, READ, 0);
}

// A translation that was used is forgotten after each kind of TBI.
static void invalidations(void) {
    static const int kinds[] = {TBI_ALL, TBI_PROCESS, TBI_DATA, TBI_BOTH};
    static const char *const names[] = {"tbia-", "tbiap-", "tbisd-", "tbis-"};
    for (unsigned i = 0; i < 4; i++) {
        volatile uint64_t *entry = page_entry(PAGE(20));
        pages[2][0] = 2;
        pages[3][0] = 3;
        map(PAGE(20), 2, ALL_RIGHTS);
        group = names[i];
        plain_trial("before", load, PAGE(20), 0, first_quad(2));
        *entry = entry_of(pages[3], ALL_RIGHTS);
        memory_barrier();
        tbi(kinds[i], PAGE(20));
        plain_trial("after", load, PAGE(20), 0, first_quad(3));
    }
    group = "";
    // To an address space of another number without any.
    static Context other ALIGNED(128);
    volatile uint64_t *entry = page_entry(PAGE(20));
    other = context;
    other.address_space = 1;
    other.unique = 77;
    *entry = entry_of(pages[2], ALL_RIGHTS);
    swap_context(PHYSICAL(&other));
    plain_trial("address-space-1", load, PAGE(20), 0, first_quad(2));
    taken.entry = NONE;
    uint64_t unique = CALL_PAL(0x9e, 0, 0);
    say("unique-of-context", 0, unique, unique == 77);
    (void)CALL_PAL(0x9f, 78, 0);
    swap_context(PHYSICAL(&context));
    say("saved-unique", 0, other.unique, other.unique == 78);
}

static void user_mode(void) {
    map(USER_CODE, 6, PTE_VALID | RE_K | RE_U | WE_K);
    map(USER_DATA, 7, ALL_RIGHTS);
    map(PAGE(66), 5, ALL_RIGHTS);
    pages[7][0] = 99;
    USER_TRIAL("user-callsys", system_call_frame, 1, 2, ENTRY_SYSTEM_CALL, .pc = 12);
    USER_TRIAL("user-bpt", breakpoint, 0, 0, ENTRY_INSTRUCTION, BREAKPOINT, .pc = 4);
    USER_TRIAL("user-swpipl", swap_level, 0, 0, ENTRY_INSTRUCTION, NO_INSTRUCTION, .pc = 4);
    USER_TRIAL("user-rdunique", swap_level_unprivileged, 0, 0, ENTRY_INSTRUCTION, NO_INSTRUCTION, .pc = 8);
    USER_TRIAL("user-kseg", load, (uint64_t)pages[7], 0, ENTRY_MEMORY, (uint64_t)pages[7], ACCESS_VIOLATION, READ, 0);
    USER_TRIAL("user-store-code", store, USER_CODE, 0, ENTRY_MEMORY, USER_CODE, ACCESS_VIOLATION, WRITE, 0);
    USER_TRIAL("user-unaligned", load, USER_DATA + 1, 0, ENTRY_UNALIGNED, USER_DATA + 1, 0x29, 0, .pc = 4);
    USER_TRIAL("user-jump", jump, PAGE(67), 0, ENTRY_MEMORY, PAGE(67), ACCESS_VIOLATION, FETCH, PAGE(67));
    map(PAGE(67), 4, PTE_VALID | RE_K | WE_K);
    USER_TRIAL("user-kernel-page", load, PAGE(67), 0, ENTRY_MEMORY, PAGE(67), ACCESS_VIOLATION, READ, 0);
    map(PAGE(67), 4, ALL_RIGHTS | FOW);
    USER_TRIAL("user-fow", store, PAGE(67), 0, ENTRY_MEMORY, PAGE(67), FAULT_ON_WRITE, WRITE, 0);
    map(PAGE(67), 4, ALL_RIGHTS & ~PTE_VALID);
    USER_TRIAL("user-not-valid", load, PAGE(67), 0, ENTRY_MEMORY, PAGE(67), NOT_VALID, READ, 0);
    uint64_t stack = CALL_PAL(0x3a, 0, 0); // RDUSP
    taken.entry = NONE;
    say("user-stack", 0, stack, stack == USER_STACK);
}

int main(void) {
    mmu_on();
    exception_hook = record;
    instructions();
    traps();
    alignment();
    translations();
    invalidations();
    user_mode();
    if (wrong)
        fail("wrong=%u", wrong);
    pass("all right");
}
