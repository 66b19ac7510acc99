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

/* -- families ---------------------------------------------------------------------------------------------------- */

enum { WORDS = 4096, MODEL = 1, FIXED = 5, REGISTERS_AT = 4 };

/* A family of words 0x10000000 | a << 4 | literal << 8 with one register, a, of eight. */
static struct raddle_family family_of_words(void)
{
    return (struct raddle_family){
        .mask = 0xFFFFFFFFF0000000u,
        .value = 0x10000000,
        .exception_count = 1,
        .register_count = 1,
        .literal_count = 1,
        .exceptions = {{.mask = 0x0FFFFF00, .value = 0x77 << 8}},
        .registers = {{.count = 1, .terms = {{.shift = REGISTERS_AT, .width = 3, .factor = 1}}}},
        .literals = {{.base = 5, .count = 1, .terms = {{.shift = 8, .width = 16, .factor = 3}}}},
    };
}

/* The model's code: a jump over the instruction of form 9, which names the register, and the literal behind it. */
static uint32_t model_template(void)
{
    struct raddle_fixup literal = {.offset = 8, .kind = RADDLE_FIX_LITERAL32, .hole = 0};
    struct raddle_cut cut = {.form = 9, .offset = 4, .size = 4, .count = 1, .registers = {MODEL}};
    struct raddle_jump jump = {.field = 0, .target = 8};
    static const uint8_t hot[12];
    uint32_t number = raddle_memo_template(shared.memo, 4, 0, 0);
    CHECK(!raddle_memo_variant(shared.memo, number, 0, hot, sizeof hot, NULL, 0, (const uint8_t *)&literal, 1,
                               (const uint8_t *)&cut, 1, (const uint8_t *)&jump, 1, 1u << 8 | 1u << 16));
    return number;
}

/* Register a's encoding is a + 1 bytes of value a. */
static void supply_encodings(const struct raddle_joined *wanted)
{
    CHECK(wanted->wanted == RADDLE_WANT_ENCODINGS && wanted->encoding_count == 1);
    uint8_t a = wanted->encodings[0] & 0xFF, code[8];
    CHECK(wanted->encodings[0] >> 32 == 9);
    memset(code, a, sizeof code);
    CHECK(!raddle_memo_encoding(shared.memo, wanted->encodings[0], code, a + 1u));
}

static void check_word(raddle_entry *entry, uint32_t word)
{
    struct raddle_joined out = {0};
    while (raddle_join(shared.memo, &entry, 1, RAM_BASE, &out) == RADDLE_WANTED)
        supply_encodings(&out);
    uint32_t a = word >> REGISTERS_AT & 7, size = a == MODEL ? 4 : a + 1, distance, literal;
    const uint8_t *code = out.code + out.hot_start;
    CHECK(out.cold_start - out.hot_start == 8 + size);
    if (a != MODEL) { /* the model's own code is what it was compiled to */
        memcpy(&distance, code, 4);
        CHECK(distance == size);
        for (uint32_t i = 0; i < size; i++)
            CHECK(code[4 + i] == a);
    }
    memcpy(&literal, code + 4 + size, 4);
    CHECK(literal == 5 + 3 * (word >> 8 & 0xFFFF));
    raddle_joined_clear(&out);
}

static void *derive_words(void *which)
{
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t n = which ? WORDS - 1 - i : i, word = 0x10000000 | (n & 7) << REGISTERS_AT | n << 8;
        raddle_entry *entry = raddle_memo_word(shared.memo, 0, word);
        bool derivable = n != 0x77 && (n & 7) != FIXED;
        CHECK(!entry || derivable);
        if (entry)
            check_word(entry, word);
        else if (derivable)
            atomic_fetch_add(&machine.violations, 1);
    }
    return NULL;
}

/* Two threads derive a family's words, each from its end; in the control there is no model to derive them from. */
void test_families(bool mechanism)
{
    struct raddle_rules given = rules();
    given.register_count = 8;
    shared.memo = raddle_memo_new(&given);
    CHECK(shared.memo);
    struct raddle_mode mode = {.unit = 4, .table = raddle_memo_table(shared.memo)};
    CHECK(!raddle_memo_mode(shared.memo, &mode));
    struct raddle_family description = family_of_words();
    raddle_known_family *family = raddle_memo_family(shared.memo, mode.table, (const uint8_t *)&description);
    uint8_t model = MODEL;
    if (mechanism) {
        uint32_t number = model_template();
        CHECK(!raddle_memo_model(shared.memo, family, number, &model, 1, 1u << FIXED));
        CHECK(raddle_memo_model(shared.memo, family, number, &model, 1, 1u << FIXED) == 1);
        CHECK(!raddle_memo_word(shared.memo, 0, 0x20000000));
        CHECK(!raddle_memo_word(shared.memo, 0, 0x110000000));
    }
    pthread_t one = start(derive_words, NULL), other = start(derive_words, &shared);
    finish(one);
    finish(other);
    raddle_memo_free(shared.memo);
}
