/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

struct machine machine;
static raddle_function device;

static uint64_t no_fault(void *env, uint64_t address, uint64_t access, uint64_t code, uint64_t unused)
{
    (void)unused;
    fprintf(stderr, "unexpected fault at %#lx, pc %#lx, access %lu, code %lu\n", (long)address,
            (long)header_of(env)->pc, (long)access, (long)code);
    exit(1);
}

static uint64_t take_interrupt(void *env, uint64_t lines, uint64_t a1, uint64_t a2, uint64_t a3)
{
    (void)a1, (void)a2, (void)a3;
    raddle_interrupt_clear(env, (uint32_t)lines);
    return 1;
}

uint64_t fill_identity(void *env, uint64_t address, uint64_t access, uint64_t size, uint64_t unused)
{
    (void)access, (void)size, (void)unused;
    helper(env, "tlb_set", address, address, 7);
    return 0;
}

void machine_device(raddle_function handler)
{
    device = handler;
}

void machine_make(uint32_t ncpus, uint32_t flags, raddle_enter_function enter, raddle_function fill)
{
    struct raddle_config config = {
        .page_bits = PAGE_BITS, .word_bits = WORD_BITS, .ncpus = ncpus, .flags = flags, .wfe_limit_us = 0, .code_size = 1 << 20,
        .common_indices = COMMON_INDICES};
    struct raddle_callbacks callbacks = {0};
    memset(&machine, 0, sizeof machine);
    machine.ncpus = ncpus;
    machine.ctx = raddle_context_new(&config, &callbacks);
    CHECK(machine.ctx);
    raddle_clock_start(machine.ctx);
    machine.ram = aligned_alloc(PAGE, RAM_SIZE + PAGE);
    memset(machine.ram, 0, RAM_SIZE + PAGE);
    machine.rom = machine.ram + RAM_SIZE; /* not far away: granules_init() maps words for all that lies between */
    struct raddle_region regions[] = {
        {.base = RAM_BASE, .size = RAM_SIZE, .kind = RADDLE_REGION_RAM, .memory = machine.ram},
        {.base = ROM_DEVICE_BASE, .size = PAGE, .kind = RADDLE_REGION_ROM_DEVICE, .memory = machine.rom},
        {.base = DEVICE_BASE, .size = 16, .kind = RADDLE_REGION_ROUTINE, .memory = (void *)(uintptr_t)device},
    };
    CHECK(raddle_memory_set(machine.ctx, regions, device ? 3 : 2) == 0);
    raddle_set_enter(machine.ctx, (void *)(uintptr_t)enter);
    raddle_set_callee(machine.ctx, RADDLE_CALLEE_TLB_FILL, (void *)(uintptr_t)fill);
    raddle_set_callee(machine.ctx, RADDLE_CALLEE_FAULT, (void *)(uintptr_t)no_fault);
    raddle_set_callee(machine.ctx, RADDLE_CALLEE_INTERRUPT, (void *)(uintptr_t)take_interrupt);
    for (uint32_t i = 0; i < raddle_helper_count(); i++)
        machine.table[i] = raddle_helper_address(i);
    struct raddle_chain chain = {.span = 8};
    struct raddle_shape distance = DISTANCE_SHAPE;
    raddle_chain_by(machine.ctx, &chain, &distance);
    for (uint32_t i = 0; i < ncpus; i++) {
        machine.env[i] = raddle_cpu_new(machine.ctx, i, 256);
        CHECK(machine.env[i]);
        header_of(machine.env[i])->helpers = machine.table;
        header_of(machine.env[i])->pc = RAM_BASE;
    }
}

void machine_free(void)
{
    raddle_context_free(machine.ctx);
    free(machine.ram);
    device = NULL;
}

uint64_t helper(void *env, const char *name, uint64_t a0, uint64_t a1, uint64_t a2)
{
    for (uint32_t i = 0; i < raddle_helper_count(); i++)
        if (!strcmp(raddle_helper_name(i), name))
            return raddle_helper(env, i, a0, a1, a2, 0);
    fprintf(stderr, "no helper %s\n", name);
    exit(1);
}

int install_from(uint64_t pc, uint32_t value, uint32_t version, const void *guest)
{
    struct stub stub = {.pc = pc, .value = value, .slot = -1};
    struct instruction_row row = {.hot = sizeof stub, .guest = 4};
    struct raddle_block_desc desc = {
        .pc = pc,
        .phys = {pc & ~(uint64_t)(PAGE - 1), NONE},
        .version = {version, 0},
        .guest_size = 4,
        .ninsns = 1,
        .guest = guest,
        .code = &stub,
        .code_size = sizeof stub,
        .cold_start = sizeof stub,
        .exits = 1,
        .table = &row,
    };
    return raddle_block_install(machine.ctx, &desc);
}

int install(uint64_t pc, uint32_t value, uint32_t version)
{
    return install_from(pc, value, version, NULL);
}

int install_now(uint64_t pc, uint32_t value)
{
    return install(pc, value, raddle_code_begin(machine.ctx, pc & ~(uint64_t)(PAGE - 1)));
}

pthread_t start(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, function, argument) == 0);
    return thread;
}

void finish(pthread_t thread)
{
    pthread_join(thread, NULL);
}

bool exit_requested(void *env)
{
    return LOAD(header_of(env)->exit_request) != 0;
}

bool fast_load(void *env, uint64_t address, uint32_t *value)
{
    struct tlb_entry *e = (struct tlb_entry *)((char *)env + RADDLE_TLB_OFFSET);
    e += (address >> PAGE_BITS) & (RADDLE_TLB_ENTRIES - 1);
    if (LOAD_RELAXED(e->read) != (address & ~(uint64_t)(PAGE - 1)))
        return false;
    *value = __atomic_load_n((uint32_t *)(uintptr_t)(LOAD_RELAXED(e->addend) + address), __ATOMIC_ACQUIRE);
    return true;
}

uint32_t *fast_store(void *env, uint64_t address)
{
    struct tlb_entry *e = (struct tlb_entry *)((char *)env + RADDLE_TLB_OFFSET);
    e += (address >> PAGE_BITS) & (RADDLE_TLB_ENTRIES - 1);
    if (LOAD_RELAXED(e->write) != (address & ~(uint64_t)(PAGE - 1)))
        return NULL;
    return (uint32_t *)(uintptr_t)(LOAD_RELAXED(e->addend) + address);
}

void run_until_stop(void *env, uint32_t (*make)(uint64_t pc))
{
    for (;;) {
        int reason = raddle_run(env);
        if (reason == RADDLE_STOP)
            return;
        CHECK(reason == RADDLE_MISS);
        uint64_t pc = header_of(env)->pc;
        uint32_t version = raddle_code_begin(machine.ctx, pc & ~(uint64_t)(PAGE - 1));
        uint32_t generation = raddle_code_generation(machine.ctx);
        if (install(pc, make(pc), version) == RADDLE_FULL)
            raddle_code_flush(machine.ctx, generation);
    }
}

/* test NAME [control]: exit status 0 when no violation was seen (control: when some were). */
int main(int argc, char **argv)
{
    if (argc < 2) {
        for (const struct test *t = TESTS; t->name; t++)
            printf("%s %d\n", t->name, t->has_control);
        return 0;
    }
    bool control = argc > 2;
    for (const struct test *t = TESTS; t->name; t++) {
        if (strcmp(t->name, argv[1]))
            continue;
        t->run(!control);
        bool violated = atomic_load(&machine.violations) != 0;
        fprintf(stderr, "%s%s: %lu violations\n", t->name, control ? " (control)" : "",
                (unsigned long)atomic_load(&machine.violations));
        return violated != control;
    }
    fprintf(stderr, "no test %s\n", argv[1]);
    return 2;
}
