/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the block and the guest instruction that a host address belongs to. */
#include "internal.h"

struct raddle_block *block_of_address(struct raddle_context *ctx, uint64_t address)
{
    struct block_table *t = &ctx->blocks;
    uint64_t low = 0, high = atomic_load_explicit(&t->count, memory_order_acquire);
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if ((uint64_t)(uintptr_t)t->by_address[middle]->code < address)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return NULL;
    struct raddle_block *b = t->by_address[low - 1];
    return address <= (uint64_t)(uintptr_t)b->code + b->code_size ? b : NULL;
}

bool in_blocks(const struct raddle_context *ctx, uint64_t address)
{
    uint64_t start = (uint64_t)(uintptr_t)(ctx->code.rx + ctx->code.fixed_size);
    return address > start && address <= start + ctx->code.size - ctx->code.fixed_size;
}

static int instruction_in_part(const struct raddle_block *block, uint32_t offset, uint32_t start, bool cold)
{
    uint32_t end = start;
    for (uint32_t i = 0; i < block->ninsns; i++) {
        start = end;
        end += cold ? block->table[i].cold : block->table[i].hot;
        if (start < offset && offset <= end)
            return (int)i;
    }
    return -1;
}

int block_instruction(const struct raddle_block *block, uint64_t retaddr, uint64_t *pc, uint32_t *extra)
{
    uint32_t offset = (uint32_t)(retaddr - (uint64_t)(uintptr_t)block->code);
    int index = instruction_in_part(block, offset, block->hot_start, false);
    if (index < 0)
        index = instruction_in_part(block, offset, block->cold_start, true);
    if (index < 0)
        return -1;
    *pc = block->pc;
    for (int i = 0; i < index; i++)
        *pc += block->table[i].guest;
    *extra = block->table[index].extra;
    return index;
}

int raddle_restore_pc(void *env, uint64_t retaddr)
{
    struct raddle_cpu *cpu = cpu_of(env);
    struct raddle_block *block = block_of_address(cpu->context, retaddr);
    uint64_t pc;
    uint32_t extra;
    int index = block ? block_instruction(block, retaddr, &pc, &extra) : -1;
    if (index >= 0) {
        cpu->header->pc = pc & cpu->context->word_mask;
        cpu->header->insn_extra = extra;
    }
    return index;
}

/* Any thread may call the next two. A flush does not wait for threads that run no vCPU, so they hold code_lock to keep
 * the blocks. */
uint64_t raddle_pc(void *env)
{
    struct raddle_cpu *cpu = cpu_of(env);
    uint64_t retaddr = LOAD_RELAXED(cpu->retaddr), pc = LOAD_RELAXED(cpu->header->pc);
    uint32_t extra;
    if (!retaddr)
        return pc;
    pthread_mutex_lock(&cpu->context->code_lock);
    struct raddle_block *block = block_of_address(cpu->context, retaddr);
    if (block && block_instruction(block, retaddr, &pc, &extra) >= 0)
        pc &= cpu->context->word_mask;
    pthread_mutex_unlock(&cpu->context->code_lock);
    return pc;
}

uint64_t raddle_block_at(raddle_context *ctx, uint64_t address)
{
    pthread_mutex_lock(&ctx->code_lock);
    struct raddle_block *block = block_of_address(ctx, address);
    uint64_t pc = block ? block->pc : NONE;
    pthread_mutex_unlock(&ctx->code_lock);
    return pc;
}
