/* SPDX-License-Identifier: Apache-2.0 */
/* Synchronisation of threads: running and exclusive sections, kicks and sleep, interrupt lines, the big lock. */
#include "internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

void mutex_init(pthread_mutex_t *lock, bool recursive)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, recursive ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_DEFAULT);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

#define LONGEST_WAIT 3600000000000u

/* The time `ns` from now, but at most an hour, so that no sum overflows: a longer wait is repeated. NONE: no limit. */
uint64_t wait_deadline(uint64_t ns)
{
    return ns == NONE ? NONE : now_ns() + (ns < LONGEST_WAIT ? ns : LONGEST_WAIT);
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline)
{
    if (deadline == NONE)
        return pthread_cond_wait(cond, lock) == 0;
    struct timespec t = timespec_of(deadline);
    return pthread_cond_timedwait(cond, lock, &t) != ETIMEDOUT;
}

/* Returns when the word has another value than `seen`, at the deadline, or earlier. Cheaper than a condition, after whose
 * wait the C library takes the lock as if others waited for it, and enters the kernel to wake them when it is released. */
void word_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t deadline)
{
    _Static_assert(sizeof(long) == sizeof(uint64_t), "this system call has a timespec of the kernel's longs");
    struct timespec t = timespec_of(deadline);
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, deadline == NONE ? NULL : &t, NULL,
            FUTEX_BITSET_MATCH_ANY); /* the deadline is a time of the monotonic clock */
}

void word_change(_Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void threads_init(struct raddle_context *ctx)
{
    mutex_init(&ctx->code_lock, false);
    mutex_init(&ctx->big_lock, true);
    mutex_init(&ctx->exclusive_lock, false);
    mutex_init(&ctx->idle_lock, false);
    cond_init(&ctx->exclusive_idle);
    cond_init(&ctx->exclusive_resume);
    mutex_init(&ctx->sync_lock, false);
    cond_init(&ctx->sync_over);
    cond_init(&ctx->idle);
}

void threads_free(struct raddle_context *ctx)
{
    pthread_mutex_destroy(&ctx->code_lock);
    pthread_mutex_destroy(&ctx->big_lock);
    pthread_mutex_destroy(&ctx->exclusive_lock);
    pthread_mutex_destroy(&ctx->idle_lock);
    pthread_cond_destroy(&ctx->exclusive_idle);
    pthread_cond_destroy(&ctx->exclusive_resume);
    pthread_cond_destroy(&ctx->sync_over);
    pthread_mutex_destroy(&ctx->sync_lock);
    pthread_cond_destroy(&ctx->idle);
}

/* -- running, exclusive sections -------------------------------------------------------------------------------- */

/* For `running` and `exclusive_pending`, and for `in_code` and the flush queue, each side stores its flag and then
 * loads the other's, all sequentially consistent: so at least one side sees the other. */
void cpu_begin(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    for (;;) {
        atomic_store(&cpu->running, 1);
        if (!atomic_load(&ctx->exclusive_pending))
            break;
        pthread_mutex_lock(&ctx->exclusive_lock);
        atomic_store(&cpu->running, 0);
        pthread_cond_signal(&ctx->exclusive_idle);
        while (atomic_load(&ctx->exclusive_pending))
            pthread_cond_wait(&ctx->exclusive_resume, &ctx->exclusive_lock);
        pthread_mutex_unlock(&ctx->exclusive_lock);
    }
    blocks_synchronise(cpu);
    return_to_code(cpu, true);
}

void cpu_end(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    leave_code(cpu);
    atomic_store(&cpu->running, 0);
    if (atomic_load(&ctx->exclusive_pending)) {
        pthread_mutex_lock(&ctx->exclusive_lock);
        pthread_cond_signal(&ctx->exclusive_idle);
        pthread_mutex_unlock(&ctx->exclusive_lock);
    }
}

bool leave_code(struct raddle_cpu *cpu)
{
    bool was_in_code = atomic_load_explicit(&cpu->in_code, memory_order_relaxed);
    atomic_store(&cpu->in_code, 0);
    tlb_answer(cpu);
    if (has_marks_to_pass(cpu))
        marks_pass(cpu);
    return was_in_code;
}

void return_to_code(struct raddle_cpu *cpu, bool was_in_code)
{
    if (!was_in_code)
        return;
    atomic_store(&cpu->in_code, 1);
    queue_drain(cpu);
}

static bool any_running(struct raddle_context *ctx)
{
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i] && atomic_load(&ctx->cpus[i]->running))
            return true;
    return false;
}

void raddle_exclusive_begin(raddle_context *ctx)
{
    uint64_t start = now_ns();
    pthread_mutex_lock(&ctx->exclusive_lock);
    while (atomic_load(&ctx->exclusive_pending))
        pthread_cond_wait(&ctx->exclusive_resume, &ctx->exclusive_lock);
    atomic_store(&ctx->exclusive_pending, 1);
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i] && atomic_load(&ctx->cpus[i]->running))
            STORE(ctx->cpus[i]->header->exit_request, 1);
    while (any_running(ctx))
        pthread_cond_wait(&ctx->exclusive_idle, &ctx->exclusive_lock);
    ctx->exclusive_sections++;
    ctx->exclusive_wait_ns += now_ns() - start;
    pthread_mutex_unlock(&ctx->exclusive_lock);
}

void raddle_exclusive_end(raddle_context *ctx)
{
    pthread_mutex_lock(&ctx->exclusive_lock);
    atomic_store(&ctx->exclusive_pending, 0);
    pthread_cond_broadcast(&ctx->exclusive_resume);
    pthread_mutex_unlock(&ctx->exclusive_lock);
}

/* -- kicks, sleep ----------------------------------------------------------------------------------------------- */

/* One that is lent is not woken: the timers' thread sees what has changed before it gives the vCPU back. */
void cpu_wake(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    uint32_t sleeping = atomic_load(&cpu->sleeping);
    if (sleeping == SLEEPS || sleeping == SLEEPS_FOR_EVENT) {
        pthread_mutex_lock(&cpu->sleep_lock);
        pthread_cond_signal(&cpu->sleep_cond);
        pthread_mutex_unlock(&cpu->sleep_lock);
    }
    if (!has_flag(ctx, RADDLE_FLAG_PARALLEL)) {
        pthread_mutex_lock(&ctx->idle_lock);
        atomic_fetch_add(&ctx->idle_kicks, 1);
        pthread_cond_broadcast(&ctx->idle);
        pthread_mutex_unlock(&ctx->idle_lock);
    }
}

void cpu_kick(struct raddle_cpu *cpu)
{
    STORE(cpu->header->exit_request, 1);
    cpu_wake(cpu);
}

/* Whether this thread runs all vCPUs, and one of them now. */
static bool runs_turn(struct raddle_context *ctx)
{
    return !has_flag(ctx, RADDLE_FLAG_PARALLEL) && atomic_load(&ctx->turns.cpu) &&
           pthread_equal(ctx->turns.thread, pthread_self());
}

#define SHORT_ROUNDS 2u /* rounds in which every vCPU has a short turn */

/* If one thread runs all vCPUs, a vCPU that interrupts another gives up its turn, and the turns that follow are short
 * (schedule.c). */
static void turn_interrupts(struct raddle_cpu *target)
{
    struct raddle_context *ctx = target->context;
    struct raddle_cpu *cpu = runs_turn(ctx) ? atomic_load(&ctx->turns.cpu) : NULL;
    if (!cpu || cpu == target)
        return;
    atomic_store(&cpu->slice_over, 1);
    STORE(cpu->header->exit_request, 1);
    ctx->turns.short_turns = SHORT_ROUNDS * ctx->config.ncpus + 1; /* the one that ends now */
}

/* Whether the vCPU must be woken. */
static bool set_lines(struct raddle_cpu *cpu, uint32_t lines)
{
    uint32_t before = __atomic_fetch_or(&cpu->header->interrupt_request, lines, __ATOMIC_SEQ_CST);
    if (!(lines & ~before))
        return false;
    STORE(cpu->header->exit_request, 1);
    return true;
}

void cpu_set_lines(struct raddle_cpu *cpu, uint32_t lines)
{
    if (set_lines(cpu, lines)) {
        cpu_wake(cpu);
        turn_interrupts(cpu);
    }
}

/* Whoever is woken under the big lock soon waits for it, which takes two more switches of threads. */
void cpu_set_lines_later(struct raddle_cpu *cpu, uint32_t lines)
{
    if (set_lines(cpu, lines))
        atomic_store(&cpu->wake_owed, true);
}

void cpu_kick_later(struct raddle_cpu *cpu)
{
    STORE(cpu->header->exit_request, 1);
    atomic_store(&cpu->wake_owed, true);
}

bool cpu_take_owed_wake(struct raddle_cpu *cpu)
{
    return atomic_load(&cpu->wake_owed) && atomic_exchange(&cpu->wake_owed, false);
}

void cpus_wake(struct raddle_context *ctx)
{
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i] && cpu_take_owed_wake(ctx->cpus[i]))
            cpu_wake(ctx->cpus[i]);
}

void cpu_clear_lines(struct raddle_cpu *cpu, uint32_t lines)
{
    __atomic_fetch_and(&cpu->header->interrupt_request, ~lines, __ATOMIC_SEQ_CST);
}

/* Guests' kernels send an event at each release of a lock, so it wakes nobody in vain: no vCPU in `wfi`, and not the
 * thread of all vCPUs when that thread itself runs the one that sends. */
void cpu_set_event(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    STORE(cpu->header->event, 1); /* before `sleeping` is read; cpu_sleep writes that before it reads the event */
    if (has_flag(ctx, RADDLE_FLAG_PARALLEL) ? atomic_load(&cpu->sleeping) == SLEEPS_FOR_EVENT : !runs_turn(ctx))
        cpu_wake(cpu);
}

static bool may_sleep(struct raddle_cpu *cpu, bool for_event)
{
    struct raddle_cpu_header *h = cpu->header;
    if (LOAD(h->exit_request))
        return false;
    if (h->powered_off)
        return true;
    return !(LOAD(h->interrupt_request) & h->interrupt_mask) && !(for_event && LOAD(h->event));
}

enum {
    SHORT_NS = 100000, /* a vCPU that sleeps again after so little time has only handled an interrupt */
    SHORT_WAKES = 4,   /* one that has done so as often in a row will do so again */
};

bool cpu_may_be_lent(struct raddle_cpu *cpu)
{
    return atomic_load(&cpu->sleeping) == SLEEPS && atomic_load(&cpu->short_wakes) >= SHORT_WAKES;
}

/* Another thread runs the vCPU from now on: that thread's clock says whether it has a core, and it must not execute what
 * it has fetched before a flush. */
static void change_thread(struct raddle_cpu *cpu)
{
    barrier_enter(cpu);
    cpu->synchronised = atomic_load(&cpu->context->blocks.generation) - 1;
    cpu->spins = 0;
}

bool cpu_borrow(struct raddle_cpu *cpu)
{
    pthread_mutex_lock(&cpu->sleep_lock);
    bool sleeps = cpu_may_be_lent(cpu);
    if (sleeps)
        atomic_store(&cpu->sleeping, LENT);
    pthread_mutex_unlock(&cpu->sleep_lock);
    if (sleeps)
        change_thread(cpu);
    return sleeps;
}

void cpu_give_back(struct raddle_cpu *cpu, bool long_run)
{
    pthread_mutex_lock(&cpu->sleep_lock);
    if (long_run)
        atomic_store(&cpu->short_wakes, 0);
    COUNT(cpu->stats.loans, 1);
    atomic_store(&cpu->sleeping, SLEEPS);
    if (!may_sleep(cpu, false))
        pthread_cond_signal(&cpu->sleep_cond);
    pthread_mutex_unlock(&cpu->sleep_lock);
}

/* Sleeps until kicked, until a line that wakes the vCPU is pending or, if `for_event`, until an event. */
void cpu_sleep(struct raddle_cpu *cpu, bool for_event)
{
    struct raddle_context *ctx = cpu->context;
    uint64_t start = now_ns(), deadline = NONE, loans = cpu->stats.loans;
    if (for_event && ctx->config.wfe_limit_us)
        deadline = start + (uint64_t)ctx->config.wfe_limit_us * 1000;
    atomic_store(&cpu->short_wakes, start - cpu->awake_since < SHORT_NS ? cpu->short_wakes + 1 : 0);
    cpu_end(cpu);
    pthread_mutex_lock(&cpu->sleep_lock);
    atomic_store(&cpu->sleeping, for_event ? SLEEPS_FOR_EVENT : SLEEPS);
    while (is_lent(cpu) || may_sleep(cpu, for_event)) {
        bool in_time = cond_wait_until(&cpu->sleep_cond, &cpu->sleep_lock, deadline);
        COUNT(cpu->stats.wakes, 1);
        if (!in_time)
            break;
    }
    atomic_store(&cpu->sleeping, AWAKE);
    pthread_mutex_unlock(&cpu->sleep_lock);
    if (cpu->stats.loans != loans)
        change_thread(cpu);
    cpu->awake_since = now_ns();
    COUNT(cpu->stats.sleeps, 1);
    COUNT(cpu->stats.sleep_ns, cpu->awake_since - start);
    cpu_begin(cpu);
}

enum {
    SPINS = 256,           /* hints in a row between readings of the time */
    SPINS_NS = SPINS * 500 /* the most CPU time that so many take if the guest does nothing else */
};

/* The guest may wait for a vCPU that has no core, while this one keeps its own core busy. So a guest that only spins
 * leaves the core to others; a guest that gives the hint now and then, between other work, does not. */
void cpu_spin(struct raddle_cpu *cpu)
{
    if (cpu->spin_pc != cpu->header->pc) {
        cpu->spin_pc = cpu->header->pc;
        cpu->spins = 0;
    }
    if (++cpu->spins % SPINS)
        return;
    uint64_t now = cpu_ns();
    if (cpu->spins > SPINS && now - cpu->spin_since <= SPINS_NS) {
        bool was_in_code = leave_code(cpu);
        sched_yield();
        return_to_code(cpu, was_in_code);
        COUNT(cpu->stats.spin_yields, 1);
        now = cpu_ns();
    }
    cpu->spin_since = now;
}

void raddle_kick(void *env)
{
    cpu_kick(cpu_of(env));
}

void raddle_work(void *env)
{
    atomic_store(&cpu_of(env)->work, 1);
    cpu_kick(cpu_of(env));
}

void raddle_interrupt_set(void *env, uint32_t lines)
{
    cpu_set_lines(cpu_of(env), lines);
}

void raddle_interrupt_clear(void *env, uint32_t lines)
{
    cpu_clear_lines(cpu_of(env), lines);
}

void raddle_event(raddle_context *ctx)
{
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i])
            cpu_set_event(ctx->cpus[i]);
}

static void kick_all(struct raddle_context *ctx)
{
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i])
            cpu_kick(ctx->cpus[i]);
}

void raddle_stop(raddle_context *ctx)
{
    atomic_store(&ctx->stopping, 1);
    kick_all(ctx);
}

void raddle_go(raddle_context *ctx)
{
    atomic_store(&ctx->stopping, 0);
}

int raddle_stopping(raddle_context *ctx)
{
    return (int)atomic_load(&ctx->stopping);
}

void raddle_error(raddle_context *ctx, void *env)
{
    if (env)
        atomic_store(&cpu_of(env)->error, 1);
    raddle_stop(ctx);
}

/* -- big lock --------------------------------------------------------------------------------------------------- */

static uint64_t wait_for_big_lock(struct raddle_context *ctx)
{
    uint64_t start = now_ns();
    pthread_mutex_lock(&ctx->big_lock);
    uint64_t waited = now_ns() - start;
    atomic_fetch_add_explicit(&ctx->big_lock_waits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&ctx->big_lock_wait_ns, waited, memory_order_relaxed);
    return waited;
}

void raddle_big_lock(raddle_context *ctx)
{
    if (pthread_mutex_trylock(&ctx->big_lock))
        wait_for_big_lock(ctx);
}

void raddle_big_unlock(raddle_context *ctx)
{
    pthread_mutex_unlock(&ctx->big_lock);
}

void cpu_big_lock(struct raddle_cpu *cpu)
{
    if (pthread_mutex_trylock(&cpu->context->big_lock) == 0)
        return;
    bool was_in_code = leave_code(cpu);
    COUNT(cpu->stats.big_lock_wait_ns, wait_for_big_lock(cpu->context));
    return_to_code(cpu, was_in_code);
}
