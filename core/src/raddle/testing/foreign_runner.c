/* SPDX-License-Identifier: Apache-2.0 */
/* Runs IR programs that were compiled on another machine for this one. foreign_harness.py builds this program and sends
 * it requests.
 *
 * First it writes the addresses that generated code needs, one per line, and "end". Then it reads requests and answers
 * each, until its input ends. Memory is at fixed addresses. The functions that the code calls do to the arena what the
 * IR interpreter does (raddle/ir/interpreter.py). Floating point is the runtime's own (fp.c). */
#define _GNU_SOURCE
#include "fp.h"
#include "generated.h"

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define CODE_ADDRESS 0x10000000ul
#define CODE_SIZE 0x100000ul
#define ENV_BLOCK 0x20000000ul
#define ENV_BLOCK_SIZE 0x100000ul
#define ENV_ADDRESS 0x20080000ul
#define ARENA_ADDRESS 0x30000000ul
#define ARENA_SIZE 0x100000ul
#define GRANULES (ARENA_SIZE >> RADDLE_GRANULE_BITS)
#define SECONDS 10 /* of CPU time; code that runs for longer does not end */

enum kind { INSTRUCTION, ROUTINE };
enum outcome { DONE, FAULTED, CRASHED };

struct request {
    uint32_t kind;
    uint32_t hits; /* whether the arena is in the software TLB */
    uint32_t page_bits, code_size, state_size, arena_size, helper_count, pad;
    uint64_t arena_base; /* its guest address */
    uint64_t enter;      /* the thunk */
    uint64_t entry;      /* the block, or the routine */
};

struct answer {
    uint32_t outcome;
    uint32_t write, misaligned; /* FAULTED */
    uint32_t signal;            /* CRASHED */
    uint64_t address;           /* FAULTED: the guest's; CRASHED: what was accessed; with signal 0 a wrong return
                                 * address, or a granule's word that is left locked */
    uint64_t result;            /* DONE: of the routine; CRASHED: pc */
};

typedef uint64_t (*callee)(void *, uint64_t, uint64_t, uint64_t, uint64_t);

#define DECLARE(name, expression) uint64_t name(void *, uint64_t, uint64_t, uint64_t, uint64_t);
RADDLE_FP_HELPERS(DECLARE)

static struct request request;
static struct answer answer;
static sigjmp_buf crashed;
static uint8_t *const env = (uint8_t *)ENV_ADDRESS;
static uint8_t *const arena = (uint8_t *)ARENA_ADDRESS;
static uint64_t helpers[4096];
static uint32_t granules[GRANULES]; /* of the arena: see granules.c */
static uint8_t jump_cache[32 * RADDLE_JUMP_CACHE_ENTRIES];

static struct raddle_cpu_header *header(void)
{
    return (struct raddle_cpu_header *)(env - RADDLE_HEADER_SIZE);
}

/* -- what generated code calls ---------------------------------------------------------------------------------- */

static uint32_t fault(uint64_t address, bool write, bool misaligned)
{
    answer.outcome = FAULTED;
    answer.address = address;
    answer.write = write;
    answer.misaligned = misaligned;
    return 1;
}

/* Whether the runtime could tell by the return address which instruction called: it lies in the block, which is last. */
static bool from_block(uint64_t retaddr)
{
    return retaddr > request.entry && retaddr <= CODE_ADDRESS + request.code_size;
}

static uint32_t not_from_block(uint64_t retaddr)
{
    answer.outcome = CRASHED;
    answer.address = retaddr;
    return 1;
}

static void left_locked(const uint32_t *word)
{
    answer.outcome = CRASHED;
    answer.address = (uint64_t)word;
}

static uint32_t size_of(uint32_t oi)
{
    return 1u << (oi & 7);
}

static uint64_t mask_of(uint32_t oi)
{
    return size_of(oi) == 8 ? ~0ull : (1ull << 8 * size_of(oi)) - 1;
}

/* Whether the access is allowed; if so, where its bytes are. */
static bool place(uint64_t address, uint32_t oi, bool write, uint8_t **where)
{
    uint64_t offset = address - request.arena_base;
    if (address & ((1ull << (oi >> 5 & 7)) - 1))
        return fault(address, write, true), false;
    if (offset > request.arena_size || request.arena_size - offset < size_of(oi))
        return fault(address, write, false), false;
    *where = arena + offset;
    return true;
}

static uint64_t read_bytes(const uint8_t *where, uint32_t oi)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < size_of(oi); i++)
        value |= (uint64_t)where[i] << 8 * (oi & 16 ? size_of(oi) - 1 - i : i);
    return value;
}

static void write_bytes(uint8_t *where, uint64_t value, uint32_t oi)
{
    for (uint32_t i = 0; i < size_of(oi); i++)
        where[i] = (uint8_t)(value >> 8 * (oi & 16 ? size_of(oi) - 1 - i : i));
}

static int64_t as_signed(uint64_t value, uint32_t oi)
{
    uint32_t unused = 64 - 8 * size_of(oi);
    return (int64_t)(value << unused) >> unused;
}

static uint64_t extended(uint64_t value, uint32_t oi)
{
    return oi & 8 ? (uint64_t)as_signed(value, oi) : value;
}

/* The word of a granule; an access that is aligned is in one. */
static uint32_t *granule_of(const uint8_t *where)
{
    return granules + ((where - arena) >> RADDLE_GRANULE_BITS);
}

static uint32_t slow_load(void *unused, uint64_t retaddr, uint32_t oi)
{
    uint8_t *where;
    (void)unused;
    if (!from_block(retaddr))
        return not_from_block(retaddr);
    if (!place(header()->arg0, oi, false, &where))
        return 1;
    header()->result = extended(read_bytes(where, oi), oi);
    return 0;
}

static uint32_t slow_store(void *unused, uint64_t retaddr, uint32_t oi)
{
    uint8_t *where;
    (void)unused;
    if (!from_block(retaddr))
        return not_from_block(retaddr);
    if (!place(header()->arg0, oi, true, &where))
        return 1;
    write_bytes(where, header()->arg1, oi);
    *granule_of(where) &= (uint32_t)header()->reservation;
    return 0;
}

static uint64_t least(uint64_t a, uint64_t b, bool smaller, bool is_signed, uint32_t oi)
{
    bool below = is_signed ? as_signed(a, oi) < as_signed(b, oi) : a < b;
    return below == smaller ? a : b;
}

static uint64_t new_value(uint32_t op, uint64_t old, uint64_t a, uint64_t b, uint32_t oi)
{
    switch (op) {
    case 2:
        return old == (a & mask_of(oi)) ? b : old;
    case 3:
        return a;
    case 4:
        return old + a;
    case 5:
        return old & a;
    case 6:
        return old | a;
    case 7:
        return old ^ a;
    default:
        return least(old, a & mask_of(oi), op == 8 || op == 10, op < 10, oi);
    }
}

static uint32_t load_exclusive(uint32_t oi)
{
    struct raddle_cpu_header *h = header();
    uint8_t *where;
    if (!place(h->arg0, oi, false, &where))
        return 1;
    h->exclusive_address = h->arg0;
    h->exclusive_value = read_bytes(where, oi);
    h->exclusive_size = size_of(oi);
    h->result = extended(h->exclusive_value, oi);
    if (h->granules) {
        *granule_of(where) |= (uint32_t)h->reservation;
        h->exclusive_value = (uint64_t)granule_of(where);
    }
    return 0;
}

static uint32_t store_exclusive(uint32_t oi)
{
    struct raddle_cpu_header *h = header();
    uint8_t *where;
    if (h->arg0 & ((1ull << (oi >> 5 & 7)) - 1))
        return fault(h->arg0, true, true);
    h->result = 1;
    if (h->exclusive_address == h->arg0 && h->exclusive_size == size_of(oi)) {
        if (!place(h->arg0, oi, true, &where))
            return 1;
        h->result = h->granules ? h->exclusive_value != (uint64_t)granule_of(where) ||
                                      !(*granule_of(where) & (uint32_t)h->reservation)
                                : read_bytes(where, oi) != h->exclusive_value;
        if (!h->result) {
            write_bytes(where, h->arg1, oi);
            *granule_of(where) = 0;
        }
    }
    h->exclusive_address = ~0ull;
    return 0;
}

static uint32_t slow_atomic(void *unused, uint64_t retaddr, uint32_t oi, uint32_t op)
{
    uint8_t *where;
    (void)unused;
    if (!from_block(retaddr))
        return not_from_block(retaddr);
    if (op < 2)
        return op ? store_exclusive(oi) : load_exclusive(oi);
    if (!place(header()->arg0, oi, true, &where))
        return 1;
    uint64_t old = read_bytes(where, oi);
    write_bytes(where, new_value(op, old, header()->arg1, header()->arg2, oi), oi);
    header()->result = extended(old, oi);
    return 0;
}

static uint32_t call_helper(void *unused, uint32_t number, uint64_t retaddr)
{
    struct raddle_cpu_header *h = header();
    (void)unused;
    if (request.kind == INSTRUCTION && !from_block(retaddr))
        return not_from_block(retaddr);
    h->result = ((callee)helpers[number])(env, h->arg0, h->arg1, h->arg2, h->arg3);
    uint32_t leave = h->exit_now;
    h->exit_now = 0;
    return leave != 0;
}

/* -- requests --------------------------------------------------------------------------------------------------- */

static void get(void *to, size_t size)
{
    if (size && fread(to, size, 1, stdin) != 1)
        exit(0);
}

static void put(const void *from, size_t size)
{
    if (size && fwrite(from, size, 1, stdout) != 1)
        exit(1);
}

static void at_signal(int number, siginfo_t *info, void *context)
{
    answer.outcome = CRASHED;
    answer.signal = (uint32_t)number;
    answer.address = (uint64_t)info->si_addr;
#ifdef __aarch64__
    answer.result = ((ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
#endif
    siglongjmp(crashed, 1);
}

static void catch_signals(void)
{
    static uint8_t stack[1 << 16];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = at_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGPROF};
    sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

static void fill_tlb(void)
{
    uint64_t page = 1ull << request.page_bits;
    uint64_t *entries = (uint64_t *)(env + RADDLE_TLB_OFFSET);
    enum { READ = RADDLE_TLB_READ / 8, WRITE = RADDLE_TLB_WRITE / 8, EXEC = RADDLE_TLB_EXEC / 8 };
    for (uint32_t i = 0; i < RADDLE_MMU_INDICES * RADDLE_TLB_ENTRIES; i++)
        entries[4 * i + READ] = entries[4 * i + WRITE] = entries[4 * i + EXEC] = RADDLE_TLB_INVALID | -page;
    for (uint32_t index = 0; request.hits && index < 2; index++) {
        for (uint64_t at = request.arena_base; at < request.arena_base + request.arena_size; at += page) {
            uint64_t *entry = entries + 4 * (index * RADDLE_TLB_ENTRIES + (at >> request.page_bits) % RADDLE_TLB_ENTRIES);
            entry[READ] = entry[WRITE] = entry[EXEC] = at;
            entry[RADDLE_TLB_ADDEND / 8] = ARENA_ADDRESS - request.arena_base;
        }
    }
}

static void limit(time_t seconds)
{
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = seconds}, NULL);
}

static void run(void)
{
    memset(&answer, 0, sizeof answer);
    memset(jump_cache, 0xff, sizeof jump_cache);
    memset(granules, 0, sizeof granules);
    fill_tlb();
    __builtin___clear_cache((char *)CODE_ADDRESS, (char *)CODE_ADDRESS + request.code_size);
    if (sigsetjmp(crashed, 1))
        return;
    limit(SECONDS);
    if (request.kind == ROUTINE)
        answer.result = ((callee)request.entry)(env, 0, 0, 0, 0);
    else
        ((uint64_t(*)(void *, uint64_t))request.enter)(env, request.entry);
    limit(0);
    for (size_t i = 0; i < GRANULES; i++)
        if (granules[i] >> RADDLE_GRANULE_LOCK)
            left_locked(&granules[i]);
}

static void *map(uint64_t address, size_t size)
{
    void *memory = mmap((void *)address, size, PROT_READ | PROT_WRITE | PROT_EXEC,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

#define TELL(name, value) printf("%s %lu\n", name, (unsigned long)(value))
#define TELL_FP(name, expression) TELL(#name, name);

int main(void)
{
    map(CODE_ADDRESS, CODE_SIZE);
    map(ENV_BLOCK, ENV_BLOCK_SIZE);
    map(ARENA_ADDRESS, ARENA_SIZE);
    catch_signals();
    TELL("code", CODE_ADDRESS);
    TELL("code_size", CODE_SIZE);
    TELL("helpers", helpers);
    TELL("jump_cache", jump_cache);
    TELL("granules", (uint64_t)granules - (ARENA_ADDRESS >> RADDLE_GRANULE_BITS) * sizeof *granules);
    TELL("raddle_slow_load", slow_load);
    TELL("raddle_slow_store", slow_store);
    TELL("raddle_slow_atomic", slow_atomic);
    TELL("raddle_call_helper", call_helper);
    RADDLE_FP_HELPERS(TELL_FP)
    puts("end");
    for (;;) {
        fflush(stdout);
        get(&request, sizeof request);
        get(header(), RADDLE_HEADER_SIZE);
        get(env, request.state_size);
        get(arena, request.arena_size);
        get((void *)CODE_ADDRESS, request.code_size);
        get(helpers, request.helper_count * sizeof *helpers);
        run();
        put(&answer, sizeof answer);
        put(header(), RADDLE_HEADER_SIZE);
        put(env, request.state_size);
        put(arena, request.arena_size);
    }
}
