/* SPDX-License-Identifier: Apache-2.0 */
/* The memo and the joiner: threads enter what others look up and join at the same time. */
#include "harness.h"

enum { KEYS = 5000, WRITERS = 2, READERS = 2 };

static struct {
    raddle_memo *memo;
    raddle_table *table, *entered; /* entered: where the writers put them, NULL in the control */
    _Atomic(raddle_entry *) made[WRITERS][KEYS];
    _Atomic int done;
} shared;

static struct raddle_rules rules(void)
{
    static const uint8_t code[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct raddle_stub stub = {.code = code, .size = sizeof code, .field_count = 1};
    return (struct raddle_rules){
        .word_bits = 32, .page_bits = 12, .entry = {.code = code, .size = 4}, .leave = stub, .chainable = stub,
        .indirect = stub};
}

/* The template's code is its key, four bytes long, with a literal behind it. */
static uint32_t template_of(uint32_t key, bool ends)
{
    struct raddle_fixup literal = {.offset = 4, .kind = RADDLE_FIX_LITERAL32, .hole = 0};
    uint8_t hot[8] = {0};
    memcpy(hot, &key, 4);
    uint32_t number = raddle_memo_template(shared.memo, 4, 0, 0);
    CHECK(!raddle_memo_variant(shared.memo, number, 0, hot, 8, hot, 0, (const uint8_t *)&literal, 1, NULL, 0, NULL, 0,
                               1u << 8 | (uint32_t)ends << 16));
    return number;
}

static void *write_entries(void *which)
{
    uintptr_t writer = (uintptr_t)which;
    for (uint32_t key = 0; key < KEYS; key++) {
        uint32_t value = 3 * key;
        uint32_t number = template_of(key, true);
        raddle_entry *entry = raddle_memo_enter(shared.memo, shared.entered, key, number, &value, 1);
        CHECK(entry);
        atomic_store(&shared.made[writer][key], entry);
    }
    return NULL;
}

static void *read_entries(void *unused)
{
    (void)unused;
    struct raddle_joined out = {0};
    while (!atomic_load(&shared.done))
        for (uint32_t key = 0; key < KEYS; key++) {
            raddle_entry *entry = memo_find(shared.table, key);
            uint32_t words[2];
            if (!entry)
                continue;
            CHECK(entry->key == key);
            CHECK(raddle_join(shared.memo, &entry, 1, RAM_BASE, &out) == RADDLE_INSTALL_OK);
            memcpy(words, out.code + out.hot_start, sizeof words);
            CHECK(words[0] == key && words[1] == 3 * key);
        }
    raddle_joined_clear(&out);
    return unused;
}

/* Whoever enters a key gets the one entry of the key, and who finds it finds all of it. The control enters nowhere. */
void test_memo(bool mechanism)
{
    struct raddle_rules given = rules();
    shared.memo = raddle_memo_new(&given);
    CHECK(shared.memo);
    shared.table = raddle_memo_table(shared.memo);
    shared.entered = mechanism ? shared.table : NULL;
    atomic_store(&shared.done, 0);
    pthread_t writers[WRITERS], readers[READERS];
    for (uintptr_t i = 0; i < READERS; i++)
        readers[i] = start(read_entries, NULL);
    for (uintptr_t i = 0; i < WRITERS; i++)
        writers[i] = start(write_entries, (void *)i);
    for (int i = 0; i < WRITERS; i++)
        finish(writers[i]);
    atomic_store(&shared.done, 1);
    for (int i = 0; i < READERS; i++)
        finish(readers[i]);
    for (uint32_t key = 0; key < KEYS; key++)
        if (atomic_load(&shared.made[0][key]) != atomic_load(&shared.made[1][key]))
            atomic_fetch_add(&machine.violations, 1);
    raddle_memo_free(shared.memo);
}

/* Blocks of any length that is allowed are laid out in full; longer ones and variants that cannot be are refused. */
void test_join(bool mechanism)
{
    (void)mechanism;
    struct raddle_rules given = rules();
    shared.memo = raddle_memo_new(&given);
    uint32_t value = 7;
    raddle_entry *falls_through = raddle_memo_enter(shared.memo, NULL, 0, template_of(0, false), &value, 1);
    raddle_memo_falls_through(shared.memo, falls_through);
    raddle_entry *entries[RADDLE_MAX_ENTRIES + 1];
    for (uint32_t i = 0; i <= RADDLE_MAX_ENTRIES; i++)
        entries[i] = raddle_memo_enter(shared.memo, NULL, 0, template_of(i, false), &value, 1);
    struct raddle_joined out = {0};
    CHECK(raddle_join(shared.memo, entries, RADDLE_MAX_ENTRIES + 1, RAM_BASE, &out) == RADDLE_ERROR);
    CHECK(raddle_join(shared.memo, entries, RADDLE_MAX_ENTRIES, RAM_BASE, &out) == RADDLE_INSTALL_OK);
    CHECK(out.count == RADDLE_MAX_ENTRIES);
    CHECK(out.hot_start == 4 && out.cold_start == 4 + 8 * (RADDLE_MAX_ENTRIES + 1));
    CHECK(out.code_size == out.cold_start + 8);
    uint32_t bare = raddle_memo_template(shared.memo, 4, 0, 0);
    CHECK(raddle_memo_variant(shared.memo, bare, 2 * RADDLE_HOST_FLAGS, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, 0) == -1);
    CHECK(raddle_memo_variant(shared.memo, bare + 1, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, 0) == -1);
    raddle_joined_clear(&out);
    raddle_memo_free(shared.memo);
}
