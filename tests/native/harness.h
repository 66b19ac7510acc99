/* SPDX-License-Identifier: Apache-2.0 */
/* What the C tests of the runtime share: a machine with RAM, a device and stub "generated code". WORD_BITS and PAGE_BITS
 * are the guest's: run.py builds for several.
 *
 * Blocks hold no host code here: `enter` is a C function of the test that looks at what the block's bytes say and does
 * what translated code would do, the look at exit_request at each block entry included. */
#pragma once

#include "internal.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RAM_BASE    (WORD_BITS == 32 ? 0x40000000u : 0xffffffffc0000000u)
#define RAM_SIZE    (1u << 20)
#define DEVICE_BASE 0x09000000u
#define PAGE        (1u << PAGE_BITS)
#define ROM_DEVICE_BASE 0x04000000u
#define MAX_CPUS    8
#define WORD        2 /* oi of a 4-byte access through MMU index 0 */
#define PARALLEL    RADDLE_FLAG_PARALLEL
#define COMMON_INDICES (1u << 1) /* MMU indices with a common addend: not that of fast_load and fast_store */

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                        \
        }                                                                   \
    } while (0)

/* Shapes of fields: four bytes, and the distance from their end. */
#define WORD_SHAPE     {.unit = 4, .piece_count = 1, .pieces = {{0, 32}}}
#define DISTANCE_SHAPE                                                                  \
    {.unit = 4, .piece_count = 1, .pieces = {{0, 32}}, .relative = 1, .bias = -4, .range = RADDLE_RANGE_SIGNED}

/* The bytes of a stub block. `slot` is where the field of a chainable jump would be, of DISTANCE_SHAPE. */
struct stub {
    uint64_t pc;
    uint32_t value;
    int32_t slot;
};

struct machine {
    raddle_context *ctx;
    void *env[MAX_CPUS];
    uint32_t ncpus;
    uint8_t *ram;
    uint8_t *rom; /* a page, of a ROM device */
    void *table[RADDLE_PYTHON_NUMBER];
    _Atomic uint64_t virtual_pages; /* whatever a test's tlb_fill wants */
    _Atomic int stop;
    _Atomic uint64_t violations;
};

extern struct machine machine; /* a test has one */

void machine_make(uint32_t ncpus, uint32_t flags, raddle_enter_function enter, raddle_function fill);
void machine_free(void);
void machine_device(raddle_function handler); /* before machine_make: serve the device by this */
uint64_t fill_identity(void *env, uint64_t address, uint64_t access, uint64_t size, uint64_t unused);
int install(uint64_t pc, uint32_t value, uint32_t version); /* a block of one instruction */
int install_from(uint64_t pc, uint32_t value, uint32_t version, const void *guest);
int install_now(uint64_t pc, uint32_t value);
uint64_t helper(void *env, const char *name, uint64_t a0, uint64_t a1, uint64_t a2);
pthread_t start(void *(*function)(void *), void *argument);
void finish(pthread_t thread);
bool exit_requested(void *env);
bool fast_load(void *env, uint64_t address,
               uint32_t *value); /* what generated code does; false: the slow path is due */
uint32_t *fast_store(void *env, uint64_t address); /* the first half of a store: where it goes; NULL: the slow path */
/* Runs the vCPU until it is told to stop, installing on each miss what `make` says the block's value is. */
void run_until_stop(void *env, uint32_t (*make)(uint64_t pc));

struct test {
    const char *name;
    void (*run)(bool mechanism); /* counts machine.violations */
    bool has_control;            /* run(false) must count some */
};
extern const struct test TESTS[];

/* schedule_tests.c */
void test_counted_turns_repeat(bool mechanism);
void test_time_passes_for_spinners(bool mechanism);
void test_time_is_counted_while_one_works(bool mechanism);
void test_interrupts_end_turns(bool mechanism);
void test_turns_after_an_interrupt(bool mechanism);
void test_slices(bool mechanism);
void test_turns_wake(bool mechanism);
void test_end_of_time(bool mechanism);

/* loan_tests.c */
void test_loans(bool mechanism);
void test_a_loan_ends(bool mechanism);
void test_loans_learn(bool mechanism);

/* barrier_tests.c */
void test_barrier_without_core(bool mechanism);
void test_spinning(bool mechanism);

/* tlb_tests.c */
void test_flush_finds_all(bool mechanism);
void test_local_flush_finds_all(bool mechanism);
void test_marking_finds_all(bool mechanism);
void test_common_addend(bool mechanism);
void test_jumps_flush_finds_all(bool mechanism);
void test_jumps_page_flush_finds_all(bool mechanism);

/* store_tests.c */
void test_store_on_its_way(bool mechanism);
void test_store_on_its_way_is_fetched(bool mechanism);
void test_store_on_its_way_before_the_block(bool mechanism);
void test_settled_blocks(bool mechanism);

/* granule_tests.c */
void test_what_ends_reservations(bool mechanism);
void test_a_reservation_stays_where_it_is(bool mechanism);
void test_reservations_of_many(bool mechanism);
void test_one_of_many_stores(bool mechanism);

/* rom_device_tests.c */
void test_rom_device(bool mechanism);

/* memo_tests.c */
void test_memo(bool mechanism);
void test_join(bool mechanism);
void test_families(bool mechanism);
void test_memo_budget(bool mechanism);
void test_memo_budget_of_nothing(bool mechanism);
void test_memo_crowded(bool mechanism);
