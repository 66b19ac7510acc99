/* SPDX-License-Identifier: Apache-2.0 */
/* The memo: templates that the host's back end has compiled, and for each instruction word its template and literals.
 * Python fills it; threads that translate read it, without a lock and without the GIL.
 *
 * Entries stay until the memo is emptied as a whole, when its budget is used up, in an exclusive section
 * (raddle_memo_clear). `lock` serialises entering; it is a leaf: no other lock is taken under it. */
#include "memo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS    64u
#define TEMPLATE_CHUNK 1024u
#define MODE_SLOTS     (1u << 18) /* a guest may have 2**17 block modes; programs use a dozen */
#define MOST_MODES     (MODE_SLOTS / 2)
#define MOST_TEMPLATES (MEMO_TEMPLATE_CHUNKS * TEMPLATE_CHUNK)
#define RESERVE        (1u << 16) /* modes and templates for blocks that were begun before the memo was full */

static const void *keep(struct arena *arena, const void *bytes, size_t size)
{
    void *copy = arena_take(arena, size);
    return copy && size ? memcpy(copy, bytes, size) : copy;
}

/* -- templates -------------------------------------------------------------------------------------------------- */

struct template *memo_template(struct raddle_memo *memo, uint32_t number)
{
    return memo->templates[number / TEMPLATE_CHUNK] + number % TEMPLATE_CHUNK;
}

struct template *template_new(struct raddle_memo *memo, uint32_t size, uint32_t extra, uint32_t next_decode_state)
{
    uint32_t number = memo->template_count, chunk = number / TEMPLATE_CHUNK;
    if (chunk >= MEMO_TEMPLATE_CHUNKS)
        return NULL;
    if (!memo->templates[chunk] &&
        !(memo->templates[chunk] = arena_take(&memo->arena, TEMPLATE_CHUNK * sizeof(struct template))))
        return NULL;
    struct template *t = memo_template(memo, number);
    t->number = number;
    t->size = size;
    t->extra = extra;
    t->next_decode_state = next_decode_state;
    memo->template_count++;
    memo->templates_all++;
    return t;
}

uint32_t raddle_memo_template(raddle_memo *memo, uint32_t size, uint32_t extra, uint32_t next_decode_state)
{
    pthread_mutex_lock(&memo->lock);
    bool fits = size <= UINT8_MAX && extra <= UINT16_MAX; /* in a row of a block's table */
    struct template *t = fits ? template_new(memo, size, extra, next_decode_state) : NULL;
    pthread_mutex_unlock(&memo->lock);
    return t ? t->number : UINT32_MAX;
}

/* Whether barrier, fields and jumps are where the host's code is: filled in elsewhere, they would overwrite other memory.
 * None is in the barrier, which may be left out. */
static bool lie_within(const struct raddle_memo *memo, const struct variant *code)
{
    const struct raddle_rules *rules = &memo->rules;
    uint32_t barrier = code->orders & 255;
    bool valid = barrier <= code->hot_size;
    for (uint32_t i = 0; valid && i < code->fixup_count; i++) {
        const struct raddle_fixup *f = &code->fixups[i];
        uint32_t size = f->part ? code->cold_size : code->hot_size;
        valid = f->shape < rules->shape_count && f->offset + rules->shapes[f->shape].unit <= size &&
                (f->part || f->offset >= barrier);
    }
    for (uint32_t i = 0; valid && i < code->jump_count; i++) {
        const struct raddle_jump *jump = &code->jumps[i];
        uint32_t size = jump->part ? code->cold_size : code->hot_size;
        valid = jump->shape < rules->shape_count && jump->field + rules->shapes[jump->shape].unit <= size &&
                (jump->part || jump->field >= barrier);
    }
    return valid;
}

/* Whether no two fields have bits of the code in common. Renaming moves fields, but not over one another, so that this
 * is asked only of what a host has compiled. */
static bool lie_apart(const struct raddle_rules *rules, const struct raddle_fixup *fixups, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < i; j++) {
            bool earlier = fixups[i].offset <= fixups[j].offset;
            const struct raddle_fixup *low = &fixups[earlier ? i : j], *high = &fixups[earlier ? j : i];
            uint32_t distance = high->offset - (uint32_t)low->offset;
            if (low->part == high->part && distance < sizeof(uint64_t) &&
                shape_bits(&rules->shapes[low->shape]) >> 8 * distance & shape_bits(&rules->shapes[high->shape]))
                return false;
        }
    return true;
}

struct variant *variant_new(struct raddle_memo *memo, const struct variant *code)
{
    struct variant *v = arena_take(&memo->arena, sizeof *v);
    uint32_t traits = code->traits, orders = code->orders;
    if (!v || code->hot_size > MEMO_PART || code->cold_size > MEMO_PART || !lie_within(memo, code))
        return NULL;
    *v = (struct variant){
        .hot = keep(&memo->arena, code->hot, code->hot_size),
        .cold = keep(&memo->arena, code->cold, code->cold_size),
        .fixups = keep(&memo->arena, code->fixups, code->fixup_count * sizeof *code->fixups),
        .cuts = keep(&memo->arena, code->cuts, code->cut_count * sizeof *code->cuts),
        .jumps = keep(&memo->arena, code->jumps, code->jump_count * sizeof *code->jumps),
        .hot_size = code->hot_size,
        .cold_size = code->cold_size,
        .fixup_count = code->fixup_count,
        .cut_count = code->cut_count,
        .jump_count = code->jump_count,
        .traits = traits,
        .orders = orders,
        .flag_defs = traits & 15,
        .flag_uses = traits >> 4 & 15,
        .host_flags = (int8_t)(int)((traits >> 8 & 255) - 1),
        .by_kind = traits >> 17 & 1,
        .barrier_size = orders & 255,
        .barrier_wanted = orders >> 8 & 15,
        .barrier_keeps = orders >> 12 & 15,
        .passed = orders >> 16 & 15,
        .kept_after = orders >> 20 & 15,
        .inert = orders >> 24 & 1,
    };
    if (!v->hot || !v->cold || !v->fixups || !v->cuts || !v->jumps)
        return NULL;
    const struct raddle_chain *chain = &memo->rules.chain;
    for (uint32_t i = 0; i < v->fixup_count; i++)
        if (v->fixups[i].source == RADDLE_FROM_EXIT) {
            if (!v->fixups[i].part && v->fixups[i].shape == chain->shape && v->padded < 2)
                v->chain_offsets[v->padded++] = v->fixups[i].offset & (chain->span - 1);
            v->exits++;
        }
    return v;
}

int raddle_memo_variant(raddle_memo *memo, uint32_t number, uint32_t key, const uint8_t *hot, uint32_t hot_size,
                        const uint8_t *cold, uint32_t cold_size, const uint8_t *fixups, uint32_t fixup_count,
                        const uint8_t *cuts, uint32_t cut_count, const uint8_t *jumps, uint32_t jump_count,
                        uint32_t traits, uint32_t orders)
{
    struct variant code = {
        .hot = hot,
        .cold = cold,
        .fixups = (const struct raddle_fixup *)(const void *)fixups,
        .cuts = (const struct raddle_cut *)(const void *)cuts,
        .jumps = (const struct raddle_jump *)(const void *)jumps,
        .hot_size = hot_size,
        .cold_size = cold_size,
        .fixup_count = fixup_count,
        .cut_count = cut_count,
        .jump_count = jump_count,
        .traits = traits,
        .orders = orders,
    };
    pthread_mutex_lock(&memo->lock);
    bool known = key < MEMO_VARIANTS && number < memo->template_count;
    struct variant *v = known ? variant_new(memo, &code) : NULL;
    if (v && !lie_apart(&memo->rules, v->fixups, v->fixup_count))
        v = NULL;
    if (v) {
        struct template *t = memo_template(memo, number);
        if (!key)
            t->ends = traits >> 16 & 1;
        atomic_store_explicit(&t->variants[key], v, memory_order_release);
    }
    pthread_mutex_unlock(&memo->lock);
    return v ? 0 : -1;
}

/* -- tables of entries ------------------------------------------------------------------------------------------ */

static uint64_t hash(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return key ^ key >> 29;
}

struct raddle_entry *memo_find(const struct memo_table *table, uint64_t key)
{
    const struct memo_slots *s = atomic_load_explicit(&table->slots, memory_order_acquire);
    struct raddle_entry *e;
    for (uint64_t at = hash(key);; at++) {
        e = atomic_load_explicit(&s->slot[at & s->mask], memory_order_acquire);
        if (!e || e->key == key)
            return e;
    }
}

static struct memo_slots *slots_new(struct raddle_memo *memo, uint64_t size)
{
    struct memo_slots *s = arena_take(&memo->arena, sizeof *s + size * sizeof s->slot[0]);
    if (s)
        s->mask = size - 1;
    return s;
}

static void put(struct memo_slots *s, struct raddle_entry *entry)
{
    uint64_t at = hash(entry->key);
    while (atomic_load_explicit(&s->slot[at & s->mask], memory_order_relaxed))
        at++;
    atomic_store_explicit(&s->slot[at & s->mask], entry, memory_order_release);
    s->count++;
}

static uint64_t bytes_kept(const struct raddle_memo *memo)
{
    return atomic_load_explicit(&memo->arena.size, memory_order_relaxed) +
           atomic_load_explicit(&memo->outside, memory_order_relaxed);
}

/* Whether to replace the slots by more of them, which take `bytes`. Not if that would use up the budget: then the slots
 * are filled further, until the memo is emptied, which will be soon. */
static bool is_crowded(struct raddle_memo *memo, const struct memo_slots *s, uint64_t bytes)
{
    uint64_t count = s->count + 1, size = s->mask + 1;
    if (2 * count <= size)
        return false;
    if (bytes_kept(memo) + bytes <= memo->limit || 8 * count > 7 * size)
        return true;
    atomic_store_explicit(&memo->crowded, 1, memory_order_relaxed);
    return false;
}

/* Readers of the old slots go on using them, and ask for entries that they do not find there. */
static int enter(struct raddle_memo *memo, struct memo_table *table, struct raddle_entry *entry)
{
    struct memo_slots *s = atomic_load_explicit(&table->slots, memory_order_relaxed);
    if (is_crowded(memo, s, 4 * (s->mask + 1) * sizeof s->slot[0])) {
        struct memo_slots *larger = slots_new(memo, 4 * (s->mask + 1));
        if (!larger)
            return -1;
        for (uint64_t i = 0; i <= s->mask; i++) {
            struct raddle_entry *e = atomic_load_explicit(&s->slot[i], memory_order_relaxed);
            if (e)
                put(larger, e);
        }
        atomic_store_explicit(&table->slots, larger, memory_order_release);
        s = larger;
    }
    put(s, entry);
    return 0;
}

static struct memo_table *table_new(struct raddle_memo *memo)
{
    struct memo_table *table = arena_take(&memo->arena, sizeof *table);
    struct memo_slots *s = table ? slots_new(memo, FIRST_SLOTS) : NULL;
    if (!s)
        return NULL;
    atomic_init(&table->slots, s);
    return table;
}

raddle_table *raddle_memo_table(raddle_memo *memo)
{
    pthread_mutex_lock(&memo->lock);
    struct memo_table *table = table_new(memo);
    pthread_mutex_unlock(&memo->lock);
    return table;
}

static struct raddle_entry *entry_new(struct raddle_memo *memo, uint64_t key, struct template *template,
                                      const uint32_t *values, uint32_t count)
{
    struct raddle_entry *entry = arena_take(&memo->arena, sizeof *entry + count * sizeof entry->values[0]);
    if (!entry)
        return NULL;
    entry->key = key;
    entry->template = template;
    for (uint32_t i = 0; i < count; i++)
        entry->values[i] = values[i];
    return entry;
}

/* The entry under `key`, made if it is missing; `table` may be NULL. */
struct raddle_entry *entry_enter(struct raddle_memo *memo, struct memo_table *table, uint64_t key,
                                 struct template *template, const uint32_t *values, uint32_t count)
{
    struct raddle_entry *entry = table ? memo_find(table, key) : NULL;
    if (entry)
        return entry;
    entry = entry_new(memo, key, template, values, count);
    return entry && table && enter(memo, table, entry) ? NULL : entry;
}

raddle_entry *raddle_memo_enter(raddle_memo *memo, raddle_table *table, uint64_t key, uint32_t number,
                                const uint32_t *values, uint32_t count)
{
    pthread_mutex_lock(&memo->lock);
    struct template *template = number == UINT32_MAX ? NULL : memo_template(memo, number);
    struct raddle_entry *entry = entry_enter(memo, table, key, template, values, count);
    memo->entries += entry && table;
    pthread_mutex_unlock(&memo->lock);
    return entry;
}

int raddle_entry_ends(const raddle_entry *entry)
{
    return entry->template->ends;
}

uint32_t raddle_entry_next_decode_state(const raddle_entry *entry)
{
    return entry->template->next_decode_state;
}

int raddle_memo_encoding(raddle_memo *memo, uint64_t key, const uint8_t *code, uint32_t size)
{
    uint32_t values[1 + RADDLE_HOST_INSTRUCTION / 4] = {size};
    if (size > RADDLE_HOST_INSTRUCTION)
        return -1;
    memcpy(values + 1, code, size);
    pthread_mutex_lock(&memo->lock);
    bool kept = entry_enter(memo, memo->encodings, key, NULL, values, sizeof values / sizeof values[0]);
    pthread_mutex_unlock(&memo->lock);
    return kept ? 0 : -1;
}

/* -- block modes ------------------------------------------------------------------------------------------------ */

struct raddle_mode *memo_mode(struct raddle_memo *memo, uint32_t mode)
{
    for (uint32_t at = mode;; at++) {
        struct raddle_mode *m = atomic_load_explicit(&memo->modes[at % MODE_SLOTS], memory_order_acquire);
        if (!m || m->mode == mode)
            return m;
    }
}

int raddle_memo_mode(raddle_memo *memo, const struct raddle_mode *description)
{
    int result = -1;
    pthread_mutex_lock(&memo->lock);
    struct raddle_mode *m = memo_mode(memo, description->mode);
    if (m)
        result = 0;
    else if (memo->mode_count < MOST_MODES && (m = arena_take(&memo->arena, sizeof *m))) {
        *m = *description;
        uint32_t at = m->mode;
        while (atomic_load_explicit(&memo->modes[at % MODE_SLOTS], memory_order_relaxed))
            at++;
        atomic_store_explicit(&memo->modes[at % MODE_SLOTS], m, memory_order_release);
        memo->mode_count++;
        result = 0;
    }
    pthread_mutex_unlock(&memo->lock);
    return result;
}

/* -- the memo as a whole ---------------------------------------------------------------------------------------- */

static int stub_keep(struct raddle_memo *memo, struct raddle_stub *stub)
{
    stub->code = keep(&memo->fixed, stub->code, stub->size);
    return stub->code && stub->fixup_count <= RADDLE_STUB_FIXUPS ? 0 : -1;
}

raddle_memo *raddle_memo_new(const struct raddle_rules *rules)
{
    if (!shapes_are_valid(rules)) {
        errno = EINVAL;
        return NULL;
    }
    struct raddle_memo *memo = calloc(1, sizeof *memo);
    if (!memo)
        return NULL;
    pthread_mutex_init(&memo->lock, NULL);
    memo->rules = *rules;
    memo->page_mask = ~(((uint64_t)1 << rules->page_bits) - 1);
    memo->limit = UINT64_MAX;
    memo->word_mask = rules->word_bits == 64 ? UINT64_MAX : ((uint64_t)1 << rules->word_bits) - 1;
    memo->modes = map_new(MODE_SLOTS * sizeof *memo->modes);
    memo->encodings = table_new(memo);
    for (uint32_t i = 0; i < rules->shape_count; i++)
        memo->words |= (uint32_t)field_is_word(&rules->shapes[i]) << i;
    memo->chain_unit = rules->shapes[rules->chain.shape].unit;
    if (!memo->modes || !memo->encodings || rules->register_count > RADDLE_REGISTERS ||
        stub_keep(memo, &memo->rules.entry) || stub_keep(memo, &memo->rules.leave) ||
        stub_keep(memo, &memo->rules.chainable) || stub_keep(memo, &memo->rules.indirect)) {
        raddle_memo_free(memo);
        return NULL;
    }
    return memo;
}

void raddle_memo_free(raddle_memo *memo)
{
    arena_clear(&memo->arena);
    arena_clear(&memo->fixed);
    map_free(memo->modes, MODE_SLOTS * sizeof *memo->modes);
    pthread_mutex_destroy(&memo->lock);
    free(memo);
}

void raddle_memo_listen(raddle_memo *memo, int on)
{
    atomic_store(&memo->listened, on != 0);
}

void raddle_memo_falls_through(raddle_memo *memo, raddle_entry *entry)
{
    memo->falls_through = entry;
}

void raddle_memo_use(raddle_context *ctx, raddle_memo *memo)
{
    ctx->memo = memo;
    raddle_chain_by(ctx, &memo->rules.chain, &memo->rules.shapes[memo->rules.chain.shape]);
}

void raddle_memo_stats(raddle_memo *memo, struct raddle_memo_stats *out)
{
    pthread_mutex_lock(&memo->lock);
    *out = (struct raddle_memo_stats){
        .entries = memo->entries,
        .templates = memo->templates_all,
        .bytes = memo->arena.size,
        .outside = memo->outside,
        .limit = memo->limit,
        .emptied = memo->generation,
    };
    pthread_mutex_unlock(&memo->lock);
}

/* -- its budget ------------------------------------------------------------------------------------------------- */

void raddle_memo_limit(raddle_memo *memo, uint64_t bytes)
{
    atomic_store(&memo->limit, bytes);
}

void raddle_memo_outside(raddle_memo *memo, uint64_t bytes)
{
    atomic_store_explicit(&memo->outside, bytes, memory_order_relaxed);
}

uint32_t raddle_memo_generation(raddle_memo *memo)
{
    return atomic_load(&memo->generation);
}

bool memo_is_full(const struct raddle_memo *memo)
{
    return bytes_kept(memo) > atomic_load_explicit(&memo->limit, memory_order_relaxed) ||
           atomic_load_explicit(&memo->crowded, memory_order_relaxed) ||
           atomic_load_explicit(&memo->template_count, memory_order_relaxed) > MOST_TEMPLATES - RESERVE ||
           atomic_load_explicit(&memo->mode_count, memory_order_relaxed) > MOST_MODES - RESERVE;
}

int raddle_memo_clear(raddle_memo *memo)
{
    pthread_mutex_lock(&memo->lock);
    arena_clear(&memo->arena);
    memset(memo->templates, 0, sizeof memo->templates);
    memo->template_count = 0;
    for (uint32_t at = 0; at < MODE_SLOTS; at++) /* only slots in use are written: the others take no memory */
        if (atomic_load_explicit(&memo->modes[at], memory_order_relaxed))
            atomic_store_explicit(&memo->modes[at], NULL, memory_order_relaxed);
    memo->mode_count = 0;
    memo->falls_through = NULL;
    memo->outside = 0;
    memo->crowded = 0;
    memo->generation++;
    struct memo_table *encodings = memo->encodings = table_new(memo);
    pthread_mutex_unlock(&memo->lock);
    return encodings ? 0 : -1;
}
