/* SPDX-License-Identifier: Apache-2.0 */
/* Stores that are on their way when their page is marked as holding code.
 *
 * Generated code compares a TLB entry, and stores a few instructions later. When another vCPU marks the page in
 * between (raddle_code_begin) and installs a block of its bytes, the store lands and nobody sees it: the block would
 * be stale for ever. Only the first mark of a page leaves room for this: a store that compares after it takes the slow
 * path.
 *
 * So marks are numbered. A vCPU passes a mark when it is seen outside generated code after it: then none of its stores
 * that compared before the mark is still on its way. A mark is settled once all vCPUs have passed it. A block that is
 * installed before its pages' marks are settled is kept in a list, with the bytes that it was translated from.
 * Whenever a vCPU passes marks, the blocks that are as young as these are compared with memory, and those that differ
 * die. After the last vCPU has passed, no stale block is left.
 *
 * No vCPU waits for another. One that is in generated code when a page is marked finds exit_request set, and passes
 * the mark at its next block entry, before it can run a block that was installed since. So it never runs code that is
 * older than its own stores. A vCPU that wants to see the stores of others synchronises its instruction fetches, or
 * the other one does, as the guest's architecture has it: both call the helper icache_sync, which compares all blocks
 * in the list.
 *
 * One thread that runs all vCPUs has no such window: it translates when no store is on its way. No marks are counted
 * then.
 *
 * Order: the marker stores the marks in the TLBs and then loads `in_code`; a vCPU stores `in_code`, loads the state of
 * its flush queue, and then uses TLB entries (threads.c). All but the last are sequentially consistent, and no load is
 * done before one that is: so either the marker sees the vCPU in code, or the vCPU sees the marks. */
#include "internal.h"

#include <string.h>

bool stores_may_be_unseen(const struct raddle_context *ctx)
{
    return has_flag(ctx, RADDLE_FLAG_PARALLEL) && ctx->config.ncpus > 1;
}

/* Under code_lock: takes note of who has passed the last mark, `self` among them (NULL: nobody in particular), and asks
 * the others to. Compares the blocks that are younger than what any of them had passed before; `all`: every one. */
static void review(struct raddle_context *ctx, const struct raddle_cpu *self, bool all)
{
    uint64_t marks = atomic_load(&ctx->marks), settled = marks, since = all ? 0 : marks;
    for (uint32_t i = 0; i < ctx->config.ncpus; i++) {
        struct raddle_cpu *cpu = ctx->cpus[i];
        uint64_t passed = cpu ? atomic_load(&cpu->marks_passed) : marks;
        if (passed == marks)
            continue;
        if (cpu != self && atomic_load(&cpu->in_code)) {
            STORE(cpu->header->exit_request, 1);
            settled = passed < settled ? passed : settled;
            continue;
        }
        since = passed < since ? passed : since;
        atomic_store(&cpu->marks_passed, marks);
    }
    for (struct unsettled_block *u = ctx->unsettled; u && u->mark > since; u = u->next)
        if (!atomic_load(&u->block->dead) && !block_holds(ctx, u->block, u->guest))
            block_discard(ctx, u->block);
    struct unsettled_block **link = &ctx->unsettled;
    while (*link && (*link)->mark > settled)
        link = &(*link)->next;
    *link = NULL;
    atomic_store(&ctx->marks_settled, settled);
}

void marks_add(struct raddle_context *ctx, struct page *page)
{
    if (!stores_may_be_unseen(ctx))
        return;
    page->mark = (uint32_t)(atomic_fetch_add(&ctx->marks, 1) + 1);
    review(ctx, NULL, false);
}

void marks_pass(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    pthread_mutex_lock(&ctx->code_lock);
    review(ctx, cpu, false);
    pthread_mutex_unlock(&ctx->code_lock);
}

/* Of a page's mark only the low half is kept. A page that was marked 2**31 marks ago may count as unsettled again,
 * which costs a place in the list; the other way round it cannot be mistaken. */
bool mark_is_settled(const struct raddle_context *ctx, const struct page *page)
{
    return (int32_t)(page->mark - (uint32_t)atomic_load(&ctx->marks_settled)) <= 0;
}

uint64_t unsettled_size(uint64_t guest_size)
{
    return sizeof(struct unsettled_block) + guest_size;
}

/* The list's first block is its youngest. */
void unsettled_add(struct raddle_context *ctx, void *place, struct raddle_block *block, const void *guest)
{
    struct unsettled_block *u = place;
    *u = (struct unsettled_block){.next = ctx->unsettled, .block = block, .mark = atomic_load(&ctx->marks)};
    memcpy(u->guest, guest, block->guest_size);
    ctx->unsettled = u;
}

/* The vCPU's earlier stores, and those of others that it has seen, come before the look at the marks. A mark that it
 * does not see was made by a vCPU that reads the bytes after a fence of its own (raddle_code_begin), and sees the
 * stores. */
uint64_t raddle_helper_icache_sync(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    (void)a0, (void)a1, (void)a2, (void)a3;
    struct raddle_cpu *cpu = cpu_of(env);
    struct raddle_context *ctx = cpu->context;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&ctx->marks) == atomic_load(&ctx->marks_settled))
        return 0;
    pthread_mutex_lock(&ctx->code_lock);
    review(ctx, cpu, true);
    pthread_mutex_unlock(&ctx->code_lock);
    return 0;
}
