/* SPDX-License-Identifier: Apache-2.0 */
/* The execution loop: attend to requests, find the block at pc, chain to it, run it. */
#include "internal.h"

#define GO        (-1) /* no reason to return */
#define HAND_BACK (-3) /* the vCPU is lent, and its own thread must go on */

/* -- calls out of blocks ------------------------------------------------------------------------------------------ */

/* Called by the host's thunk for CALL. If a callee sets exit_now, the block that called is left, but not a routine in
 * between. */
uint32_t raddle_call_helper(void *env, uint32_t number, uint64_t retaddr)
{
    struct raddle_cpu *cpu = cpu_of(env);
    struct raddle_cpu_header *h = cpu->header;
    bool from_block = in_blocks(cpu->context, retaddr);
    uint64_t outer = cpu->retaddr;
    if (from_block)
        STORE_RELAXED(cpu->retaddr, retaddr);
    if (number >= RADDLE_PYTHON_NUMBER)
        h->result = call_python(cpu, number - RADDLE_PYTHON_NUMBER, h->arg0, h->arg1, h->arg2, h->arg3);
    else
        h->result =
            ((raddle_function)(uintptr_t)((void **)h->helpers)[number])(env, h->arg0, h->arg1, h->arg2, h->arg3);
    STORE_RELAXED(cpu->retaddr, outer);
    if (!from_block || !h->exit_now)
        return 0;
    h->exit_now = 0;
    if (has_flag(cpu->context, RADDLE_FLAG_ICOUNT)) {
        struct raddle_block *block = block_of_address(cpu->context, retaddr);
        uint64_t pc;
        uint32_t extra;
        int index = block ? block_instruction(block, retaddr, &pc, &extra) : -1;
        if (index >= 0)
            icount_refund(cpu, block->ninsns - (uint32_t)index - 1);
    }
    return 1;
}

/* -- requests --------------------------------------------------------------------------------------------------- */

static void run_due_timers(struct raddle_cpu *cpu)
{
    for (uint32_t word = 0; word < RADDLE_TIMERS / 64; word++) {
        uint64_t due = atomic_load(&cpu->timers_due[word]) ? atomic_exchange(&cpu->timers_due[word], 0) : 0;
        for (; due; due &= due - 1) {
            uint32_t timer = word * 64 + (uint32_t)__builtin_ctzll(due);
            cpu_big_lock(cpu);
            call_number(cpu, cpu->context->timers[timer].value, timer, 0, 0, 0);
            raddle_big_unlock(cpu->context);
        }
    }
}

/* The requests that exit_request may stand for, in this order. If one is a reason to return, exit_request stays set, so
 * that the rest is handled next time. */
static int attend_exit_request(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    queue_drain(cpu);
    if (has_marks_to_pass(cpu))
        marks_pass(cpu);
    tlb_give_way(cpu);
    if (atomic_load(&ctx->exclusive_pending)) {
        cpu_end(cpu);
        cpu_begin(cpu);
    }
    if (atomic_exchange(&cpu->error, 0))
        return RADDLE_ERROR;
    if (atomic_load(&ctx->stopping))
        return RADDLE_STOP;
    if (atomic_load(&cpu->work) && atomic_exchange(&cpu->work, 0))
        return RADDLE_WORK;
    if (cpu->stuck) {
        cpu->stuck = false;
        return RADDLE_STUCK;
    }
    run_due_timers(cpu);
    if (atomic_load(&cpu->slice_over) && atomic_exchange(&cpu->slice_over, 0) && !has_flag(ctx, RADDLE_FLAG_PARALLEL))
        return RADDLE_SLICE;
    return GO;
}

/* A lent vCPU does nothing on the timers' thread that is its own thread's business (Python gets the reason to return),
 * and nothing that may keep the timers' thread waiting. */
static bool wants_own_thread(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    return atomic_load(&ctx->lease.over) || atomic_load(&ctx->stopping) || atomic_load(&ctx->exclusive_pending) ||
           atomic_load(&ctx->sync_waiters) || atomic_load(&cpu->error) || atomic_load(&cpu->work) || cpu->stuck;
}

/* The same while the vCPU is lent. It consumes none of these requests, one that comes after the look included: whoever
 * makes it sets exit_request afterwards. */
static int attend_lent(struct raddle_cpu *cpu)
{
    if (wants_own_thread(cpu))
        return HAND_BACK;
    queue_drain(cpu);
    if (has_marks_to_pass(cpu))
        marks_pass(cpu);
    run_due_timers(cpu);
    return GO;
}

/* Whether the vCPU may run now: GO, a reason to return, or AGAIN after a sleep. */
enum { AGAIN = -2 };
static int attend_sleep(struct raddle_cpu *cpu)
{
    struct raddle_cpu_header *h = cpu->header;
    bool parallel = has_flag(cpu->context, RADDLE_FLAG_PARALLEL);
    bool awake = !h->powered_off && (!h->halted || (LOAD(h->interrupt_request) & h->interrupt_mask));
    if (!awake) {
        if (!parallel || is_lent(cpu))
            return RADDLE_HALTED;
        cpu_sleep(cpu, false);
        return AGAIN;
    }
    h->halted = 0;
    if (cpu->waiting_event) {
        if (is_lent(cpu))
            return HAND_BACK;
        if (!parallel && !event_wait_over(cpu))
            return RADDLE_HALTED;
        cpu->waiting_event = false;
        if (parallel)
            cpu_sleep(cpu, true);
        EXCHANGE(h->event, 0);
        return AGAIN;
    }
    if (cpu->yielding) {
        cpu->yielding = false;
        if (!parallel)
            return RADDLE_YIELD;
    }
    return GO;
}

static int attend(struct raddle_cpu *cpu)
{
    struct raddle_cpu_header *h = cpu->header;
    for (;;) {
        if (LOAD(h->exit_request)) {
            STORE(h->exit_request, 0);
            int reason = is_lent(cpu) ? attend_lent(cpu) : attend_exit_request(cpu);
            if (reason != GO) {
                STORE(h->exit_request, 1);
                return reason;
            }
        }
        int reason = attend_sleep(cpu);
        if (reason == AGAIN)
            continue;
        if (reason != GO)
            return reason;
        uint32_t lines;
        while ((lines = LOAD(h->interrupt_request)) && call_callee(cpu, RADDLE_CALLEE_INTERRUPT, lines, 0, 0, 0) == 1)
            h->count_exception++;
        if (!LOAD(h->exit_request))
            return GO;
    }
}

/* -- running ---------------------------------------------------------------------------------------------------- */

/* The block at pc with these flags, or NULL: then *faulted says whether the fetch faulted, or the block must be
 * translated. */
static struct raddle_block *find(struct raddle_cpu *cpu, uint32_t flags, bool *faulted)
{
    struct raddle_cpu_header *h = cpu->header;
    bool cached = !flags && !is_tracing(cpu->context);
    h->count_lookup++;
    struct raddle_block *block = cached ? jumps_find(cpu, h->pc, h->mode) : NULL;
    if (block)
        return block;
    struct probe probe;
    uint64_t pc = h->pc;
    uint32_t code = fetch_probe(cpu, pc, &probe);
    if (code) {
        deliver_fault(cpu, pc, 1, ACCESS_FETCH | fetch_index(cpu) << 8, code);
        *faulted = true;
        return NULL;
    }
    block = block_find(cpu, probe.paddr | (pc & (cpu->context->page_size - 1)), pc, h->mode, flags);
    if (block && cached)
        jumps_enter(cpu, block, probe.local);
    return block;
}

static void trace(struct raddle_cpu *cpu, const struct raddle_block *block)
{
    if (cpu->context->callbacks.trace) {
        bool was_in_code = enter_python(cpu);
        cpu->context->callbacks.trace(cpu->env, block->pc);
        leave_python(cpu, was_in_code);
    }
}

static void run_block(struct raddle_cpu *cpu, struct raddle_block *block)
{
    struct raddle_context *ctx = cpu->context;
    struct raddle_cpu_header *h = cpu->header;
    if (is_tracing(ctx))
        trace(cpu, block);
    cpu->block_flags = 0;
    cpu->chain_slot = ctx->enter(cpu->env, block->code);
    STORE_RELAXED(cpu->retaddr, 0); /* the block may have been left from within a call */
    h->exit_now = 0;
    if (cpu->chain_slot) {
        cpu->chain_pc = h->pc;
        cpu->chain_mode = h->mode;
        cpu->chain_generation = atomic_load(&ctx->blocks.generation);
    }
}

/* Runs one instruction while no other vCPU runs: GO or MISS. */
static int run_exclusively(struct raddle_cpu *cpu)
{
    bool faulted = false;
    cpu_end(cpu);
    raddle_exclusive_begin(cpu->context);
    cpu->exclusive = true;
    blocks_synchronise(cpu);
    return_to_code(cpu, true);
    struct raddle_block *block = find(cpu, RADDLE_SINGLE, &faulted);
    if (block)
        run_block(cpu, block);
    else if (faulted)
        cpu->block_flags = 0;
    leave_code(cpu);
    cpu->exclusive = false;
    raddle_exclusive_end(cpu->context);
    cpu_begin(cpu);
    cpu->want.answer = RADDLE_INSTALL_OK;
    return block || faulted ? GO : RADDLE_MISS;
}

static int run_once(struct raddle_cpu *cpu)
{
    struct raddle_cpu_header *h = cpu->header;
    bool counting = has_flag(cpu->context, RADDLE_FLAG_ICOUNT), faulted = false;
    if (counting && h->icount_left <= 0)
        return RADDLE_BUDGET;
    if (cpu->block_flags & FLAG_EXCLUSIVE)
        return is_lent(cpu) ? HAND_BACK : run_exclusively(cpu);
    struct raddle_block *block = find(cpu, cpu->block_flags, &faulted);
    if (block && counting && (int64_t)block->ninsns > h->icount_left) {
        cpu->block_flags = RADDLE_SINGLE;
        block = find(cpu, RADDLE_SINGLE, &faulted);
    }
    if (block && counting)
        icount_lend(cpu, block);
    if (faulted) {
        cpu->block_flags = 0;
        cpu->chain_slot = 0;
        return GO;
    }
    if (!block) {
        h->count_miss++;
        return translate_from_memo(cpu) ? GO : RADDLE_MISS;
    }
    if (cpu->chain_slot)
        block_chain(cpu, block);
    run_block(cpu, block);
    return GO;
}

static int run(struct raddle_cpu *cpu)
{
    int reason;
    cpu_begin(cpu);
    if (is_lent(cpu))
        jumps_expect_loan(cpu);
    do {
        reason = attend(cpu);
        if (reason == GO)
            reason = run_once(cpu);
    } while (reason == GO);
    cpu_end(cpu);
    return reason;
}

int raddle_run(void *env)
{
    struct raddle_cpu *cpu = cpu_of(env);
    icount_enter(cpu);
    barrier_enter(cpu);
    int reason = run(cpu);
    icount_commit(cpu);
    return reason;
}

/* If its own thread must go on, exit_request keeps that from sleeping (may_sleep). */
bool cpu_run_lent(struct raddle_cpu *cpu)
{
    if (run(cpu) == RADDLE_HALTED)
        return true;
    STORE(cpu->header->exit_request, 1);
    return false;
}
