/* SPDX-License-Identifier: Apache-2.0 */
/* Floating point by integer arithmetic, with exact results and flags; fp.h lists the operations, raddle.ir.floats
 * defines them.
 *
 * A finite operand is (-1)**sign * mantissa * 2**exponent; an operation computes the exact result, or one whose lowest
 * bit says that more bits follow ("sticky"), and rounds it once. Where the host's arithmetic must give the same result
 * and no new flag, that is used: see `ordinary`. */
#include "fp.h"
#include "generated.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef unsigned __int128 u128;

enum { INVALID = 1, DIVIDE_BY_ZERO = 2, OVERFLOW = 4, UNDERFLOW = 8, INEXACT = 16, INPUT_DENORMAL = 128 };
enum { NEAREST, UP, DOWN, ZERO, CURRENT };
enum { LESS, EQUAL, GREATER, UNORDERED };
enum { SIGNALLING_FIRST, FIRST, LAST };
/* fp_rules, which hold one of the three above, too */
enum { TININESS_AFTER_ROUNDING = 1, NAN_SHIFT = 1, NAN_MASK = 3, NEGATIVE_DEFAULT_NAN = 8 };
enum kind { FINITE, INFINITE, QUIET, SIGNALLING };

/* Formats are compile-time constants: every helper is compiled for its own format. */
struct format {
    int exponent_bits, fraction_bits;
    bool alternative; /* the greatest exponent is an ordinary one */
};
#define F16 ((struct format){5, 10, false})
#define F16_ALTERNATIVE ((struct format){5, 10, true})
#define F32 ((struct format){8, 23, false})
#define F64 ((struct format){11, 52, false})

struct number {
    uint64_t mantissa;
    int exponent;
    bool sign;
    enum kind kind;
};

typedef struct raddle_cpu_header environment;

/* -- formats ------------------------------------------------------------------------------------------------------ */

INLINE int width(struct format f) { return 1 + f.exponent_bits + f.fraction_bits; }
INLINE int bias(struct format f) { return (1 << (f.exponent_bits - 1)) - 1; }
INLINE int exponent_max(struct format f) { return (1 << f.exponent_bits) - 1; }
INLINE uint64_t low_bits(int count) { return ((uint64_t)1 << count) - 1; }
INLINE uint64_t fraction_mask(struct format f) { return low_bits(f.fraction_bits); }
INLINE uint64_t quiet_bit(struct format f) { return (uint64_t)1 << (f.fraction_bits - 1); }
INLINE uint64_t zero(bool sign, struct format f) { return (uint64_t)sign << (width(f) - 1); }
INLINE uint64_t infinity(bool sign, struct format f)
{
    return zero(sign, f) | (uint64_t)exponent_max(f) << f.fraction_bits;
}
INLINE int exponent_field(uint64_t a, struct format f) { return (int)(a >> f.fraction_bits) & exponent_max(f); }

INLINE bool is_zero(struct number x) { return x.kind == FINITE && !x.mantissa; }
INLINE bool is_nan(struct number x) { return x.kind >= QUIET; }

INLINE uint64_t default_nan(const environment *e, struct format f)
{
    return infinity(e->fp_rules & NEGATIVE_DEFAULT_NAN, f) | quiet_bit(f);
}

INLINE uint64_t invalid(environment *e, struct format f)
{
    e->fp_flags |= INVALID;
    return default_nan(e, f);
}

INLINE struct number unpack(environment *e, uint64_t a, struct format f)
{
    int exponent = exponent_field(a, f);
    uint64_t fraction = a & fraction_mask(f);
    struct number x = {.sign = a >> (width(f) - 1) & 1, .exponent = exponent - bias(f) - f.fraction_bits};
    if (exponent == exponent_max(f) && !f.alternative) {
        x.kind = !fraction ? INFINITE : fraction & quiet_bit(f) ? QUIET : SIGNALLING;
    } else if (exponent) {
        x.mantissa = fraction | quiet_bit(f) << 1;
    } else if (fraction && e->fp_flush && f.fraction_bits != F16.fraction_bits) {
        e->fp_flags |= INPUT_DENORMAL;
    } else {
        x.mantissa = fraction;
        x.exponent++;
    }
    return x;
}

/* -- rounding ----------------------------------------------------------------------------------------------------- */

INLINE int bit_length(u128 value) /* of a positive value */
{
    uint64_t high = (uint64_t)(value >> 64);
    return high ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)value);
}

/* value >> count; the lowest bit also stands for the bits lost. */
INLINE u128 shift_sticky(u128 value, int count)
{
    if (count > 127)
        return value != 0;
    return value >> count | ((value & (((u128)1 << count) - 1)) != 0);
}

/* Whether a magnitude whose last kept bit is `odd` grows when `remainder` is cut off. */
INLINE bool increments(uint32_t rounding, bool sign, bool odd, u128 remainder, u128 half)
{
    if (rounding == NEAREST)
        return remainder > half || (remainder == half && odd);
    return rounding != ZERO && remainder && sign == (rounding == DOWN);
}

/* Whether mantissa, rounded to the bits of a normal number, gets one bit longer. */
INLINE bool rounds_up_to_a_power(bool sign, u128 mantissa, struct format f, uint32_t rounding)
{
    int lost = bit_length(mantissa) - 1 - f.fraction_bits;
    if (lost <= 0 || ~(uint64_t)(mantissa >> lost) & low_bits(f.fraction_bits + 1))
        return false;
    return increments(rounding, sign, true, mantissa & (((u128)1 << lost) - 1), (u128)1 << (lost - 1));
}

/* The bits of (-1)**sign * mantissa * 2**exponent; mantissa is positive, its lowest bit may be sticky. */
INLINE uint64_t round_to(environment *e, bool sign, u128 mantissa, int exponent, struct format f, uint32_t rounding)
{
    int least = 1 - bias(f), leading = exponent + bit_length(mantissa) - 1;
    bool below = leading < least, tiny = below;
    if (leading == least - 1 && e->fp_rules & TININESS_AFTER_ROUNDING)
        tiny = !rounds_up_to_a_power(sign, mantissa, f, rounding);
    if (tiny && e->fp_flush && f.fraction_bits != F16.fraction_bits) {
        e->fp_flags |= UNDERFLOW;
        return zero(sign, f);
    }
    int unit = (below ? least : leading) - f.fraction_bits, lost = unit - exponent;
    uint64_t kept;
    bool inexact = false;
    if (lost > 0) {
        if (lost > 125) { /* less than half of the least number; what matters is that it is not 0 */
            mantissa = 1;
            lost = 2;
        }
        kept = (uint64_t)(mantissa >> lost);
        u128 remainder = mantissa & (((u128)1 << lost) - 1);
        inexact = remainder != 0;
        kept += increments(rounding, sign, kept & 1, remainder, (u128)1 << (lost - 1));
    } else {
        kept = (uint64_t)mantissa << -lost;
    }
    if (kept >> (f.fraction_bits + 1)) {
        kept >>= 1;
        unit++;
    }
    int biased = kept >> f.fraction_bits ? unit + f.fraction_bits + bias(f) : 0;
    if (biased >= exponent_max(f) + f.alternative) {
        if (f.alternative) {
            e->fp_flags |= INVALID;
            return zero(sign, f) | low_bits(width(f) - 1);
        }
        e->fp_flags |= OVERFLOW | INEXACT;
        bool to_infinity = rounding == NEAREST || (rounding != ZERO && sign == (rounding == DOWN));
        return infinity(sign, f) - !to_infinity;
    }
    if (inexact)
        e->fp_flags |= tiny ? INEXACT | UNDERFLOW : INEXACT;
    return zero(sign, f) | (uint64_t)biased << f.fraction_bits | (kept & fraction_mask(f));
}

/* -- NaNs --------------------------------------------------------------------------------------------------------- */

/* The NaN that operands of which at least one is a NaN yield, as fp_rules say. */
INLINE uint64_t choose_nan(environment *e, const uint64_t *bits, const struct number *x, int count, struct format f)
{
    uint32_t rule = e->fp_rules >> NAN_SHIFT & NAN_MASK;
    int chosen = -1;
    for (int i = count - 1; i >= 0; i--) {
        if (!is_nan(x[i]))
            continue;
        if (x[i].kind == SIGNALLING)
            e->fp_flags |= INVALID;
        if (chosen < 0 || rule == FIRST ||
            (rule == SIGNALLING_FIRST && (x[i].kind == SIGNALLING || x[chosen].kind == QUIET)))
            chosen = i;
    }
    return e->fp_default_nan ? default_nan(e, f)
                             : (bits[chosen] & low_bits(width(f) - 1)) | zero(x[chosen].sign, f) | quiet_bit(f);
}

INLINE uint64_t nan_of_two(environment *e, uint64_t a, struct number x, uint64_t b, struct number y, struct format f)
{
    return choose_nan(e, (uint64_t[]){a, b}, (struct number[]){x, y}, 2, f);
}

/* -- the host's arithmetic ---------------------------------------------------------------------------------------- */

/* With inexact already raised and rounding to nearest, an operation on normal numbers whose result is a normal number
 * not next to the denormals is what the host computes, and raises nothing new. */
INLINE bool settled(const environment *e) { return e->fp_flags & INEXACT && e->fp_rounding == NEAREST; }

/* Whether `a` is a normal number; as a result: with an exponent of `least` 2, above the least one. */
INLINE bool ordinary(uint64_t a, struct format f, int least)
{
    int exponent = exponent_field(a, f);
    return exponent >= least && exponent < exponent_max(f);
}

INLINE float as_float(uint64_t a)
{
    uint32_t bits = (uint32_t)a;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE double as_double(uint64_t a)
{
    double value;
    memcpy(&value, &a, sizeof value);
    return value;
}

INLINE uint64_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE uint64_t double_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Returns the host's result for `single` or `twice`, by format, when it must be right. */
#define TRY_HOST(e, f, operands_ordinary, single, twice)                                                               \
    if (settled(e) && (operands_ordinary)) {                                                                           \
        uint64_t host_result = (f).fraction_bits == 23 ? float_bits(single) : double_bits(twice);                      \
        if (ordinary(host_result, f, 2))                                                                               \
            return host_result;                                                                                        \
    }

/* -- operations --------------------------------------------------------------------------------------------------- */

/* x * 2**ex + y * 2**ey for mantissas of up to 126 bits. */
INLINE uint64_t sum(environment *e, bool sx, u128 x, int ex, bool sy, u128 y, int ey, struct format f)
{
    if (!x && !y)
        return zero(sx == sy ? sx : e->fp_rounding == DOWN, f);
    if (!y)
        return round_to(e, sx, x, ex, f, e->fp_rounding);
    if (!x)
        return round_to(e, sy, y, ey, f, e->fp_rounding);
    /* Both with bit 125 as their highest. The shift below loses bits only if no more than one bit cancels. */
    int up_x = 126 - bit_length(x), up_y = 126 - bit_length(y);
    x <<= up_x, ex -= up_x;
    y <<= up_y, ey -= up_y;
    if (ex < ey || (ex == ey && x < y)) {
        u128 m = x;
        x = y, y = m;
        int t = ex;
        ex = ey, ey = t;
        bool s = sx;
        sx = sy, sy = s;
    }
    y = shift_sticky(y, ex - ey);
    u128 total = sx == sy ? x + y : x - y;
    return total ? round_to(e, sx, total, ex, f, e->fp_rounding) : zero(e->fp_rounding == DOWN, f);
}

INLINE uint64_t add(environment *e, uint64_t a, uint64_t b, struct format f, bool subtract)
{
    TRY_HOST(e, f, ordinary(a, f, 1) && ordinary(b, f, 1),
             subtract ? as_float(a) - as_float(b) : as_float(a) + as_float(b),
             subtract ? as_double(a) - as_double(b) : as_double(a) + as_double(b))
    struct number x = unpack(e, a, f), y = unpack(e, b, f);
    if (is_nan(x) || is_nan(y))
        return nan_of_two(e, a, x, b, y, f);
    y.sign ^= subtract;
    if (x.kind == INFINITE && y.kind == INFINITE && x.sign != y.sign)
        return invalid(e, f);
    if (x.kind == INFINITE || y.kind == INFINITE)
        return infinity(x.kind == INFINITE ? x.sign : y.sign, f);
    return sum(e, x.sign, x.mantissa, x.exponent, y.sign, y.mantissa, y.exponent, f);
}

INLINE uint64_t multiply(environment *e, uint64_t a, uint64_t b, struct format f)
{
    TRY_HOST(e, f, ordinary(a, f, 1) && ordinary(b, f, 1), as_float(a) * as_float(b), as_double(a) * as_double(b))
    struct number x = unpack(e, a, f), y = unpack(e, b, f);
    if (is_nan(x) || is_nan(y))
        return nan_of_two(e, a, x, b, y, f);
    bool sign = x.sign ^ y.sign;
    if ((x.kind == INFINITE && is_zero(y)) || (is_zero(x) && y.kind == INFINITE))
        return invalid(e, f);
    if (x.kind == INFINITE || y.kind == INFINITE)
        return infinity(sign, f);
    if (is_zero(x) || is_zero(y))
        return zero(sign, f);
    return round_to(e, sign, (u128)x.mantissa * y.mantissa, x.exponent + y.exponent, f, e->fp_rounding);
}

/* The same number with the highest bit where a normal number's is. */
INLINE struct number normalised(struct number x, struct format f)
{
    int up = f.fraction_bits + 1 - bit_length(x.mantissa);
    x.mantissa <<= up;
    x.exponent -= up;
    return x;
}

INLINE uint64_t divide(environment *e, uint64_t a, uint64_t b, struct format f)
{
    TRY_HOST(e, f, ordinary(a, f, 1) && ordinary(b, f, 1), as_float(a) / as_float(b), as_double(a) / as_double(b))
    struct number x = unpack(e, a, f), y = unpack(e, b, f);
    if (is_nan(x) || is_nan(y))
        return nan_of_two(e, a, x, b, y, f);
    bool sign = x.sign ^ y.sign;
    if ((x.kind == INFINITE && y.kind == INFINITE) || (is_zero(x) && is_zero(y)))
        return invalid(e, f);
    if (x.kind == INFINITE)
        return infinity(sign, f);
    if (is_zero(y)) {
        e->fp_flags |= DIVIDE_BY_ZERO;
        return infinity(sign, f);
    }
    if (is_zero(x) || y.kind == INFINITE)
        return zero(sign, f);
    x = normalised(x, f);
    y = normalised(y, f);
    /* a quotient of at least fraction_bits + 3 bits, and a sticky bit */
    int scale = f.fraction_bits + 3;
    u128 dividend = (u128)x.mantissa << scale, quotient = dividend / y.mantissa;
    bool more = quotient * y.mantissa != dividend;
    return round_to(e, sign, quotient << 1 | more, x.exponent - y.exponent - scale - 1, f, e->fp_rounding);
}

INLINE uint64_t square_root(environment *e, uint64_t a, struct format f)
{
    TRY_HOST(e, f, ordinary(a, f, 1) && !(a >> (width(f) - 1) & 1), __builtin_sqrtf(as_float(a)),
             __builtin_sqrt(as_double(a)))
    struct number x = unpack(e, a, f);
    if (is_nan(x))
        return choose_nan(e, &a, &x, 1, f);
    if (is_zero(x))
        return zero(x.sign, f);
    if (x.sign)
        return invalid(e, f);
    if (x.kind == INFINITE)
        return infinity(false, f);
    x = normalised(x, f);
    /* a root of at least fraction_bits + 3 bits, from an even exponent; the host's is off by a few units */
    int scale = f.fraction_bits + 5 + ((x.exponent + f.fraction_bits + 5) & 1);
    u128 square = (u128)x.mantissa << scale;
    uint64_t root = (uint64_t)__builtin_sqrt((double)square);
    while ((u128)root * root > square)
        root--;
    while ((u128)(root + 1) * (root + 1) <= square)
        root++;
    bool more = (u128)root * root != square;
    return round_to(e, false, (u128)root << 1 | more, (x.exponent - scale) / 2 - 1, f, e->fp_rounding);
}

INLINE uint64_t multiply_add(environment *e, uint64_t a, uint64_t b, uint64_t c, struct format f)
{
    TRY_HOST(e, f, ordinary(a, f, 1) && ordinary(b, f, 1) && ordinary(c, f, 1),
             fmaf(as_float(a), as_float(b), as_float(c)), fma(as_double(a), as_double(b), as_double(c)))
    struct number z = unpack(e, c, f), x = unpack(e, a, f), y = unpack(e, b, f);
    bool sign = x.sign ^ y.sign, infinite = x.kind == INFINITE || y.kind == INFINITE;
    bool no_product = (x.kind == INFINITE && is_zero(y)) || (is_zero(x) && y.kind == INFINITE);
    if (is_nan(x) || is_nan(y) || is_nan(z)) {
        if (no_product && z.kind != SIGNALLING)
            return invalid(e, f);
        return choose_nan(e, (uint64_t[]){c, a, b}, (struct number[]){z, x, y}, 3, f);
    }
    if (no_product || (infinite && z.kind == INFINITE && sign != z.sign))
        return invalid(e, f);
    if (infinite || z.kind == INFINITE)
        return infinity(infinite ? sign : z.sign, f);
    u128 product = (u128)x.mantissa * y.mantissa;
    return sum(e, sign, product, x.exponent + y.exponent, z.sign, z.mantissa, z.exponent, f);
}

/* Formats are sign and magnitude: an integer that sorts as the number does. */
INLINE int64_t ordinal(uint64_t a, struct number x, struct format f)
{
    int64_t magnitude = is_zero(x) ? 0 : (int64_t)(a & low_bits(width(f) - 1));
    return x.sign ? -magnitude : magnitude;
}

INLINE uint64_t compare(environment *e, uint64_t a, uint64_t b, struct format f, bool signalling)
{
    struct number x = unpack(e, a, f), y = unpack(e, b, f);
    if (is_nan(x) || is_nan(y)) {
        if (signalling || x.kind == SIGNALLING || y.kind == SIGNALLING)
            e->fp_flags |= INVALID;
        return UNORDERED;
    }
    int64_t left = ordinal(a, x, f), right = ordinal(b, y, f);
    return left == right ? EQUAL : left < right ? LESS : GREATER;
}

INLINE uint64_t convert(environment *e, uint64_t a, struct format source, struct format target)
{
    struct number x = unpack(e, a, source);
    if (is_nan(x)) {
        if (x.kind == SIGNALLING || target.alternative)
            e->fp_flags |= INVALID;
        if (target.alternative)
            return zero(x.sign, target);
        if (e->fp_default_nan)
            return default_nan(e, target);
        uint64_t payload = a & (quiet_bit(source) - 1);
        int narrowed = source.fraction_bits - target.fraction_bits;
        payload = narrowed >= 0 ? payload >> narrowed : payload << -narrowed;
        return infinity(x.sign, target) | quiet_bit(target) | payload;
    }
    if (x.kind == INFINITE && target.alternative) {
        e->fp_flags |= INVALID;
        return zero(x.sign, target) | low_bits(width(target) - 1);
    }
    if (x.kind == INFINITE)
        return infinity(x.sign, target);
    if (is_zero(x))
        return zero(x.sign, target);
    return round_to(e, x.sign, x.mantissa, x.exponent, target, e->fp_rounding);
}

INLINE uint32_t rounding_of(const environment *e, uint64_t how)
{
    uint32_t rounding = how >> 1 & 7;
    return rounding == CURRENT ? e->fp_rounding : rounding;
}

INLINE uint64_t to_int(environment *e, uint64_t a, struct format f, uint64_t how)
{
    struct number x = unpack(e, a, f);
    bool is_signed = how & 1;
    int exponent = x.exponent + (how >> 8 & 0xff), bits = how >> 16 & 0xff;
    if (is_nan(x)) {
        e->fp_flags |= INVALID;
        return 0;
    }
    /* the greatest magnitude of this sign */
    u128 limit = is_signed ? ((u128)1 << (bits - 1)) - !x.sign : x.sign ? 0 : ((u128)1 << bits) - 1;
    u128 magnitude = x.mantissa;
    bool inexact = false;
    if (x.kind == INFINITE || exponent > 64) {
        magnitude <<= 64;
    } else if (exponent >= 0) {
        magnitude <<= exponent;
    } else {
        int lost = -exponent;
        if (lost > 64) { /* less than a half; what matters is whether it is 0 */
            magnitude = magnitude != 0;
            lost = 2;
        }
        u128 remainder = magnitude & (((u128)1 << lost) - 1);
        inexact = remainder != 0;
        magnitude >>= lost;
        magnitude += increments(rounding_of(e, how), x.sign, magnitude & 1, remainder, (u128)1 << (lost - 1));
    }
    if (magnitude > limit || x.kind == INFINITE) {
        e->fp_flags |= INVALID;
        magnitude = limit;
    } else if (inexact) {
        e->fp_flags |= INEXACT;
    }
    return x.sign ? -(uint64_t)magnitude : (uint64_t)magnitude;
}

INLINE uint64_t from_int(environment *e, uint64_t a, struct format f, uint64_t how)
{
    int unused = 64 - (how >> 16 & 0xff);
    a <<= unused;
    bool sign = how & 1 && a >> 63;
    uint64_t magnitude = (sign ? -a : a) >> unused;
    if (!magnitude)
        return 0;
    return round_to(e, sign, magnitude, -(int)(how >> 8 & 0xff), f, rounding_of(e, how));
}

/* -- the helpers -------------------------------------------------------------------------------------------------- */

#define DEFINE(name, expression)                                                                                       \
    uint64_t name(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);                                      \
    uint64_t name(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)                                       \
    {                                                                                                                  \
        environment *e = (environment *)((char *)env - RADDLE_HEADER_SIZE);                                            \
        (void)a1, (void)a2, (void)a3;                                                                                  \
        return expression;                                                                                             \
    }
RADDLE_FP_HELPERS(DEFINE)
