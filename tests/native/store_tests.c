/* SPDX-License-Identifier: Apache-2.0 */
/* A store that is on its way when its page is marked: vCPU STORER compares its TLB entry, a block of the bytes is
 * installed, and then the store lands. The tests hold each step until the one before it is done. */
#include "harness.h"

enum { STORER, OTHER, CPUS };

#define CODE (RAM_BASE + 4 * PAGE) /* what is stored to and translated */
#define OLD  0x11111111u
#define NEW  0x22222222u

static _Atomic int step;
enum { BEGUN, COMPARED, LAND, LANDED, LEAVE, LEFT };

static void wait_for(int wanted)
{
    while (atomic_load(&step) < wanted)
        sched_yield();
}

/* What generated code does for a store, with a look at the test between its two halves. Comes again at the next block. */
static uint64_t enter_store(void *env, void *code)
{
    (void)code;
    if (atomic_load(&step) == LEAVE) {
        atomic_store(&step, LEFT);
        raddle_stop(machine.ctx);
        return 0;
    }
    uint32_t *place = fast_store(env, CODE);
    CHECK(place);
    atomic_store(&step, COMPARED);
    wait_for(LAND);
    __atomic_store_n(place, NEW, __ATOMIC_RELAXED);
    atomic_store(&step, LANDED);
    wait_for(LEAVE);
    return 0;
}

static uint32_t any_value(uint64_t pc)
{
    (void)pc;
    return 1;
}

static void *run_storer(void *env)
{
    run_until_stop(env, any_value);
    return NULL;
}

/* Has a vCPU stand between its two halves. */
static pthread_t begin_store(void)
{
    machine_make(CPUS, PARALLEL, enter_store, fill_identity);
    atomic_store(&step, BEGUN);
    *(uint32_t *)(machine.ram + (CODE - RAM_BASE)) = OLD;
    helper(machine.env[STORER], "tlb_set", CODE, CODE, 7);
    pthread_t thread = start(run_storer, machine.env[STORER]);
    wait_for(COMPARED);
    return thread;
}

static void end_store(pthread_t thread)
{
    finish(thread);
    machine_free();
}

static int install_old(uint32_t version)
{
    uint32_t old = OLD;
    return install_from(CODE, 0, version, &old);
}

static void count_stale(void)
{
    if (block_find(machine.ctx->cpus[OTHER], CODE, CODE, 0, 0))
        atomic_fetch_add(&machine.violations, 1);
}

static void set_step(int next)
{
    atomic_store(&step, next);
    wait_for(next + 1);
}

/* The block dies when the vCPU that stored comes to its next block. In the control nobody counts on its stores. */
void test_store_on_its_way(bool mechanism)
{
    pthread_t thread = begin_store();
    if (!mechanism)
        atomic_store(&machine.ctx->cpus[STORER]->marks_passed, NONE);
    CHECK(install_old(raddle_code_begin(machine.ctx, CODE)) == RADDLE_INSTALL_OK);
    CHECK(exit_requested(machine.env[STORER]));
    set_step(LAND);
    set_step(LEAVE);
    count_stale();
    CHECK(!mechanism || atomic_load(&machine.ctx->marks) == atomic_load(&machine.ctx->marks_settled));
    CHECK(!machine.ctx->unsettled);
    end_store(thread);
}

/* Another vCPU that synchronises its fetches sees the store before the vCPU that stored leaves its block. */
void test_store_on_its_way_is_fetched(bool mechanism)
{
    pthread_t thread = begin_store();
    CHECK(install_old(raddle_code_begin(machine.ctx, CODE)) == RADDLE_INSTALL_OK);
    set_step(LAND);
    if (mechanism)
        helper(machine.env[OTHER], "icache_sync", 0, 0, 0);
    count_stale();
    set_step(LEAVE);
    end_store(thread);
}

/* The store lands when the bytes have been read and their block is not yet installed, and its vCPU leaves its block.
 * The control goes by the page's version, which counts the stores that are seen. */
void test_store_on_its_way_before_the_block(bool mechanism)
{
    pthread_t thread = begin_store();
    uint32_t version = raddle_code_begin(machine.ctx, CODE);
    set_step(LAND);
    set_step(LEAVE);
    if (mechanism)
        CHECK(install_old(version) == RADDLE_INSTALL_RACED);
    else
        CHECK(install(CODE, 0, version) == RADDLE_INSTALL_OK);
    count_stale();
    end_store(thread);
}

/* A block of a page that all vCPUs know of is not listed, nor is any where vCPUs run in turn. */
void test_settled_blocks(bool mechanism)
{
    (void)mechanism;
    for (uint32_t flags = 0; flags <= PARALLEL; flags += PARALLEL) {
        machine_make(CPUS, flags, NULL, fill_identity);
        *(uint32_t *)(machine.ram + (CODE - RAM_BASE)) = OLD;
        atomic_store(&machine.ctx->cpus[STORER]->in_code, 1);
        uint32_t version = raddle_code_begin(machine.ctx, CODE);
        CHECK(atomic_load(&machine.ctx->marks) == (flags ? 1 : 0));
        CHECK(exit_requested(machine.env[STORER]) == (flags != 0));
        atomic_store(&machine.ctx->cpus[STORER]->in_code, 0);
        marks_pass(machine.ctx->cpus[OTHER]);
        CHECK(atomic_load(&machine.ctx->marks_settled) == atomic_load(&machine.ctx->marks));
        CHECK(install_old(version) == RADDLE_INSTALL_OK);
        CHECK(!machine.ctx->unsettled);
        machine_free();
    }
}
