/* SPDX-License-Identifier: Apache-2.0 */
/* Families: instruction words that differ only in registers and literals. If the family of a word is known, and has a
 * model for its kind of registers, this file makes the entry from the word's bits and the model's template. */
#include "memo.h"

#include <string.h>

#define BUCKETS 64u

struct model {
    struct model *next;
    uint32_t count;
    uint8_t shape[MEMO_REGISTERS];
    struct template *template;
};

struct family {
    struct raddle_family description;
    struct model *models;
    struct family *next; /* in its bucket */
};

/* The families of a table that look at the same bits. */
struct family_group {
    uint64_t mask;
    struct family_group *next;
    struct family *buckets[BUCKETS];
};

struct registers { /* zeros after the last one */
    uint32_t count;
    uint8_t numbers[MEMO_REGISTERS];
    uint8_t shape[MEMO_REGISTERS];
};

static struct family **bucket(struct family_group *group, uint64_t value)
{
    value *= 0x9e3779b97f4a7c15u;
    return &group->buckets[value >> 32 & (BUCKETS - 1)];
}

static uint32_t linear(const struct raddle_linear *l, uint32_t word)
{
    uint32_t value = l->base;
    for (uint32_t i = 0; i < l->count; i++)
        value += (uint32_t)(word >> l->terms[i].shift & (((uint64_t)1 << l->terms[i].width) - 1)) * l->terms[i].factor;
    return value;
}

/* -- kinds of registers ----------------------------------------------------------------------------------------- */

static bool is_register(const struct raddle_memo *memo, uint32_t number)
{
    return number < memo->rules.register_count && memo->rules.places[number] != RADDLE_NO_PLACE;
}

/* What the code may depend on: which registers are equal, the kind of place of each, and the number of each register
 * that is never renamed. */
static void shape(const struct raddle_memo *memo, struct registers *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t first = 0;
        while (r->numbers[first] != r->numbers[i])
            first++;
        bool renamed = is_register(memo, r->numbers[i]);
        r->shape[i] = (uint8_t)(renamed ? first << 4 | memo->rules.places[r->numbers[i]] : 0xC0u | r->numbers[i]);
    }
}

static bool add_register(struct registers *r, uint32_t number)
{
    if (number >= RADDLE_REGISTERS || r->count == RADDLE_FAMILY_REGISTERS)
        return false;
    r->numbers[r->count++] = (uint8_t)number;
    return true;
}

static bool registers_of(const struct raddle_memo *memo, const struct raddle_family *f, uint32_t word,
                         struct registers *r)
{
    *r = (struct registers){0};
    for (uint32_t set = linear(&f->list, word); set; set &= set - 1)
        if (!add_register(r, (uint32_t)__builtin_ctz(set)))
            return false;
    for (uint32_t i = 0; i < f->register_count; i++)
        if (!add_register(r, linear(&f->registers[i], word)))
            return false;
    shape(memo, r);
    return true;
}

static struct model *model_of(const struct family *f, const struct registers *r)
{
    struct model *m = f->models;
    while (m && (m->count != r->count || memcmp(m->shape, r->shape, sizeof m->shape)))
        m = m->next;
    return m;
}

int raddle_memo_model(raddle_memo *memo, raddle_known_family *family, uint32_t number, const uint8_t *registers,
                      uint32_t count, uint64_t fixed)
{
    struct registers r = {0};
    bool fits = true;
    for (uint32_t i = 0; i < count; i++)
        fits = fits && add_register(&r, registers[i]);
    if (!fits)
        return -1;
    int answer = -1;
    pthread_mutex_lock(&memo->lock);
    if (number >= memo->template_count) {
        pthread_mutex_unlock(&memo->lock);
        return -1;
    }
    struct template *t = memo_template(memo, number);
    struct model *m;
    shape(memo, &r);
    if (model_of(family, &r))
        answer = 1;
    else if ((m = arena_take(&memo->arena, sizeof *m))) {
        if (!t->register_count) { /* a template may be the model of several families, with the same registers */
            memcpy(t->registers, r.numbers, sizeof t->registers);
            t->register_count = count;
            t->fixed = fixed;
        }
        m->count = count;
        m->template = t;
        memcpy(m->shape, r.shape, sizeof m->shape);
        m->next = family->models;
        family->models = m;
        answer = 0;
    }
    pthread_mutex_unlock(&memo->lock);
    return answer;
}

/* -- the template of a choice of registers ---------------------------------------------------------------------- */

static bool can_rename(const struct raddle_memo *memo, const struct template *model, const struct registers *r)
{
    uint64_t open = 0, wanted = 0;
    for (uint32_t i = 0; i < r->count; i++)
        if (is_register(memo, r->numbers[i])) {
            open |= (uint64_t)1 << model->registers[i];
            wanted |= (uint64_t)1 << r->numbers[i];
        }
    return !(wanted & model->fixed & ~open);
}

/* The model itself if the registers are its own; NULL when out of memory. */
static struct template *template_for(struct raddle_memo *memo, struct template *model, const struct registers *r)
{
    if (!memcmp(model->registers, r->numbers, sizeof r->numbers))
        return model;
    struct template *t = model->renamings;
    while (t && memcmp(t->registers, r->numbers, sizeof r->numbers))
        t = t->next;
    if (t)
        return t;
    t = template_new(memo, model->size, model->extra, model->next_decode_state);
    if (!t)
        return NULL;
    t->ends = model->ends;
    t->model = model;
    memcpy(t->registers, r->numbers, sizeof t->registers);
    t->register_count = r->count;
    t->next = model->renamings;
    model->renamings = t;
    return t;
}

/* -- finding ---------------------------------------------------------------------------------------------------- */

static bool is_exception(const struct raddle_family *f, uint32_t word)
{
    for (uint32_t i = 0; i < f->exception_count; i++)
        if ((word & f->exceptions[i].mask) == f->exceptions[i].value)
            return true;
    return false;
}

static struct raddle_entry *derive(struct raddle_memo *memo, struct memo_table *table, const struct family *f,
                                   uint64_t key)
{
    uint32_t word = (uint32_t)key, values[RADDLE_FAMILY_LITERALS];
    struct registers r;
    if (is_exception(&f->description, word) || !registers_of(memo, &f->description, word, &r))
        return NULL;
    const struct model *m = model_of(f, &r);
    if (!m || !can_rename(memo, m->template, &r))
        return NULL;
    struct template *t = template_for(memo, m->template, &r);
    if (!t)
        return NULL;
    for (uint32_t i = 0; i < f->description.literal_count; i++)
        values[i] = linear(&f->description.literals[i], word);
    struct raddle_entry *entry = entry_enter(memo, table, key, t, values, f->description.literal_count);
    memo->entries += entry != NULL;
    return entry;
}

static struct raddle_entry *derive_in(struct raddle_memo *memo, struct memo_table *table, uint64_t key)
{
    struct raddle_entry *entry = NULL;
    for (struct family_group *g = table->families; g && !entry; g = g->next)
        for (struct family *f = *bucket(g, key & g->mask); f && !entry; f = f->next)
            if (f->description.value == (key & g->mask))
                entry = derive(memo, table, f, key);
    return entry;
}

static struct raddle_entry *find(const struct raddle_mode *mode, uint64_t key)
{
    struct raddle_entry *entry = NULL;
    for (uint32_t i = 0; !entry && i < 2; i++)
        entry = mode->shared[i] ? memo_find(mode->shared[i], key) : NULL;
    return entry ? entry : memo_find(mode->table, key);
}

/* Looks in the tables of the mode: entries that hold in several modes are in a table that these modes share. */
struct raddle_entry *memo_word(struct raddle_memo *memo, const struct raddle_mode *mode, uint64_t key)
{
    struct raddle_entry *entry = find(mode, key);
    if (entry)
        return entry;
    pthread_mutex_lock(&memo->lock);
    entry = find(mode, key);
    for (uint32_t i = 0; !entry && i < 2; i++)
        entry = mode->shared[i] ? derive_in(memo, mode->shared[i], key) : NULL;
    if (!entry)
        entry = derive_in(memo, mode->table, key);
    pthread_mutex_unlock(&memo->lock);
    return entry;
}

raddle_entry *raddle_memo_word(raddle_memo *memo, uint32_t mode, uint64_t key)
{
    return memo_word(memo, memo_mode(memo, mode), key);
}

raddle_known_family *raddle_memo_family(raddle_memo *memo, raddle_table *table, const uint8_t *description)
{
    struct raddle_family given;
    memcpy(&given, description, sizeof given);
    pthread_mutex_lock(&memo->lock);
    struct family_group *g = table->families;
    while (g && g->mask != given.mask)
        g = g->next;
    if (!g && (g = arena_take(&memo->arena, sizeof *g))) {
        g->mask = given.mask;
        g->next = table->families;
        table->families = g;
    }
    struct family *f = g ? arena_take(&memo->arena, sizeof *f) : NULL;
    if (f) {
        struct family **head = bucket(g, given.value);
        f->description = given;
        f->next = *head;
        *head = f;
    }
    pthread_mutex_unlock(&memo->lock);
    return f;
}
