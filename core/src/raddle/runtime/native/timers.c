/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that waits for deadlines, by the host's clock, and runs vCPUs that sleep.
 *
 * A guest that is idle still has an interval timer, which interrupts each of its vCPUs a thousand times a second. Each
 * interrupt takes a few microseconds to handle, but to wake the vCPU's thread for it takes more. So the timers' thread,
 * which is awake anyhow, runs a vCPU that sleeps (WFI) until that sleeps again, one vCPU after the other. Such a vCPU is
 * *lent*: its state is LENT, and its own thread touches nothing of it before it is given back, whoever signals. Both
 * changes are made under sleep_lock, which therefore orders all that the two threads do with the vCPU.
 *
 * Meanwhile nobody waits for deadlines, and vCPUs that could run at once run one after the other. Three things keep that
 * short:
 *
 * - Only a vCPU is lent that has slept again within SHORT_NS the last SHORT_WAKES times (threads.c).
 * - It is given back at once for whatever its own thread must do, or might make the timers' thread wait: see
 *   wants_own_thread in loop.c.
 * - A lease ends after at most LEASE_NS. Then another thread, which a timer of the host's kernel wakes, sets
 *   exit_request, and whoever is left is woken as usual. To set that timer takes a third of what a wake takes. So it is
 *   not set for each lease but pushed into the future when it is about to expire, and an idle guest never lets it.
 *
 * A lease must end by itself: a lent vCPU may wait for one that is to be lent after it.
 *
 * No lost wakes: whoever wakes a vCPU sets exit_request or a line and then reads its state; to give it back, the timers'
 * thread writes the state and then reads exit_request and the lines; all are sequentially consistent. `cpu` and `over`
 * of the lease are the same for its end. */
#include "internal.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    LEASE_NS = 5000000,       /* the longest lease */
    LEAST_LEASE_NS = 1200000, /* a lease that would be shorter begins anew: longer than a period of usual timers */
};

/* -- the end of a lease ------------------------------------------------------------------------------------------- */

static void set_lease_timer(const struct lease *lease, uint64_t deadline)
{
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(deadline / 1000000000u),
                                           .tv_nsec = (long)(deadline % 1000000000u)}};
    timerfd_settime(lease->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* A signal, which any thread of the process may get, does not end the wait. */
static void wait_for_expiry(const struct lease *lease)
{
    uint64_t expirations;
    while (read(lease->timer, &expirations, sizeof expirations) < 0 && errno == EINTR)
        continue;
}

static void *lease_thread(void *argument)
{
    struct lease *lease = &((struct raddle_context *)argument)->lease;
    for (wait_for_expiry(lease); !atomic_load(&lease->end); wait_for_expiry(lease)) {
        atomic_store(&lease->over, 1);
        struct raddle_cpu *cpu = atomic_load(&lease->cpu);
        if (cpu)
            STORE(cpu->header->exit_request, 1);
    }
    return NULL;
}

/* Where there is no descriptor or no thread, vCPUs are not lent. */
static bool lease_granted(struct raddle_context *ctx)
{
    struct lease *lease = &ctx->lease;
    if (lease->tried)
        return lease->granted;
    lease->tried = true;
    lease->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (lease->timer < 0)
        return false;
    lease->granted = !pthread_create(&lease->thread, NULL, lease_thread, ctx);
    if (!lease->granted)
        close(lease->timer);
    return lease->granted;
}

static bool lease_begin(struct raddle_context *ctx)
{
    struct lease *lease = &ctx->lease;
    if (!lease_granted(ctx))
        return false;
    uint64_t now = now_ns();
    if (lease->until < now + LEAST_LEASE_NS) {
        lease->until = now + LEASE_NS;
        set_lease_timer(lease, lease->until);
    }
    atomic_store(&lease->over, 0);
    return true;
}

/* -- vCPUs that the timers have changed --------------------------------------------------------------------------- */

/* Runs the vCPU if it sleeps and the lease is not over. */
static bool run_in_place(struct raddle_context *ctx, struct raddle_cpu *cpu)
{
    struct lease *lease = &ctx->lease;
    if (!cpu_borrow(cpu))
        return false;
    atomic_store(&lease->cpu, cpu);
    bool sleeps = cpu_run_lent(cpu);
    atomic_store(&lease->cpu, NULL);
    cpu_give_back(cpu, !sleeps);
    return true;
}

/* First wakes those that run on their own threads, so that they need not wait. */
static void serve_wakes(struct raddle_context *ctx)
{
    bool any = false;
    for (uint32_t i = 0; i < ctx->config.ncpus; i++) {
        struct raddle_cpu *cpu = ctx->cpus[i];
        if (!cpu || !atomic_load(&cpu->wake_owed))
            continue;
        if (cpu_may_be_lent(cpu))
            any = true;
        else if (cpu_take_owed_wake(cpu))
            cpu_wake(cpu);
    }
    if (!any)
        return;
    bool leased = lease_begin(ctx);
    for (uint32_t i = 0; i < ctx->config.ncpus; i++) {
        struct raddle_cpu *cpu = ctx->cpus[i];
        if (cpu && cpu_take_owed_wake(cpu) && !(leased && !atomic_load(&ctx->lease.over) && run_in_place(ctx, cpu)))
            cpu_wake(cpu);
    }
}

/* -- the threads -------------------------------------------------------------------------------------------------- */

static void *timer_thread(void *argument)
{
    struct raddle_context *ctx = argument;
    pthread_mutex_lock(&ctx->timer_lock);
    while (!ctx->timer_thread_end) {
        if (!atomic_load(&ctx->clock_stopped) && timers_fire(ctx)) {
            pthread_mutex_unlock(&ctx->timer_lock);
            serve_wakes(ctx);
            pthread_mutex_lock(&ctx->timer_lock);
        }
        if (ctx->timer_thread_end)
            break;
        uint64_t until = NONE, now = clock_now(ctx);
        uint32_t next = atomic_load(&ctx->clock_stopped) ? RADDLE_TIMERS : timers_earliest(ctx);
        if (next != RADDLE_TIMERS && ctx->timers[next].deadline <= now)
            continue;
        ctx->timer_sleeps_until = NONE;
        if (next != RADDLE_TIMERS) {
            until = wait_deadline(ctx->timers[next].deadline - now);
            ctx->timer_sleeps_until = ctx->timers[next].deadline;
        }
        uint32_t changes = atomic_load(&ctx->timer_changes);
        pthread_mutex_unlock(&ctx->timer_lock);
        word_wait(&ctx->timer_changes, changes, until);
        pthread_mutex_lock(&ctx->timer_lock);
        ctx->timer_sleeps_until = 0;
    }
    pthread_mutex_unlock(&ctx->timer_lock);
    return NULL;
}

static int timer_thread_start(struct raddle_context *ctx)
{
    int failed = 0;
    pthread_mutex_lock(&ctx->timer_lock);
    if (!ctx->timer_thread_started) {
        failed = pthread_create(&ctx->timer_thread, NULL, timer_thread, ctx);
        ctx->timer_thread_started = !failed;
    }
    pthread_mutex_unlock(&ctx->timer_lock);
    return failed;
}

int raddle_timer_new(raddle_context *ctx, uint32_t kind, uint32_t value, void *env)
{
    int number = timer_add(ctx, kind, value, env);
    int failed = number < 0 || has_flag(ctx, RADDLE_FLAG_ICOUNT) ? 0 : timer_thread_start(ctx);
    if (!failed)
        return number;
    errno = failed;
    return -1;
}

void timers_free(struct raddle_context *ctx)
{
    pthread_mutex_lock(&ctx->timer_lock);
    ctx->timer_thread_end = true;
    word_change(&ctx->timer_changes);
    pthread_mutex_unlock(&ctx->timer_lock);
    if (ctx->timer_thread_started)
        pthread_join(ctx->timer_thread, NULL);
    if (!ctx->lease.granted)
        return;
    atomic_store(&ctx->lease.end, 1);
    set_lease_timer(&ctx->lease, 1); /* in the past */
    pthread_join(ctx->lease.thread, NULL);
    close(ctx->lease.timer);
}
