/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of host code: how a value is put into the bits of an instruction. The host describes it (struct raddle_shape),
 * so that this file, the joiner, renaming and chaining know no host's encodings. */
#include "internal.h"

#include <string.h>

/* Whether a field of `width` bits can hold `scaled`, the value after an arithmetic shift. */
static bool in_range(const struct raddle_shape *shape, int64_t scaled, uint32_t width)
{
    if (width >= 64)
        return true;
    if (shape->range == RADDLE_RANGE_UNSIGNED)
        return !((uint64_t)scaled >> width);
    int64_t limit = (int64_t)1 << (width - 1);
    return -limit <= scaled && scaled < limit;
}

static uint64_t piece_bits(const struct raddle_shape *shape, uint32_t i)
{
    uint32_t at = shape->pieces[i].at, width = shape->pieces[i].width;
    return (width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1) << at;
}

/* The bits of the unit that a field has. */
uint64_t shape_bits(const struct raddle_shape *shape)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < shape->piece_count; i++)
        bits |= piece_bits(shape, i);
    return bits;
}

static uint32_t width_of(const struct raddle_shape *shape)
{
    uint32_t width = 0;
    for (uint32_t i = 0; i < shape->piece_count; i++)
        width += shape->pieces[i].width;
    return width;
}

static void put(uint8_t *at, uint32_t unit, uint64_t bits)
{
    uint32_t four = (uint32_t)bits;
    uint16_t two = (uint16_t)bits;
    if (unit == 4)
        memcpy(at, &four, sizeof four);
    else if (unit == 8)
        memcpy(at, &bits, sizeof bits);
    else if (unit == 2)
        memcpy(at, &two, sizeof two);
    else
        *at = (uint8_t)bits;
}

static uint64_t get(const uint8_t *at, uint32_t unit)
{
    uint64_t bits = 0;
    memcpy(&bits, at, unit); /* hosts and their instructions are little-endian */
    return bits;
}

static uint64_t with_pieces(const struct raddle_shape *shape, uint64_t bits, uint64_t value)
{
    for (uint32_t i = 0; i < shape->piece_count; i++) {
        uint32_t at = shape->pieces[i].at, width = shape->pieces[i].width;
        uint64_t mask = width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1;
        bits = (bits & ~(mask << at)) | (value & mask) << at;
        value = width == 64 ? 0 : value >> width;
    }
    return bits;
}

/* Puts the value into `bits`, the field's unit; false when it does not fit. `offset` is the place of the field,
 * measured like the value: a relative shape counts from there. */
bool field_insert(const struct raddle_shape *shape, uint64_t *bits, uint64_t offset, uint64_t value)
{
    value += (uint64_t)shape->bias - (shape->relative ? offset : 0);
    int64_t scaled = (int64_t)value >> shape->scale;
    bool checked = shape->range == RADDLE_RANGE_SIGNED || shape->range == RADDLE_RANGE_UNSIGNED;
    if (checked &&
        ((value & (((uint64_t)1 << shape->scale) - 1)) || !in_range(shape, scaled, width_of(shape))))
        return false;
    *bits = with_pieces(shape, *bits, (uint64_t)scaled);
    return true;
}

/* The same for a field at offset `at` in `code`. */
bool field_fill_pieces(const struct raddle_shape *shape, uint8_t *code, uint32_t at, uint64_t value)
{
    uint64_t bits = get(code + at, shape->unit);
    if (!field_insert(shape, &bits, at, value))
        return false;
    put(code + at, shape->unit, bits);
    return true;
}

/* Whether field_fill may ignore the pieces. */
bool field_is_word(const struct raddle_shape *shape)
{
    return shape->unit == 4 && width_of(shape) == 32 && shape->piece_count == 1 && !shape->scale &&
           shape->range != RADDLE_RANGE_UNSIGNED;
}

/* Whether the host's pieces lie within the unit and do not overlap. */
static bool shape_is_valid(const struct raddle_shape *shape)
{
    uint64_t taken = 0;
    bool valid = (shape->unit == 1 || shape->unit == 2 || shape->unit == 4 || shape->unit == 8) && shape->scale < 64 &&
                 shape->range <= RADDLE_RANGE_MODULO && shape->piece_count && shape->piece_count <= RADDLE_PIECES;
    for (uint32_t i = 0; valid && i < shape->piece_count; i++) {
        uint32_t at = shape->pieces[i].at, width = shape->pieces[i].width;
        valid = width && width <= 64 && at + width <= 8u * shape->unit;
        uint64_t mask = valid ? piece_bits(shape, i) : 0;
        valid = valid && !(taken & mask);
        taken |= mask;
    }
    return valid;
}

bool shapes_are_valid(const struct raddle_rules *rules)
{
    const struct raddle_chain *chain = &rules->chain;
    bool valid = rules->shape_count <= RADDLE_SHAPES && chain->shape < rules->shape_count;
    for (uint32_t i = 0; valid && i < rules->shape_count; i++)
        valid = shape_is_valid(&rules->shapes[i]);
    if (!valid)
        return false;
    const struct raddle_shape *jump = &rules->shapes[chain->shape];
    return jump->relative && (jump->unit == 2 || jump->unit == 4) && chain->span >= jump->unit &&
           chain->span <= RADDLE_MOST_SPAN && !(chain->span & (chain->span - 1));
}
