/* SPDX-License-Identifier: Apache-2.0 */
/* Makes, configures and frees contexts and vCPUs. For the lock order see the head of internal.h. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define ENV_ALIGN     64
#define STATE_CUSHION 256 /* bytes after the guest's state that a wide access may touch */

static int config_check(const struct raddle_config *c)
{
    uint32_t modes = c->flags & (RADDLE_FLAG_PARALLEL | RADDLE_FLAG_ICOUNT);
    bool ok = c->page_bits >= 12 && c->page_bits < 32 && (c->word_bits == 32 || c->word_bits == 64) && c->ncpus >= 1 &&
              c->ncpus <= (c->flags & RADDLE_FLAG_RESERVE ? RADDLE_MOST_RESERVING : 4096) && c->code_size >= 65536 &&
              c->code_size <= (1u << 30) && c->fetch_index_shift < 32 &&
              (uint64_t)(RADDLE_MMU_INDICES - 1) << c->fetch_index_shift <= UINT32_MAX &&
              c->common_indices < 1u << RADDLE_MMU_INDICES &&
              modes != (RADDLE_FLAG_PARALLEL | RADDLE_FLAG_ICOUNT);
    return ok ? 0 : -1;
}

raddle_context *raddle_context_new(const struct raddle_config *config, const struct raddle_callbacks *callbacks)
{
    if (config_check(config)) {
        errno = EINVAL;
        return NULL;
    }
    struct raddle_context *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return NULL;
    ctx->config = *config;
    atomic_store(&ctx->tracing, (config->flags & RADDLE_FLAG_TRACE) != 0);
    ctx->callbacks = *callbacks;
    ctx->word_mask = config->word_bits == 32 ? UINT32_MAX : UINT64_MAX;
    ctx->page_size = (uint64_t)1 << config->page_bits;
    ctx->cpus_memory.huge = true;
    threads_init(ctx);
    ctx->cpus = calloc(config->ncpus, sizeof *ctx->cpus);
    if (!ctx->cpus || code_init(ctx) || blocks_init(ctx) || clock_init(ctx)) {
        int error = errno;
        raddle_context_free(ctx);
        errno = error;
        return NULL;
    }
    return ctx;
}

/* All but its memory, which is the context's. */
static void cpu_free(struct raddle_cpu *cpu)
{
    pthread_mutex_destroy(&cpu->sleep_lock);
    pthread_cond_destroy(&cpu->sleep_cond);
    pthread_cond_destroy(&cpu->sync_answered);
    pthread_mutex_destroy(&cpu->tlb_lock);
    pthread_mutex_destroy(&cpu->queue_lock);
    free(cpu->sync_tickets);
    raddle_joined_clear(&cpu->want.joined);
}

void raddle_context_free(raddle_context *ctx)
{
    if (!ctx)
        return;
    timers_free(ctx);
    clock_free(ctx);
    for (uint32_t i = 0; ctx->cpus && i < ctx->config.ncpus; i++)
        if (ctx->cpus[i])
            cpu_free(ctx->cpus[i]);
    free(ctx->cpus);
    if (ctx->timers_cpu)
        cpu_free(ctx->timers_cpu);
    arena_clear(&ctx->cpus_memory);
    blocks_free(ctx);
    code_free(ctx);
    memory_free(ctx);
    free(ctx->watch_pages);
    threads_free(ctx);
    free(ctx);
}

/* Each thread may have a heap of its own, which keeps freed memory. */
void raddle_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* The header tells generated code where the TLBs are. A build with more MMU indices has no room for the others. */
static void pairs_init(struct raddle_cpu *cpu)
{
    struct pair {
        uint64_t mask;
        void *table;
    } *pairs = (struct pair *)((char *)cpu->env + RADDLE_TLB_PAIRS);
    for (uint32_t i = 0; i < RADDLE_MMU_INDICES && i < RADDLE_TLB_PAIR_COUNT; i++) {
        pairs[i].mask = (RADDLE_TLB_ENTRIES - 1) * sizeof(struct tlb_entry);
        pairs[i].table = cpu->tlb + i * RADDLE_TLB_ENTRIES;
    }
}

static size_t aligned(size_t size)
{
    return (size + ENV_ALIGN - 1) & ~(size_t)(ENV_ALIGN - 1);
}

/* A vCPU's private part, its env with `before` bytes of memory in front, and `jumps` entries of a jump cache, in one
 * piece. NULL when out of memory. */
static struct raddle_cpu *cpu_new(struct raddle_context *ctx, size_t before, uint32_t state_size, size_t jumps)
{
    size_t state = aligned(state_size + STATE_CUSHION);
    before = aligned(before);
    char *memory = arena_take(&ctx->cpus_memory, ENV_ALIGN + aligned(sizeof(struct raddle_cpu)) + before + state +
                                                     jumps * sizeof(struct jump_entry));
    if (!memory)
        return NULL;
    struct raddle_cpu *cpu = (struct raddle_cpu *)(uintptr_t)aligned((uintptr_t)memory);
    mutex_init(&cpu->sleep_lock, false);
    mutex_init(&cpu->tlb_lock, false);
    mutex_init(&cpu->queue_lock, false);
    cond_init(&cpu->sleep_cond);
    cond_init(&cpu->sync_answered);
    cpu->context = ctx;
    cpu->env = (char *)cpu + aligned(sizeof *cpu) + before;
    cpu->jumps = (struct jump_entry *)((char *)cpu->env + state);
    cpu->header = header_of(cpu->env);
    cpu->header->private_data = cpu;
    return cpu;
}

void *raddle_cpu_new(raddle_context *ctx, uint32_t index, uint32_t state_size)
{
    if (index >= ctx->config.ncpus || ctx->cpus[index]) {
        errno = EINVAL;
        return NULL;
    }
    struct raddle_cpu *cpu = cpu_new(ctx, (size_t)-RADDLE_TLB_OFFSET, state_size, RADDLE_JUMP_CACHE_ENTRIES);
    if (!cpu)
        return NULL;
    cpu->sync_tickets = calloc(ctx->config.ncpus, sizeof *cpu->sync_tickets);
    if (!cpu->sync_tickets) {
        cpu_free(cpu);
        errno = ENOMEM;
        return NULL;
    }
    cpu->tlb = (struct tlb_entry *)((char *)cpu->env + RADDLE_TLB_OFFSET);
    struct raddle_cpu_header *h = cpu->header;
    h->jump_cache = cpu->jumps;
    h->cpu_index = index;
    granules_connect(cpu);
    pairs_init(cpu);
    h->interrupt_mask = UINT32_MAX;
    h->exclusive_address = NONE;
    h->exception_place = NONE;
    tlb_init(cpu);
    jumps_init(cpu);
    ctx->cpus[index] = cpu;
    return cpu->env;
}

void *raddle_timers_env(raddle_context *ctx, uint32_t state_size)
{
    if (ctx->timers_cpu) {
        errno = EINVAL;
        return NULL;
    }
    ctx->timers_cpu = cpu_new(ctx, RADDLE_HEADER_SIZE, state_size, 0);
    return ctx->timers_cpu ? ctx->timers_cpu->env : NULL;
}

void *raddle_cpu_header(void *env)
{
    return header_of(env);
}

void raddle_field_store(void *env, int32_t offset, uint32_t size, uint64_t value)
{
    char *field = (char *)env + offset;
    if (size == sizeof(uint64_t))
        STORE(*(uint64_t *)field, value);
    else
        STORE(*(uint32_t *)field, (uint32_t)value);
}

void raddle_set_enter(raddle_context *ctx, void *enter)
{
    ctx->enter = (raddle_enter_function)(uintptr_t)enter;
}

void raddle_set_synchronise(raddle_context *ctx, void *synchronise)
{
    ctx->synchronise = (void (*)(void))(uintptr_t)synchronise;
}

int raddle_set_callee(raddle_context *ctx, uint32_t which, void *function)
{
    if (which > RADDLE_CALLEE_INTERRUPT)
        return -1;
    ctx->callees[which] = (struct callee){.function = (raddle_function)(uintptr_t)function};
    return 0;
}

int raddle_set_callee_number(raddle_context *ctx, uint32_t which, uint32_t number)
{
    if (which > RADDLE_CALLEE_INTERRUPT)
        return -1;
    ctx->callees[which] = (struct callee){.number = number};
    return 0;
}

void raddle_stats(raddle_context *ctx, struct raddle_stats *out)
{
    *out = (struct raddle_stats){.big_lock_waits = ctx->big_lock_waits,
                                 .big_lock_wait_ns = ctx->big_lock_wait_ns,
                                 .idle_ns = ctx->turns.idle_ns};
    pthread_mutex_lock(&ctx->code_lock);
    out->blocks = ctx->blocks.count;
    out->instructions = ctx->instructions;
    out->installs = ctx->installs;
    out->installs_raced = ctx->installs_raced;
    out->installs_equal = ctx->installs_equal;
    out->invalidated = ctx->invalidated;
    out->flushes = ctx->flushes;
    out->record_bytes = block_records(ctx);
    pthread_mutex_unlock(&ctx->code_lock);
    pthread_mutex_lock(&ctx->timer_lock);
    out->timers_fired = ctx->timers_fired;
    pthread_mutex_unlock(&ctx->timer_lock);
    pthread_mutex_lock(&ctx->exclusive_lock);
    out->exclusive_sections = ctx->exclusive_sections;
    out->exclusive_wait_ns = ctx->exclusive_wait_ns;
    pthread_mutex_unlock(&ctx->exclusive_lock);
}

void raddle_cpu_stats(void *env, struct raddle_cpu_stats *out)
{
    const uint64_t *counters = (const uint64_t *)&cpu_of(env)->stats;
    for (size_t i = 0; i < sizeof *out / sizeof *counters; i++)
        ((uint64_t *)out)[i] = LOAD_RELAXED(counters[i]);
}
