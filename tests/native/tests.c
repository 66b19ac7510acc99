/* SPDX-License-Identifier: Apache-2.0 */
/* Concurrency tests of the runtime. `mechanism` false is the control: the same test with the mechanism left out, which
 * must count violations. */
#include "harness.h"

#include <sys/mman.h>

#define ROUNDS          300
#define CONTROL_SECONDS 100
#define VIRTUAL         PAGE

static struct stub *stub_at(void *code)
{
    return code;
}

static uint32_t always_one(uint64_t pc)
{
    (void)pc;
    return 1;
}

static void *run_cpu(void *env)
{
    run_until_stop(env, always_one);
    return NULL;
}

static void stop_all(pthread_t *threads, uint32_t count)
{
    raddle_stop(machine.ctx);
    for (uint32_t i = 0; i < count; i++)
        finish(threads[i]);
}

/* Repeats a step until the test has its rounds; a control until it has its violation, or for very long. */
static bool more(bool mechanism, uint32_t round, uint64_t start_ns)
{
    if (mechanism)
        return round < ROUNDS;
    return !atomic_load(&machine.violations) && now_ns() - start_ns < CONTROL_SECONDS * 1000000000u;
}

/* -- TLB shoot-down: once tlb_sync returns, nobody reads the page that was unmapped ----------------------------- */

#define POISON 0xdeadbeefu

static uint64_t fill_from_table(void *env, uint64_t address, uint64_t access, uint64_t size, uint64_t unused)
{
    uint64_t target = (address & ~(uint64_t)(PAGE - 1)) == VIRTUAL ? atomic_load(&machine.virtual_pages) : address;
    (void)access, (void)size, (void)unused;
    helper(env, "tlb_set", address, target, 7);
    return 0;
}

static uint64_t enter_reader(void *env, void *code)
{
    (void)code;
    while (!exit_requested(env))
        for (int i = 0; i < 200; i++) {
            uint32_t value;
            if (!fast_load(env, VIRTUAL, &value)) {
                header_of(env)->arg0 = VIRTUAL;
                CHECK(raddle_slow_load(env, 0, WORD) == 0);
                value = (uint32_t)header_of(env)->result;
            }
            if (value == POISON)
                atomic_fetch_add(&machine.violations, 1);
        }
    return 0;
}

static void test_tlb_sync(bool mechanism)
{
    enum { READERS = 3 };
    machine_make(READERS + 1, PARALLEL, enter_reader, fill_from_table);
    atomic_store(&machine.virtual_pages, RAM_BASE + PAGE);
    pthread_t threads[READERS];
    for (uint32_t i = 0; i < READERS; i++)
        threads[i] = start(run_cpu, machine.env[i]);
    void *writer = machine.env[READERS];
    uint64_t begun = now_ns();
    for (uint32_t round = 0; more(mechanism, round, begun); round++) {
        uint32_t *old = (uint32_t *)(machine.ram + (round % 2 ? 2 * PAGE : PAGE));
        uint64_t next = RAM_BASE + (round % 2 ? PAGE : 2 * PAGE);
        __atomic_store_n((uint32_t *)(machine.ram + (next - RAM_BASE)), 0, __ATOMIC_SEQ_CST);
        atomic_store(&machine.virtual_pages, next);
        helper(writer, round % 3 ? "tlb_flush_page_all_cpus" : "tlb_flush_all_cpus", VIRTUAL, 1, 0);
        if (mechanism)
            helper(writer, "tlb_sync", 0, 0, 0);
        __atomic_store_n(old, POISON, __ATOMIC_SEQ_CST);
    }
    stop_all(threads, READERS);
    machine_free();
}

/* Two vCPUs that flush at each other must both get through. */
static uint64_t enter_flusher(void *env, void *code)
{
    (void)code;
    helper(env, "tlb_flush_page_all_cpus", VIRTUAL, 1, 0);
    helper(env, "tlb_sync", 0, 0, 0);
    if (atomic_fetch_add(&machine.virtual_pages, 1) > 4000)
        raddle_stop(machine.ctx);
    return 0;
}

static void test_mutual_sync(bool mechanism)
{
    (void)mechanism;
    machine_make(4, PARALLEL, enter_flusher, fill_identity);
    pthread_t threads[4];
    for (uint32_t i = 0; i < 4; i++)
        threads[i] = start(run_cpu, machine.env[i]);
    for (uint32_t i = 0; i < 4; i++)
        finish(threads[i]);
    machine_free();
}

/* Fills four pages' entries, has so many flushes of other pages queued, and does them; how many entries are left. */
static uint32_t entries_after(uint32_t flushes, uint32_t different)
{
    machine_make(2, PARALLEL, enter_reader, fill_identity);
    uint32_t value;
    for (uint32_t page = 0; page < 4; page++) {
        header_of(machine.env[0])->arg0 = RAM_BASE + page * PAGE;
        CHECK(raddle_slow_load(machine.env[0], 0, WORD) == 0);
        CHECK(fast_load(machine.env[0], RAM_BASE + page * PAGE, &value));
    }
    for (uint32_t i = 0; i < flushes; i++)
        helper(machine.env[1], "tlb_flush_page_all_cpus", 0x10000 + i % different * PAGE, 1, 0);
    queue_drain(cpu_of(machine.env[0]));
    CHECK(LOAD_RELAXED(cpu_of(machine.env[0])->stats.tlb_records) == flushes);
    uint32_t left = 0;
    for (uint32_t page = 0; page < 4; page++)
        left += fast_load(machine.env[0], RAM_BASE + page * PAGE, &value);
    machine_free();
    return left;
}

/* More flushes than the queue holds become one flush of everything. */
static void test_queue_overflow(bool mechanism)
{
    uint32_t flushes = mechanism ? QUEUE_RECORDS + 1 : QUEUE_RECORDS;
    atomic_fetch_add(&machine.violations, entries_after(flushes, flushes));
}

/* Flushes that a queued one does already take no place in the queue. The control's are all different. */
static void test_queue_merges(bool mechanism)
{
    uint32_t flushes = 10 * QUEUE_RECORDS;
    atomic_fetch_add(&machine.violations, 4 - entries_after(flushes, mechanism ? 3 : flushes));
}

/* Each MMU index has its own entries, and what goes beside them: enough pages for every entry, and a few victims. */
static void test_mmu_indices(bool mechanism)
{
    enum { PAGES = RADDLE_TLB_ENTRIES + RADDLE_VICTIM_ENTRIES };
    (void)mechanism;
    machine_make(1, PARALLEL, enter_reader, fill_identity);
    struct raddle_cpu *cpu = cpu_of(machine.env[0]);
    for (uint64_t page = 0; page < PAGES; page++)
        for (uint32_t index = 0; index < RADDLE_MMU_INDICES; index++)
            tlb_set(cpu, page * PAGE, RAM_BASE + (page + index) % (RAM_SIZE / PAGE) * PAGE, 7, PAGE_BITS, index);
    for (uint64_t page = 0; page < PAGES; page++)
        for (uint32_t index = 0; index < RADDLE_MMU_INDICES; index++) {
            struct probe probe;
            uint64_t mapped = RAM_BASE + (page + index) % (RAM_SIZE / PAGE) * PAGE;
            CHECK(tlb_probe(cpu, page * PAGE, ACCESS_READ, index, &probe));
            CHECK(probe.paddr == mapped);
            cpu->header->mode = index;
            CHECK(raddle_code_page(cpu->env, page * PAGE) == mapped);
            CHECK(raddle_debug_translate(cpu->env, page * PAGE, index) == mapped);
        }
    machine_free();
}

/* The MMU index of fetches lies within the block mode's 32 bits. */
static bool takes_fetch_index_at(uint32_t shift)
{
    struct raddle_config config = {.page_bits = PAGE_BITS, .word_bits = WORD_BITS, .ncpus = 1, .code_size = 1 << 20,
                                   .fetch_index_shift = shift};
    struct raddle_callbacks callbacks = {0};
    raddle_context *ctx = raddle_context_new(&config, &callbacks);
    raddle_context_free(ctx);
    return ctx != NULL;
}

static void test_fetch_index(bool mechanism)
{
    uint32_t last = 32 - (uint32_t)__builtin_popcount(RADDLE_MMU_INDICES - 1);
    (void)mechanism;
    CHECK(takes_fetch_index_at(last));
    CHECK(!takes_fetch_index_at(last + 1));
    CHECK(!takes_fetch_index_at(32));
}

/* -- exclusive sections: nobody runs, and plain memory may be shared -------------------------------------------- */

static uint64_t shared_counter; /* plain on purpose: ThreadSanitizer looks on */
static _Atomic uint32_t inside;

static uint64_t enter_counter(void *env, void *code)
{
    (void)env, (void)code;
    atomic_fetch_add(&inside, 1);
    volatile uint64_t seen = shared_counter;
    (void)seen;
    atomic_fetch_sub(&inside, 1);
    return 0;
}

static void test_exclusive(bool mechanism)
{
    enum { CPUS = 4 };
    machine_make(CPUS, PARALLEL, enter_counter, fill_identity);
    pthread_t threads[CPUS];
    for (uint32_t i = 0; i < CPUS; i++)
        threads[i] = start(run_cpu, machine.env[i]);
    uint64_t begun = now_ns();
    for (uint32_t round = 0; more(mechanism, round, begun); round++) {
        if (mechanism)
            raddle_exclusive_begin(machine.ctx);
        if (atomic_load(&inside))
            atomic_fetch_add(&machine.violations, 1);
        if (mechanism) {
            shared_counter++;
            raddle_exclusive_end(machine.ctx);
        }
    }
    stop_all(threads, CPUS);
    machine_free();
}

static void *exclude(void *argument)
{
    bool mechanism = *(bool *)argument;
    uint64_t begun = now_ns();
    for (uint32_t round = 0; more(mechanism, round, begun); round++) {
        if (mechanism)
            raddle_exclusive_begin(machine.ctx);
        if (atomic_fetch_add(&inside, 1))
            atomic_fetch_add(&machine.violations, 1);
        sched_yield();
        atomic_fetch_sub(&inside, 1);
        if (mechanism)
            raddle_exclusive_end(machine.ctx);
    }
    return NULL;
}

static void test_exclusive_excludes(bool mechanism)
{
    machine_make(1, PARALLEL, enter_counter, fill_identity);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = start(exclude, &mechanism);
    for (int i = 0; i < 3; i++)
        finish(threads[i]);
    machine_free();
}

/* A vCPU that is reset empties its TLB outside the execution loop: no exclusive section, which may empty it too, sees it
 * half done. */
static bool flush_counts_as_running;

static void *flush_until_stop(void *env)
{
    while (!raddle_stopping(machine.ctx))
        if (flush_counts_as_running)
            raddle_tlb_flush(env);
        else
            helper(env, "tlb_flush", 0, 0, 0);
    return NULL;
}

static void test_exclusive_flush(bool mechanism)
{
    machine_make(1, PARALLEL, enter_counter, fill_identity);
    flush_counts_as_running = mechanism;
    pthread_t thread = start(flush_until_stop, machine.env[0]);
    uint64_t begun = now_ns();
    for (uint32_t round = 0; more(mechanism, round, begun); round++) {
        raddle_exclusive_begin(machine.ctx);
        uint64_t flushes = LOAD_RELAXED(header_of(machine.env[0])->count_flush);
        for (int i = 0; i < 10; i++) {
            jumps_clear(cpu_of(machine.env[0])); /* as raddle_code_flush does */
            sched_yield();
        }
        if (LOAD_RELAXED(header_of(machine.env[0])->count_flush) != flushes)
            atomic_fetch_add(&machine.violations, 1);
        raddle_exclusive_end(machine.ctx);
    }
    stop_all(&thread, 1);
    machine_free();
}

/* -- big lock: devices are touched by one thread at a time ------------------------------------------------------ */

static uint64_t device_register;

static uint64_t device_increment(void *env, uint64_t offset, uint64_t how, uint64_t value, uint64_t id)
{
    (void)env, (void)offset, (void)how, (void)value, (void)id;
    uint64_t before = __atomic_load_n(&device_register, __ATOMIC_RELAXED);
    sched_yield();
    __atomic_store_n(&device_register, before + 1, __ATOMIC_RELAXED);
    return 0;
}

static bool big_lock_on;

static void *device_user(void *env)
{
    for (int i = 0; i < ROUNDS; i++) {
        header_of(env)->arg0 = DEVICE_BASE;
        if (big_lock_on)
            CHECK(raddle_slow_store(env, 0, WORD) == 0);
        else
            device_increment(env, 0, 0, 0, 0);
    }
    return NULL;
}

static void test_big_lock(bool mechanism)
{
    enum { CPUS = 3 };
    machine_device(device_increment);
    machine_make(CPUS, PARALLEL, enter_counter, fill_identity);
    big_lock_on = mechanism;
    uint64_t begun = now_ns();
    do {
        device_register = 0;
        pthread_t threads[CPUS];
        for (uint32_t i = 0; i < CPUS; i++)
            threads[i] = start(device_user, machine.env[i]);
        for (uint32_t i = 0; i < CPUS; i++)
            finish(threads[i]);
        if (device_register != CPUS * ROUNDS)
            atomic_fetch_add(&machine.violations, 1);
    } while (!mechanism && more(mechanism, 0, begun)); /* a thread may be done before the next one has begun */
    machine_free();
}

/* -- sleep and wake-up: two vCPUs that halt and wake each other never both sleep for good ----------------------- */

static bool wake_on;

static uint64_t enter_ping(void *env, void *code)
{
    (void)code;
    uint32_t other = !header_of(env)->cpu_index;
    if (atomic_fetch_add(&machine.virtual_pages, 1) >= 20 * ROUNDS) {
        raddle_stop(machine.ctx);
        return 0;
    }
    if (wake_on)
        helper(env, "interrupt_set", other, 1, 0);
    else
        __atomic_fetch_or(&header_of(machine.env[other])->interrupt_request, 1, __ATOMIC_SEQ_CST);
    helper(env, "wfi", 0, 0, 0);
    return 0;
}

static uint64_t enter_event(void *env, void *code)
{
    (void)code;
    if (atomic_fetch_add(&machine.virtual_pages, 1) >= 20 * ROUNDS) {
        raddle_stop(machine.ctx);
        return 0;
    }
    if (wake_on)
        helper(env, "sev", 0, 0, 0);
    EXCHANGE(header_of(env)->event, 0); /* one's own */
    helper(env, "wfe", 0, 0, 0);
    return 0;
}

/* A tester's thread that breaks a stand-still, and counts it. */
static void watch_progress(void)
{
    uint64_t last = 0, since = now_ns();
    while (!raddle_stopping(machine.ctx)) {
        uint64_t seen = atomic_load(&machine.virtual_pages);
        if (seen != last) {
            last = seen;
            since = now_ns();
        } else if (now_ns() - since > (wake_on ? CONTROL_SECONDS : 1) * 1000000000ull) {
            atomic_fetch_add(&machine.violations, 1);
            raddle_stop(machine.ctx);
        }
        usleep(1000);
    }
}

static void ping(bool mechanism, raddle_enter_function enter)
{
    machine_make(2, PARALLEL, enter, fill_identity);
    wake_on = mechanism;
    pthread_t threads[2];
    for (uint32_t i = 0; i < 2; i++)
        threads[i] = start(run_cpu, machine.env[i]);
    watch_progress();
    for (uint32_t i = 0; i < 2; i++)
        finish(threads[i]);
    machine_free();
}

static void test_wake(bool mechanism)
{
    ping(mechanism, enter_ping);
}

/* Each vCPU clears its own event after it signals, so that an event is lost when both signal before both clear: the
 * other's next SEV is what wakes; the test sends more from outside. */
static void *send_events(void *unused)
{
    (void)unused;
    while (!raddle_stopping(machine.ctx)) {
        if (wake_on)
            raddle_event(machine.ctx);
        usleep(200);
    }
    return NULL;
}

static void test_event(bool mechanism)
{
    machine_make(2, PARALLEL, enter_event, fill_identity);
    wake_on = mechanism;
    pthread_t threads[3];
    for (uint32_t i = 0; i < 2; i++)
        threads[i] = start(run_cpu, machine.env[i]);
    threads[2] = start(send_events, NULL);
    watch_progress();
    for (uint32_t i = 0; i < 3; i++)
        finish(threads[i]);
    machine_free();
}

/* -- events wake nobody in vain: the thread of a vCPU that waits for an interrupt sleeps through them ----------- */

static void test_events_in_sleep(bool mechanism)
{
    machine_make(1, PARALLEL, NULL, fill_identity);
    struct raddle_cpu *cpu = cpu_of(machine.env[0]);
    cpu->header->halted = 1;
    pthread_t thread = start(run_cpu, machine.env[0]);
    while (atomic_load(&cpu->sleeping) != SLEEPS)
        usleep(100);
    uint64_t start_ns = now_ns();
    for (uint32_t round = 0; more(mechanism, round, start_ns); round++) {
        if (mechanism) {
            raddle_event(machine.ctx);
        } else {
            pthread_mutex_lock(&cpu->sleep_lock);
            pthread_cond_signal(&cpu->sleep_cond);
            pthread_mutex_unlock(&cpu->sleep_lock);
        }
        sched_yield();
        if (LOAD_RELAXED(cpu->stats.wakes))
            atomic_fetch_add(&machine.violations, 1);
    }
    stop_all(&thread, 1);
    machine_free();
}

/* -- code: a store is seen by the next run of the block, on every vCPU ------------------------------------------ */

static _Atomic uint32_t published;

static uint64_t enter_code(void *env, void *code)
{
    (void)env;
    uint32_t at_least = atomic_load(&published), spin = 0;
    /* The look-up came before: only what was published when the block was looked up counts. */
    struct stub *stub = stub_at(code);
    uint32_t *last = (uint32_t *)env; /* guest state: what was published before the loop looked the block up */
    if (__atomic_load_n(&stub->value, __ATOMIC_ACQUIRE) < *last)
        atomic_fetch_add(&machine.violations, 1);
    *last = at_least;
    while (spin++ < 50)
        ;
    return 0;
}

static uint32_t word_at(uint64_t pc)
{
    return __atomic_load_n((uint32_t *)(machine.ram + (pc - RAM_BASE)), __ATOMIC_ACQUIRE);
}

static void *run_code(void *env)
{
    run_until_stop(env, word_at);
    return NULL;
}

static void test_modified_code(bool mechanism)
{
    enum { RUNNERS = 3 };
    machine_make(RUNNERS + 1, PARALLEL, enter_code, fill_identity);
    atomic_store(&published, 0);
    pthread_t threads[RUNNERS];
    for (uint32_t i = 0; i < RUNNERS; i++)
        threads[i] = start(run_code, machine.env[i]);
    void *writer = machine.env[RUNNERS];
    uint64_t begun = now_ns();
    for (uint32_t round = 1; more(mechanism, round / 10, begun); round++) {
        if (mechanism) {
            header_of(writer)->arg0 = RAM_BASE;
            header_of(writer)->arg1 = round;
            CHECK(raddle_slow_store(writer, 0, WORD) == 0);
        } else {
            __atomic_store_n((uint32_t *)machine.ram, round, __ATOMIC_RELEASE);
        }
        atomic_store(&published, round);
        if (round % 7 == 0)
            sched_yield();
    }
    stop_all(threads, RUNNERS);
    machine_free();
}

/* Stores beside the code must not keep a translation from being installed. */
static _Atomic uint32_t entered;

static uint64_t enter_and_stop(void *env, void *code)
{
    (void)env, (void)code;
    atomic_fetch_add(&entered, 1);
    raddle_stop(machine.ctx);
    return 0;
}

static void *store_beside(void *env)
{
    while (!raddle_stopping(machine.ctx)) {
        header_of(env)->arg0 = RAM_BASE + 0x800;
        CHECK(raddle_slow_store(env, 0, WORD) == 0);
    }
    return NULL;
}

static void test_store_beside_code(bool mechanism)
{
    (void)mechanism;
    machine_make(2, PARALLEL, enter_and_stop, fill_identity);
    pthread_t thread = start(store_beside, machine.env[1]);
    for (;;) {
        int reason = raddle_run(machine.env[0]);
        if (reason == RADDLE_STOP)
            break;
        uint32_t word = 0;
        struct stub stub = {.pc = RAM_BASE};
        struct instruction_row row = {.hot = sizeof stub, .guest = 4};
        struct raddle_block_desc desc = {.pc = RAM_BASE,
                                         .phys = {RAM_BASE, NONE},
                                         .guest_size = 4,
                                         .ninsns = 1,
                                         .code = &stub,
                                         .code_size = sizeof stub,
                                         .cold_start = sizeof stub,
                                         .table = &row,
                                         .guest = &word};
        desc.version[0] = raddle_code_begin(machine.ctx, RAM_BASE);
        usleep(500);
        raddle_block_install(machine.ctx, &desc);
    }
    finish(thread);
    machine_free();
}

/* -- chains: once a block is dead, no jump is aimed at it ------------------------------------------------------- */

#define SOURCE (RAM_BASE + 0x100)
#define TARGET (RAM_BASE + 0x200)

/* The source block leaves through its jump while that is not chained; chained, it "runs" the target at once. */
static uint64_t enter_chain(void *env, void *code)
{
    struct raddle_cpu_header *h = header_of(env);
    if (stub_at(code)->pc != SOURCE) {
        h->pc = SOURCE;
        return 0;
    }
    h->pc = TARGET;
    int32_t *slot = &stub_at(code)->slot;
    int32_t aimed = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (aimed == -1)
        return (uint64_t)(uintptr_t)slot;
    struct stub *target = (struct stub *)((char *)slot + 4 + aimed);
    uint32_t *last = env;
    if (target->pc != TARGET || target->value < *last)
        atomic_fetch_add(&machine.violations, 1);
    *last = atomic_load(&published);
    h->pc = SOURCE;
    return 0;
}

static void test_chains(bool mechanism)
{
    enum { RUNNERS = 2 };
    machine_make(RUNNERS + 1, PARALLEL | RADDLE_FLAG_DUAL_MAP, enter_chain, fill_identity);
    atomic_store(&published, 0);
    pthread_t threads[RUNNERS];
    for (uint32_t i = 0; i < RUNNERS; i++) {
        header_of(machine.env[i])->pc = SOURCE;
        threads[i] = start(run_code, machine.env[i]);
    }
    void *writer = machine.env[RUNNERS];
    uint64_t begun = now_ns();
    for (uint32_t round = 1; more(mechanism, round / 10, begun); round++) {
        if (mechanism)
            helper(writer, "phys_store32", TARGET, round, 0);
        else
            __atomic_store_n((uint32_t *)(machine.ram + 0x200), round, __ATOMIC_RELEASE);
        atomic_store(&published, round);
        usleep(50);
    }
    stop_all(threads, RUNNERS);
    if (mechanism)
        CHECK(header_of(machine.env[0])->count_chain + header_of(machine.env[1])->count_chain > 0);
    machine_free();
}

/* -- full flushes while others run and install ------------------------------------------------------------------ */

static bool flush_on;

static uint64_t enter_checked(void *env, void *code)
{
    struct raddle_cpu_header *h = header_of(env);
    void **kept = env; /* the control keeps a block's address across runs */
    if (stub_at(flush_on || !*kept ? code : *kept)->pc != (flush_on || !*kept ? h->pc : *(uint64_t *)(kept + 1)))
        atomic_fetch_add(&machine.violations, 1);
    if (!*kept) {
        *kept = code;
        *(uint64_t *)(kept + 1) = h->pc;
    }
    h->pc = RAM_BASE + (h->pc * 5 + 4 * h->cpu_index + 4) % (64 * PAGE) / 4 * 4;
    return 0;
}

static void test_code_flush(bool mechanism)
{
    enum { CPUS = 3 };
    flush_on = mechanism;
    machine_make(CPUS, PARALLEL, enter_checked, fill_identity);
    pthread_t threads[CPUS];
    for (uint32_t i = 0; i < CPUS; i++)
        threads[i] = start(run_cpu, machine.env[i]);
    uint64_t begun = now_ns();
    for (uint32_t round = 0; more(mechanism, round, begun); round++) {
        raddle_code_flush(machine.ctx, raddle_code_generation(machine.ctx));
        usleep(300);
    }
    stop_all(threads, CPUS);
    machine_free();
}

/* -- where a vCPU is, asked by a thread that no flush waits for ------------------------------------------------- */

static void *ask_where(void *env)
{
    while (!atomic_load(&machine.stop)) {
        uint64_t pc = raddle_pc(env);
        if (pc != RAM_BASE && pc != RAM_BASE + PAGE) /* the block's, or, between two blocks, the vCPU's own */
            atomic_fetch_add(&machine.violations, 1);
    }
    return NULL;
}

static void test_asked_where(bool mechanism)
{
    (void)mechanism;
    machine_make(1, PARALLEL, enter_counter, fill_identity);
    CHECK(install_now(RAM_BASE, 0) == RADDLE_INSTALL_OK);
    header_of(machine.env[0])->pc = RAM_BASE + PAGE;
    cpu_of(machine.env[0])->retaddr = (uint64_t)(uintptr_t)machine.ctx->blocks.by_address[0]->code + 1;
    pthread_t thread = start(ask_where, machine.env[0]);
    for (uint32_t round = 0; round < 3000; round++) {
        raddle_code_flush(machine.ctx, raddle_code_generation(machine.ctx));
        CHECK(install_now(RAM_BASE, 0) == RADDLE_INSTALL_OK);
    }
    atomic_store(&machine.stop, 1);
    finish(thread);
    machine_free();
}

/* -- installing: one block a key -------------------------------------------------------------------------------- */

static bool same_key;

static void *install_many(void *env)
{
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t salt = same_key ? 0 : 4 * header_of(env)->cpu_index;
        CHECK(install_now(RAM_BASE + i * 32 + salt, i) == RADDLE_INSTALL_OK);
    }
    return NULL;
}

static void test_install_once(bool mechanism)
{
    enum { CPUS = 4 };
    machine_make(CPUS, PARALLEL, enter_counter, fill_identity);
    same_key = mechanism;
    pthread_t threads[CPUS];
    for (uint32_t i = 0; i < CPUS; i++)
        threads[i] = start(install_many, machine.env[i]);
    for (uint32_t i = 0; i < CPUS; i++)
        finish(threads[i]);
    struct raddle_stats stats;
    raddle_stats(machine.ctx, &stats);
    if (stats.blocks != 1000)
        atomic_fetch_add(&machine.violations, 1);
    CHECK(stats.installs + stats.installs_equal == CPUS * 1000);
    machine_free();
}

/* -- memory of vCPUs: each one's in a huge page, if the host has them ------------------------------------------- */

/* Whether a huge page was asked for at the address. */
static bool asks_for_huge(const void *address)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    CHECK(maps);
    char line[512];
    bool here = false, asks = false;
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            here = start <= (uintptr_t)address && (uintptr_t)address < end;
        else if (here && !strncmp(line, "VmFlags:", 8))
            asks = strstr(line, " hg") != NULL;
    }
    fclose(maps);
    return asks;
}

static bool host_has_huge(void)
{
    size_t size = 1u << 21;
    void *memory = map_new(size);
    CHECK(memory);
    bool has = !madvise(memory, size, MADV_HUGEPAGE) && asks_for_huge(memory);
    map_free(memory, size);
    return has;
}

static void test_memory_of_vcpus(bool mechanism)
{
    (void)mechanism;
    bool has_huge = host_has_huge();
    machine_make(3, PARALLEL, enter_counter, fill_identity);
    for (uint32_t i = 0; i < 3; i++) {
        struct raddle_cpu *cpu = cpu_of(machine.env[i]);
        uintptr_t first = (uintptr_t)cpu, last = (uintptr_t)(cpu->jumps + RADDLE_JUMP_CACHE_ENTRIES) - 1;
        CHECK((uintptr_t)machine.env[i] % 64 == 0);
        CHECK(first < (uintptr_t)cpu->tlb && (uintptr_t)machine.env[i] < last);
        CHECK(first >> 21 == last >> 21);
        CHECK(!has_huge || asks_for_huge(cpu));
    }
    machine_free();
}

/* -- timers ----------------------------------------------------------------------------------------------------- */

static _Atomic uint32_t timer_calls;

static uint64_t timer_callee(void *env, uint64_t timer, uint64_t a1, uint64_t a2, uint64_t a3)
{
    (void)timer, (void)a1, (void)a2, (void)a3;
    CHECK(pthread_equal(*(pthread_t *)env, pthread_self())); /* the vCPU's own thread */
    atomic_fetch_add(&timer_calls, 1);
    return 0;
}

static void *run_halted(void *env)
{
    *(pthread_t *)env = pthread_self();
    header_of(env)->halted = 1;
    run_until_stop(env, always_one);
    return NULL;
}

/* Three fire, one is cancelled, one comes while the clock stands (in the control it goes on). */
static void test_timers(bool mechanism)
{
    machine_make(1, PARALLEL, enter_counter, fill_identity);
    machine.table[600] = (void *)(uintptr_t)timer_callee;
    atomic_store(&timer_calls, 0);
    int timers[5];
    for (int i = 0; i < 5; i++)
        timers[i] = raddle_timer_new(machine.ctx, RADDLE_TIMER_CALLEE, 600, machine.env[0]);
    pthread_t thread = start(run_halted, machine.env[0]);
    uint64_t now = raddle_clock_ns(machine.ctx);
    for (int i = 0; i < 4; i++)
        if (i != 1)
            raddle_timer_set(machine.ctx, (uint32_t)timers[i], now + 10000000u * (uint32_t)(3 - i) + 20000000u);
    raddle_timer_set(machine.ctx, (uint32_t)timers[1], now + 3600000000000u);
    raddle_timer_cancel(machine.ctx, (uint32_t)timers[1]);
    while (atomic_load(&timer_calls) < 3) /* or it hangs, which its caller sees */
        usleep(1000);
    CHECK(raddle_timer_next(machine.ctx) == NONE);
    if (mechanism)
        raddle_clock_stop(machine.ctx);
    uint64_t stopped_at = raddle_clock_ns(machine.ctx);
    raddle_timer_set(machine.ctx, (uint32_t)timers[4], stopped_at + 5000000u);
    for (int i = 0; i < (mechanism ? 50 : 1000 * CONTROL_SECONDS) && atomic_load(&timer_calls) == 3; i++)
        usleep(1000);
    if (atomic_load(&timer_calls) != 3)
        atomic_fetch_add(&machine.violations, 1);
    if (mechanism) {
        CHECK(raddle_clock_ns(machine.ctx) == stopped_at);
        raddle_clock_start(machine.ctx);
        while (atomic_load(&timer_calls) < 4)
            usleep(1000);
        CHECK(atomic_load(&timer_calls) == 4);
    }
    CHECK(LOAD(header_of(machine.env[0])->interrupt_request) == 0);
    stop_all(&thread, 1);
    machine_free();
}

/* -- words that a thread waits for: no change is lost, however close to the beginning of the wait ------------------ */

static _Atomic uint32_t word_changes, word_asked, word_answered;

static void *answer_words(void *unused)
{
    (void)unused;
    for (;;) {
        uint32_t seen = atomic_load(&word_changes), asked = atomic_load(&word_asked);
        if (asked == UINT32_MAX)
            return NULL;
        if (asked == atomic_load(&word_answered))
            word_wait(&word_changes, seen, NONE);
        else
            atomic_store(&word_answered, asked);
    }
}

static bool word_is_answered(uint32_t asked, bool mechanism)
{
    for (uint32_t i = 0; mechanism || i < 1000; i++) {
        if (atomic_load(&word_answered) == asked)
            return true;
        if (mechanism)
            sched_yield();
        else
            usleep(1000);
    }
    return false;
}

static void test_words(bool mechanism)
{
    word_wait(&word_changes, atomic_load(&word_changes), 1); /* the deadline has passed */
    pthread_t thread = start(answer_words, NULL);
    for (uint32_t asked = 1; asked <= (mechanism ? 20000 : 100) && !atomic_load(&machine.violations); asked++) {
        atomic_store(&word_asked, asked);
        if (mechanism)
            word_change(&word_changes);
        else
            usleep(1000); /* it waits by now */
        if (!word_is_answered(asked, mechanism)) /* or it hangs, which its caller sees */
            atomic_fetch_add(&machine.violations, 1);
    }
    atomic_store(&word_asked, UINT32_MAX);
    word_change(&word_changes);
    finish(thread);
}

/* -- misaligned accesses: each byte is one that was stored; ThreadSanitizer sees whether each access is atomic ------- */

#define MISALIGNED (RAM_BASE + PAGE + 2) /* within a page */

static void *store_misaligned(void *env)
{
    for (uint32_t i = 0; i < ROUNDS; i++) {
        header_of(env)->arg0 = MISALIGNED;
        header_of(env)->arg1 = i % 2 ? 0xffffffff : 0;
        CHECK(raddle_slow_store(env, 0, WORD) == 0);
        helper(env, "phys_store32", MISALIGNED, i % 2 ? 0 : 0xffffffff, 0);
    }
    return NULL;
}

static void check_bytes(uint64_t value)
{
    for (int i = 0; i < 4; i++)
        CHECK((value >> (8 * i) & 0xff) == 0 || (value >> (8 * i) & 0xff) == 0xff);
}

static void test_misaligned(bool mechanism)
{
    (void)mechanism;
    machine_make(2, PARALLEL, enter_counter, fill_identity);
    pthread_t thread = start(store_misaligned, machine.env[1]);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        void *env = machine.env[0];
        for (uint64_t address = MISALIGNED - 2; address <= MISALIGNED + 2; address += 2) {
            header_of(env)->arg0 = address;
            CHECK(raddle_slow_load(env, 0, WORD) == 0);
            check_bytes(header_of(env)->result);
        }
        check_bytes(helper(env, "phys_load32", MISALIGNED, 0, 0));
    }
    finish(thread);
    machine_free();
}

/* -- atomics: misaligned ones are atomic too (the loop runs them alone) ----------------------------------------- */

static bool run_alone_on;

static uint64_t enter_atomic(void *env, void *code)
{
    struct raddle_cpu_header *h = header_of(env);
    uint32_t *count = env;
    if (*count == 2000)
        return 0;
    /* +2: misaligned within one page */
    if (run_alone_on) {
        h->arg0 = RAM_BASE + PAGE + 2;
        h->arg1 = 1;
        if (raddle_slow_atomic(env, (uint64_t)(uintptr_t)code + 1, WORD, RADDLE_OP_ADD))
            return 0;
    } else {
        uint32_t value;
        memcpy(&value, machine.ram + PAGE + 2, 4);
        sched_yield();
        value++;
        memcpy(machine.ram + PAGE + 2, &value, 4);
    }
    if (++*count == 2000 && atomic_fetch_add(&entered, 1) == 2)
        raddle_stop(machine.ctx);
    return 0;
}

static void *run_atomic(void *env)
{
    for (;;) {
        int reason = raddle_run(env);
        if (reason == RADDLE_STOP)
            return NULL;
        uint64_t pc = header_of(env)->pc;
        struct stub stub = {.pc = pc};
        struct instruction_row row = {.hot = sizeof stub, .guest = 4};
        struct raddle_block_desc desc = {.pc = pc,
                                         .flags = raddle_block_flags(env),
                                         .phys = {RAM_BASE, NONE},
                                         .guest_size = 4,
                                         .ninsns = 1,
                                         .code = &stub,
                                         .code_size = sizeof stub,
                                         .cold_start = sizeof stub,
                                         .table = &row};
        desc.version[0] = raddle_code_begin(machine.ctx, RAM_BASE);
        raddle_block_install(machine.ctx, &desc);
    }
}

static void test_misaligned_atomic(bool mechanism)
{
    enum { CPUS = 3 };
    machine_make(CPUS, PARALLEL, enter_atomic, fill_identity);
    run_alone_on = mechanism;
    atomic_store(&entered, 0);
    pthread_t threads[CPUS];
    for (uint32_t i = 0; i < CPUS; i++)
        threads[i] = start(run_atomic, machine.env[i]);
    for (uint32_t i = 0; i < CPUS; i++)
        finish(threads[i]);
    uint32_t sum;
    memcpy(&sum, machine.ram + PAGE + 2, 4);
    if (sum != CPUS * 2000)
        atomic_fetch_add(&machine.violations, 1);
    machine_free();
}

const struct test TESTS[] = {
    {"tlb_sync", test_tlb_sync, true},
    {"mutual_sync", test_mutual_sync, false},
    {"flush_finds_all", test_flush_finds_all, true},
    {"local_flush_finds_all", test_local_flush_finds_all, true},
    {"marking_finds_all", test_marking_finds_all, true},
    {"common_addend", test_common_addend, true},
    {"jumps_flush_finds_all", test_jumps_flush_finds_all, true},
    {"jumps_page_flush_finds_all", test_jumps_page_flush_finds_all, true},
    {"barrier_without_core", test_barrier_without_core, true},
    {"spinning", test_spinning, true},
    {"queue_overflow", test_queue_overflow, true},
    {"queue_merges", test_queue_merges, true},
    {"mmu_indices", test_mmu_indices, false},
    {"fetch_index", test_fetch_index, false},
    {"exclusive", test_exclusive, true},
    {"exclusive_excludes", test_exclusive_excludes, true},
    {"exclusive_flush", test_exclusive_flush, true},
    {"big_lock", test_big_lock, true},
    {"wake", test_wake, true},
    {"event", test_event, true},
    {"events_in_sleep", test_events_in_sleep, true},
    {"modified_code", test_modified_code, true},
    {"store_beside_code", test_store_beside_code, false},
    {"misaligned", test_misaligned, false},
    {"store_on_its_way", test_store_on_its_way, true},
    {"store_on_its_way_is_fetched", test_store_on_its_way_is_fetched, true},
    {"store_on_its_way_before_the_block", test_store_on_its_way_before_the_block, true},
    {"settled_blocks", test_settled_blocks, false},
    {"what_ends_reservations", test_what_ends_reservations, true},
    {"a_reservation_stays_where_it_is", test_a_reservation_stays_where_it_is, true},
    {"reservations_of_many", test_reservations_of_many, false},
    {"one_of_many_stores", test_one_of_many_stores, true},
    {"chains", test_chains, true},
    {"code_flush", test_code_flush, true},
    {"asked_where", test_asked_where, false},
    {"install_once", test_install_once, true},
    {"memory_of_vcpus", test_memory_of_vcpus, false},
    {"timers", test_timers, true},
    {"loans", test_loans, true},
    {"a_loan_ends", test_a_loan_ends, true},
    {"loans_learn", test_loans_learn, true},
    {"words", test_words, true},
    {"misaligned_atomic", test_misaligned_atomic, true},
    {"counted_turns_repeat", test_counted_turns_repeat, true},
    {"time_passes_for_spinners", test_time_passes_for_spinners, true},
    {"time_is_counted_while_one_works", test_time_is_counted_while_one_works, false},
    {"interrupts_end_turns", test_interrupts_end_turns, true},
    {"turns_after_an_interrupt", test_turns_after_an_interrupt, true},
    {"slices", test_slices, true},
    {"turns_wake", test_turns_wake, true},
    {"end_of_time", test_end_of_time, false},
    {"rom_device", test_rom_device, true},
    {"memo", test_memo, true},
    {"join", test_join, false},
    {"families", test_families, true},
    {"memo-budget", test_memo_budget, true},
    {"memo-budget-of-nothing", test_memo_budget_of_nothing, false},
    {"memo-crowded", test_memo_crowded, false},
    {0},
};
