/* SPDX-License-Identifier: Apache-2.0 */
/* Exact reservations (granules.c): what ends one, and what does not. In the controls store-exclusives compare values. */
#include "harness.h"

enum { OWNER, OTHER, CPUS };

#define RESERVED  (RAM_BASE + 4 * PAGE) /* the first granule of a page */
#define ELSEWHERE (RAM_BASE + 8 * PAGE)
#define OLD       0x11111111u
#define NEW       0x22222222u
#define DOUBLE    3

static void *word_at(uint64_t address)
{
    return machine.ram + (address - RAM_BASE);
}

static uint32_t read_word(uint64_t address)
{
    return __atomic_load_n((uint32_t *)word_at(address), __ATOMIC_ACQUIRE);
}

static void store(uint32_t cpu, uint64_t address, uint64_t value, uint32_t oi)
{
    header_of(machine.env[cpu])->arg0 = address;
    header_of(machine.env[cpu])->arg1 = value;
    CHECK(raddle_slow_store(machine.env[cpu], 0, oi) == 0);
}

static uint64_t operate(uint32_t cpu, uint32_t op, uint64_t address, uint64_t first, uint64_t second)
{
    struct raddle_cpu_header *h = header_of(machine.env[cpu]);
    h->arg0 = address;
    h->arg1 = first;
    h->arg2 = second;
    CHECK(raddle_slow_atomic(machine.env[cpu], 0, WORD, op) == 0);
    return h->result;
}

static uint32_t load_exclusive(uint32_t cpu, uint64_t address)
{
    return (uint32_t)operate(cpu, RADDLE_OP_LOAD_EXCLUSIVE, address, 0, 0);
}

static bool store_exclusive(uint32_t cpu, uint64_t address, uint32_t value)
{
    return !operate(cpu, RADDLE_OP_STORE_EXCLUSIVE, address, value, 0);
}

/* -- what comes between a load-exclusive and its store-exclusive -------------------------------------------------- */

static void other_stores_the_same(void)
{
    store(OTHER, RESERVED, OLD, WORD);
}

static void other_stores_and_restores(void)
{
    store(OTHER, RESERVED, NEW, WORD);
    store(OTHER, RESERVED, OLD, WORD);
}

static void other_stores_in_the_granule(void)
{
    store(OTHER, RESERVED + GRANULE_SIZE - 8, 1, DOUBLE);
}

static void other_stores_into_the_granule(void)
{
    store(OTHER, RESERVED + GRANULE_SIZE - 2, 1, WORD);
}

static void other_stores_across_pages(void)
{
    store(OTHER, RESERVED - 2, (uint64_t)OLD << 16, WORD);
}

static void other_adds(void)
{
    operate(OTHER, RADDLE_OP_ADD, RESERVED + 4, 1, 0);
}

static void other_compares_and_swaps(void)
{
    operate(OTHER, RADDLE_OP_CMPXCHG, RESERVED, OLD, OLD);
}

static void other_stores_exclusively(void)
{
    CHECK(load_exclusive(OTHER, RESERVED) == OLD);
    CHECK(store_exclusive(OTHER, RESERVED, OLD));
}

static void device_stores(void)
{
    helper(machine.env[OWNER], "phys_store32", RESERVED + 8, 1, 0);
}

static void device_swaps(void)
{
    helper(machine.env[OWNER], "phys_cmpxchg32", RESERVED, OLD, OLD);
}

static void python_writes(void)
{
    uint8_t bytes[3 * GRANULE_SIZE] = {0};
    memcpy(bytes + GRANULE_SIZE, &(uint32_t){OLD}, sizeof(uint32_t));
    CHECK(raddle_phys_write(machine.ctx, RESERVED - GRANULE_SIZE, bytes, sizeof bytes) == 0);
}

static void owner_stores(void)
{
    store(OWNER, RESERVED, OLD, WORD);
    store(OWNER, RESERVED + 8, 1, WORD);
    operate(OWNER, RADDLE_OP_ADD, RESERVED + 4, 1, 0);
}

static void others_store_next_to_it(void)
{
    store(OTHER, RESERVED - 8, 1, DOUBLE);
    store(OTHER, RESERVED + GRANULE_SIZE, 1, WORD);
    store(OTHER, RESERVED - 4 * PAGE, 1, WORD);
    CHECK(raddle_phys_write(machine.ctx, RESERVED + GRANULE_SIZE, "x", 1) == 0);
}

static void other_reads(void)
{
    CHECK(load_exclusive(OTHER, RESERVED) == OLD);
    CHECK(operate(OTHER, RADDLE_OP_CMPXCHG, RESERVED, NEW, NEW) == OLD);
    CHECK(!store_exclusive(OTHER, RESERVED + 4, NEW));
}

struct between {
    void (*happens)(void);
    bool ends;
};

static const struct between BETWEEN[] = {
    {other_stores_the_same, true},
    {other_stores_and_restores, true},
    {other_stores_in_the_granule, true},
    {other_stores_into_the_granule, true},
    {other_stores_across_pages, true},
    {other_adds, true},
    {other_compares_and_swaps, true},
    {other_stores_exclusively, true},
    {device_stores, true},
    {device_swaps, true},
    {python_writes, true},
    {owner_stores, false},
    {others_store_next_to_it, false},
    {other_reads, false},
};

static void count(bool violated)
{
    if (violated)
        atomic_fetch_add(&machine.violations, 1);
}

void test_what_ends_reservations(bool mechanism)
{
    machine_make(CPUS, PARALLEL | (mechanism ? RADDLE_FLAG_RESERVE : 0), NULL, fill_identity);
    for (size_t i = 0; i < sizeof BETWEEN / sizeof *BETWEEN; i++) {
        memcpy(word_at(RESERVED), &(uint32_t){OLD}, sizeof(uint32_t));
        CHECK(load_exclusive(OWNER, RESERVED) == OLD);
        BETWEEN[i].happens();
        bool stood = store_exclusive(OWNER, RESERVED, NEW);
        count(stood == BETWEEN[i].ends);
        CHECK(read_word(RESERVED) == (stood ? NEW : OLD));
        CHECK(!store_exclusive(OWNER, RESERVED, OLD));
    }
    machine_free();
}

/* -- mappings ----------------------------------------------------------------------------------------------------- */

static void map_to(uint64_t paddr)
{
    helper(machine.env[OWNER], "tlb_flush_by_mmuidx", 1, 0, 0);
    helper(machine.env[OWNER], "tlb_set", ELSEWHERE, paddr, 7);
}

/* The vCPU has had a reservation of the page that its address is mapped to, and it has been lost to another one. */
void test_a_reservation_stays_where_it_is(bool mechanism)
{
    machine_make(CPUS, PARALLEL | (mechanism ? RADDLE_FLAG_RESERVE : 0), NULL, fill_identity);
    map_to(RESERVED);
    load_exclusive(OWNER, ELSEWHERE);
    map_to(RESERVED + PAGE);
    load_exclusive(OWNER, ELSEWHERE);
    map_to(RESERVED);
    count(store_exclusive(OWNER, ELSEWHERE, NEW));
    CHECK(mechanism == (read_word(RESERVED) == 0));
    CHECK(read_word(RESERVED + PAGE) == 0);
    machine_free();
}

/* -- all at once -------------------------------------------------------------------------------------------------- */

#define ADDITIONS 3000

static void *add(void *argument)
{
    uint32_t cpu = (uint32_t)(uintptr_t)argument;
    for (uint32_t i = 0; i < ADDITIONS; i++) {
        while (!store_exclusive(cpu, RESERVED, load_exclusive(cpu, RESERVED) + 1))
            ;
        store(cpu, RESERVED + 4 + 4 * cpu, i + 1, WORD);
        operate(cpu, RADDLE_OP_ADD, RESERVED + 4 + 4 * MAX_CPUS, 1, 0);
    }
    return NULL;
}

/* Each store-exclusive that fails has seen another vCPU's write, so there is always one that gets on. */
void test_reservations_of_many(bool mechanism)
{
    (void)mechanism;
    pthread_t threads[MAX_CPUS];
    machine_make(MAX_CPUS, PARALLEL | RADDLE_FLAG_RESERVE, NULL, fill_identity);
    for (uintptr_t i = 0; i < MAX_CPUS; i++)
        threads[i] = start(add, (void *)i);
    for (uint32_t i = 0; i < MAX_CPUS; i++)
        finish(threads[i]);
    CHECK(read_word(RESERVED) == MAX_CPUS * ADDITIONS);
    CHECK(read_word(RESERVED + 4 + 4 * MAX_CPUS) == MAX_CPUS * ADDITIONS);
    for (uint32_t i = 0; i < MAX_CPUS; i++)
        CHECK(read_word(RESERVED + 4 + 4 * i) == ADDITIONS);
    machine_free();
}

/* All have reserved the same granule: the first one that stores gets it, and none of the others. */
void test_one_of_many_stores(bool mechanism)
{
    machine_make(MAX_CPUS, PARALLEL | (mechanism ? RADDLE_FLAG_RESERVE : 0), NULL, fill_identity);
    for (uint32_t first = 0; first < MAX_CPUS; first++) {
        for (uint32_t i = 0; i < MAX_CPUS; i++)
            load_exclusive(i, RESERVED);
        for (uint32_t i = 0; i < MAX_CPUS; i++) {
            uint32_t cpu = (first + i) % MAX_CPUS;
            count(store_exclusive(cpu, RESERVED, 0) != (i == 0));
        }
    }
    machine_free();
}
