/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's jump cache: it finds the code of the block at an address, for jumps that are not chained. Generated code
 * reads it (thunk_indirect).
 *
 * A group of neighbouring entries serves the addresses of every 64th 4 KiB. The owner writes entries; a thread that
 * kills a block empties the block's entries in all caches. */
#include "internal.h"

#include <string.h>

#define GROUPS        (RADDLE_JUMP_CACHE_ENTRIES >> RADDLE_JUMP_GROUP_BITS)
#define GROUP_ENTRIES (1u << RADDLE_JUMP_GROUP_BITS)
#define HOST_LINE     64 /* of most hosts' caches */

static uint32_t group_of(uint64_t pc)
{
    return (uint32_t)(pc >> 12) & (GROUPS - 1);
}

/* The bit for the 4 KiB of an address, among the 64 of its group. */
static uint64_t page_bit(uint64_t pc)
{
    return (uint64_t)1 << ((pc >> 18) & 63);
}

static struct jump_entry *group_start(struct raddle_cpu *cpu, uint32_t group)
{
    return &cpu->jumps[group * GROUP_ENTRIES];
}

static struct jump_entry *slot_of(struct raddle_cpu *cpu, uint64_t pc)
{
    return group_start(cpu, group_of(pc)) + (((pc >> 1) ^ (pc >> (RADDLE_JUMP_GROUP_BITS + 1))) & (GROUP_ENTRIES - 1));
}

#define EACH_ENTERED(place, group) EACH_BIT(place, cpu->jump_entered[group], GROUP_ENTRIES)

void jumps_init(struct raddle_cpu *cpu)
{
    for (uint32_t i = 0; i < RADDLE_JUMP_CACHE_ENTRIES; i++)
        cpu->jumps[i] = (struct jump_entry){.pc = NONE};
}

/* Local entries are listed, so that a change of the address space, which is frequent, need not look at others. */
static void list_local(struct raddle_cpu *cpu, struct jump_entry *e)
{
    if (e->local)
        return;
    if (cpu->jump_local_count == JUMP_LOCALS)
        jumps_clear_local(cpu);
    e->local = true;
    cpu->jump_locals[cpu->jump_local_count++] = (uint16_t)(e - cpu->jumps);
}

/* -- loans -------------------------------------------------------------------------------------------------------- */

/* A vCPU that is lent (timers.c) does about the same in each loan, and what it needs has left the host's caches since the
 * last one. It follows hundreds of jumps, and would wait for an entry, and then for code, at each of them. So all of these
 * are fetched at once when a loan begins. Which they are is learnt now and then, by emptying the cache: then each entry
 * that a loan uses is entered. */
static void note_for_loans(struct raddle_cpu *cpu, const struct jump_entry *e)
{
    if (cpu->loan_jump_count < LOAN_JUMPS)
        cpu->loan_jumps[cpu->loan_jump_count++] = (uint16_t)(e - cpu->jumps);
}

void jumps_expect_loan(struct raddle_cpu *cpu)
{
    if (cpu->loans_until_learning-- == 0) {
        cpu->loans_until_learning = LOANS_BETWEEN_LEARNING;
        cpu->loan_jump_count = 0;
        jumps_clear(cpu);
        return;
    }
    for (uint32_t i = 0; i < cpu->loan_jump_count; i++)
        __builtin_prefetch(&cpu->jumps[cpu->loan_jumps[i]]);
    for (uint32_t i = 0; i < cpu->loan_jump_count; i++) { /* of a block that is gone, the address does no harm */
        const char *code = (const char *)(uintptr_t)LOAD_RELAXED(cpu->jumps[cpu->loan_jumps[i]].code);
        __builtin_prefetch(code, 0, 2);
        __builtin_prefetch(code + HOST_LINE, 0, 2);
    }
}

/* -- entering and finding ----------------------------------------------------------------------------------------- */

/* A thread that kills a block sets `dead` and then looks at the caches; this function enters the block and then looks
 * at `dead`. So one of the two empties the slot. */
void jumps_enter(struct raddle_cpu *cpu, struct raddle_block *block, bool local)
{
    struct jump_entry *e = slot_of(cpu, block->pc);
    if (local || block->phys[1] != NONE)
        list_local(cpu, e);
    if (is_lent(cpu))
        note_for_loans(cpu, e);
    STORE_RELAXED(e->mode, block->mode);
    STORE_RELAXED(e->code, (uint64_t)(uintptr_t)block->code);
    STORE_RELAXED(e->block, (uint64_t)(uintptr_t)block);
    uint32_t group = group_of(block->pc), place = (uint32_t)(e - group_start(cpu, group));
    cpu->jump_pages[group] |= page_bit(block->pc);
    cpu->jump_entered[group][place / 64] |= (uint64_t)1 << place % 64;
    STORE(e->pc, block->pc);
    if (atomic_load(&block->dead))
        STORE_RELAXED(e->pc, NONE);
}

struct raddle_block *jumps_find(struct raddle_cpu *cpu, uint64_t pc, uint32_t mode)
{
    struct jump_entry *e = slot_of(cpu, pc);
    if (LOAD(e->pc) != pc || LOAD_RELAXED(e->mode) != mode)
        return NULL;
    return (struct raddle_block *)(uintptr_t)LOAD_RELAXED(e->block);
}

void jumps_forget(struct raddle_cpu *cpu, const struct raddle_block *block)
{
    struct jump_entry *e = slot_of(cpu, block->pc);
    if (LOAD(e->pc) == block->pc && LOAD_RELAXED(e->block) == (uint64_t)(uintptr_t)block)
        STORE(e->pc, NONE);
}

void jumps_clear(struct raddle_cpu *cpu)
{
    for (uint32_t group = 0; group < GROUPS; group++) {
        if (!cpu->jump_pages[group])
            continue;
        struct jump_entry *e = group_start(cpu, group);
        for EACH_ENTERED (i, group) {
            STORE_RELAXED(e[i].pc, NONE);
            e[i].local = false;
        }
        memset(cpu->jump_entered[group], 0, sizeof cpu->jump_entered[group]);
        cpu->jump_pages[group] = 0;
    }
    cpu->jump_local_count = 0;
}

void jumps_clear_local(struct raddle_cpu *cpu)
{
    for (uint32_t i = 0; i < cpu->jump_local_count; i++) {
        struct jump_entry *e = &cpu->jumps[cpu->jump_locals[i]];
        STORE_RELAXED(e->pc, NONE);
        e->local = false;
    }
    cpu->jump_local_count = 0;
}

/* Clears the page's entries, and those of the 4 KiB before it, where a block that reaches into the page may start.
 * Pages are flushed all the time, and most have no code: the bits show that without a look at the entries. */
void jumps_clear_page(struct raddle_cpu *cpu, uint64_t page)
{
    for (uint64_t offset = 0; offset <= cpu->context->page_size; offset += 4096) {
        uint64_t place = (page - 4096 + offset) & cpu->context->word_mask;
        if (!(cpu->jump_pages[group_of(place)] & page_bit(place)))
            continue;
        struct jump_entry *e = group_start(cpu, group_of(place));
        for EACH_ENTERED (i, group_of(place))
            if ((LOAD_RELAXED(e[i].pc) & ~(uint64_t)4095) == place)
                STORE_RELAXED(e[i].pc, NONE);
    }
}
