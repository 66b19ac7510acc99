/* SPDX-License-Identifier: Apache-2.0 */
/* The memo and the joiner: threads enter what others look up and join at the same time. */
#include "harness.h"
#include "memo.h"

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
    struct raddle_stub stub = {.code = code, .size = sizeof code, .fixup_count = 1};
    return (struct raddle_rules){
        .word_bits = WORD_BITS, .page_bits = PAGE_BITS, .entry = {.code = code, .size = 4}, .leave = stub, .chainable = stub,
        .indirect = stub, .shapes = {WORD_SHAPE, DISTANCE_SHAPE}, .shape_count = 2, .chain = {.shape = 1, .span = 8}};
}

/* The template's code is its key, four bytes long, with a literal behind it. */
static uint32_t template_of(uint32_t key, bool ends)
{
    struct raddle_fixup literal = {.offset = 4, .source = RADDLE_FROM_LITERAL, .hole = 0};
    uint8_t hot[8] = {0};
    memcpy(hot, &key, 4);
    uint32_t number = raddle_memo_template(shared.memo, 4, 0, 0);
    CHECK(!raddle_memo_variant(shared.memo, number, 0, hot, 8, hot, 0, (const uint8_t *)&literal, 1, NULL, 0, NULL, 0,
                               1u << 8 | (uint32_t)ends << 16, 0));
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
    CHECK(raddle_memo_variant(shared.memo, bare, 2 * RADDLE_HOST_FLAGS, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, 0,
                              0) == -1);
    CHECK(raddle_memo_variant(shared.memo, bare + 1, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, 0, 0) == -1);
    static const uint8_t hot[4]; /* and a barrier of five bytes */
    CHECK(raddle_memo_variant(shared.memo, bare, 0, hot, sizeof hot, NULL, 0, NULL, 0, NULL, 0, NULL, 0, 0, 5) == -1);
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
    struct raddle_fixup literal = {.offset = 8, .source = RADDLE_FROM_LITERAL, .hole = 0};
    struct raddle_cut cut = {.form = 9, .offset = 4, .size = 4, .count = 1, .registers = {MODEL}};
    struct raddle_jump jump = {.shape = 1, .field = 0, .target = 8};
    static const uint8_t hot[12];
    uint32_t number = raddle_memo_template(shared.memo, 4, 0, 0);
    CHECK(!raddle_memo_variant(shared.memo, number, 0, hot, sizeof hot, NULL, 0, (const uint8_t *)&literal, 1,
                               (const uint8_t *)&cut, 1, (const uint8_t *)&jump, 1, 1u << 8 | 1u << 16, 0));
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

/* -- the budget --------------------------------------------------------------------------------------------------- */

enum { VCPUS = 3, BLOCKS = 6000, EMPTIED = 8, BUDGET = 3 << 18, SECONDS_ALIKE = 64 };

/* As Python does it: what is known of the memo, and the lock that is held while anything in it is used. */
static struct {
    pthread_mutex_t lock;
    raddle_table *table; /* of block mode 0, NULL when that is not known */
    _Atomic uint32_t *words; /* by template */
    bool checks;             /* that what was wanted was wanted of this memo */
    bool alone;              /* there is one vCPU */
    _Atomic uint64_t ran[VCPUS], finished;
} budget = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t word_at(uint64_t pc)
{
    return *(uint32_t *)(void *)(machine.ram + (pc - RAM_BASE));
}

/* The code of a word is the word, behind another one its complement; odd ones end the block. */
static int give_variant(uint32_t number, uint32_t key, uint32_t word)
{
    struct raddle_fixup literal = {.offset = 4, .source = RADDLE_FROM_LITERAL, .hole = 0};
    uint32_t hot[2] = {key ? ~word : word};
    return raddle_memo_variant(shared.memo, number, key, (const uint8_t *)hot, sizeof hot, NULL, 0,
                               (const uint8_t *)&literal, 1, NULL, 0, NULL, 0, 2u << 8 | (word & 1) << 16 | 1u << 17, 0);
}

static void give_word(uint32_t word)
{
    uint32_t number = raddle_memo_template(shared.memo, 4, 0, 0), value = word * 3;
    CHECK(number != UINT32_MAX);
    atomic_store(&budget.words[number], word);
    CHECK(!give_variant(number, 0, word));
    CHECK(raddle_memo_enter(shared.memo, budget.table, word, number, &value, 1));
}

static void give_mode(void)
{
    struct raddle_mode mode = {.unit = 4, .table = raddle_memo_table(shared.memo)};
    CHECK(mode.table && !raddle_memo_mode(shared.memo, &mode));
    budget.table = mode.table;
}

static void make_room(uint32_t generation)
{
    raddle_exclusive_begin(machine.ctx);
    pthread_mutex_lock(&budget.lock);
    if (generation == raddle_memo_generation(shared.memo)) {
        struct raddle_memo_stats stats;
        raddle_memo_stats(shared.memo, &stats);
        CHECK(stats.bytes <= BUDGET + (VCPUS + 1) * (1 << 18)); /* a chunk beyond it for each block that was begun */
        CHECK(!raddle_memo_clear(shared.memo));
        budget.table = NULL;
    }
    pthread_mutex_unlock(&budget.lock);
    raddle_exclusive_end(machine.ctx);
}

/* Others have emptied the memo, and the number stands for something else; or that has happened often enough. */
static void wait_until_emptied(uint32_t generation, uint32_t number)
{
    if (!budget.alone && (!budget.checks || generation < EMPTIED))
        while (!raddle_stopping(machine.ctx) &&
               (raddle_memo_generation(shared.memo) == generation || shared.memo->template_count <= number))
            sched_yield();
}

static void supply(uint32_t cpu, const struct raddle_want *want)
{
    if (want->kind == RADDLE_WANT_ROOM) {
        make_room(want->generation);
        return;
    }
    uint32_t number = want->joined.template_number;
    uint32_t word = want->kind == RADDLE_WANT_VARIANT ? atomic_load(&budget.words[number]) : want->word;
    if (cpu == 0 && want->kind == RADDLE_WANT_VARIANT)
        wait_until_emptied(want->generation, number);
    pthread_mutex_lock(&budget.lock);
    if (budget.checks && want->generation != raddle_memo_generation(shared.memo))
        ;
    else if (want->kind == RADDLE_WANT_MODE && !budget.table)
        give_mode();
    else if (want->kind == RADDLE_WANT_WORD && budget.table && !raddle_memo_word(shared.memo, 0, word))
        give_word(word);
    else if (want->kind == RADDLE_WANT_VARIANT)
        CHECK(!give_variant(number, want->joined.variant_key, word) || !budget.checks);
    pthread_mutex_unlock(&budget.lock);
}

/* What the block's code says must be what the guest's memory says. */
static uint64_t run_words(void *env, void *code)
{
    struct raddle_cpu_header *h = header_of(env);
    uint32_t words[4], first = word_at(h->pc), second = word_at(h->pc + 4), index = h->cpu_index;
    memcpy(words, (uint8_t *)code + 4, sizeof words);
    if (words[0] != first || words[1] != first * 3 || words[2] != ~second || words[3] != second * 3)
        atomic_fetch_add(&machine.violations, 1);
    uint64_t ran = atomic_fetch_add(&budget.ran[index], 1) + 1;
    h->pc = RAM_BASE + (ran * 40504 + index * 8) % RAM_SIZE;
    if (budget.checks ? ran == BLOCKS && atomic_fetch_add(&budget.finished, 1) + 1 == VCPUS
                      : ran == 100 * BLOCKS || atomic_load(&machine.violations))
        raddle_stop(machine.ctx);
    return 0;
}

static void *run_with_memo(void *env)
{
    while (raddle_run(env) == RADDLE_MISS) {
        struct raddle_want *want = raddle_wanted(env);
        int answer = want->answer == RADDLE_WANTED ? RADDLE_WANTED : raddle_translate(env);
        for (; answer == RADDLE_WANTED; answer = raddle_translate(env))
            supply(header_of(env)->cpu_index, want);
        CHECK(answer != RADDLE_ERROR);
    }
    return NULL;
}

static void begin_with_budget(uint32_t ncpus, uint64_t bytes)
{
    struct raddle_rules given = rules();
    shared.memo = raddle_memo_new(&given);
    CHECK(shared.memo);
    raddle_memo_limit(shared.memo, bytes);
    budget.alone = ncpus == 1;
    budget.words = calloc(1 << 20, sizeof *budget.words);
    machine_make(ncpus, PARALLEL, run_words, fill_identity);
    for (uint32_t i = 0; i < RAM_SIZE / 4; i++) /* a word of its own, then one of few, which is odd */
        ((uint32_t *)(void *)machine.ram)[i] = i & 1 ? i * 2654435761u % SECONDS_ALIKE | 1 : i * 2654435761u;
    raddle_memo_use(machine.ctx, shared.memo);
}

static void end_with_budget(void)
{
    machine_free();
    raddle_memo_free(shared.memo);
    free(budget.words);
}

/* vCPUs that translate ever new words, in a memo that must be emptied again and again, run what is in memory. In the
 * control, what was wanted of a memo that has been emptied since is supplied to the new one. */
void test_memo_budget(bool mechanism)
{
    budget.checks = mechanism;
    begin_with_budget(VCPUS, BUDGET);
    pthread_t threads[VCPUS];
    for (uint32_t i = 0; i < VCPUS; i++)
        threads[i] = start(run_with_memo, machine.env[i]);
    for (uint32_t i = 0; i < VCPUS; i++)
        finish(threads[i]);
    CHECK(!mechanism || raddle_memo_generation(shared.memo) >= EMPTIED);
    end_with_budget();
}

/* A budget that the first word uses up: each block is begun in an empty memo, and made. */
void test_memo_budget_of_nothing(bool mechanism)
{
    (void)mechanism;
    budget.checks = true;
    begin_with_budget(1, 1);
    for (uint64_t i = 0; i < 10; i++) {
        CHECK(raddle_run(machine.env[0]) == RADDLE_MISS && atomic_load(&budget.ran[0]) == i);
        struct raddle_want *want = raddle_wanted(machine.env[0]);
        CHECK(want->answer == RADDLE_WANTED && want->kind == RADDLE_WANT_ROOM && want->generation == i);
        for (int answer = RADDLE_WANTED; answer == RADDLE_WANTED; answer = raddle_translate(machine.env[0]))
            supply(0, want);
    }
    end_with_budget();
}

/* A table that more slots would take beyond the budget is filled further, and says so; what cannot wait is made. */
void test_memo_crowded(bool mechanism)
{
    (void)mechanism;
    struct raddle_rules given = rules();
    shared.memo = raddle_memo_new(&given);
    raddle_table *table = raddle_memo_table(shared.memo);
    raddle_memo_limit(shared.memo, shared.memo->arena.size);
    for (uint32_t key = 0; key < 1000; key++) {
        uint64_t mask = table->slots->mask;
        CHECK(raddle_memo_enter(shared.memo, table, key, UINT32_MAX, NULL, 0));
        CHECK(memo_is_full(shared.memo) == (key > mask / 2 || mask > 63));
        CHECK(table->slots->mask == mask || key == (mask + 1) / 8 * 7);
        for (uint32_t other = 0; other < 1000; other++)
            CHECK(!memo_find(table, other) == (other > key));
    }
    CHECK(table->slots->mask == 4095);
    CHECK(!raddle_memo_clear(shared.memo) && !memo_is_full(shared.memo));
    raddle_memo_free(shared.memo);
}
