// SPDX-License-Identifier: Apache-2.0
// A mix of what mathematical libraries do: exp, log, sin, arc tangent and powers of random numbers, by reduction of the
// argument, a polynomial, and bits put together, and square roots.
#include "floats.h"

#define LN2 0.693147180559945309417232121458
#define HALF_PI 1.57079632679489661923132169164
#define COUNT 256

static inline uint64_t bits_of(double value) {
    union {
        double value;
        uint64_t bits;
    } both = {value};
    return both.bits;
}

static inline double of_bits(uint64_t bits) {
    union {
        uint64_t bits;
        double value;
    } both = {bits};
    return both.value;
}

static inline double polynomial(double x, const double *coefficients, int count) {
    double value = coefficients[count - 1];
    for (int i = count - 2; i >= 0; i--)
        value = value * x + coefficients[i];
    return value;
}

static inline int nearest(double x) { return (int)(x < 0 ? x - 0.5 : x + 0.5); }

// exp(k ln 2 + r) = 2^k exp(r), |r| <= ln 2 / 2, by Taylor's series.
static NOINLINE double exponential(double x) {
    static const double series[] = {
        1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880,
    };
    int k = nearest(x / LN2);
    return polynomial(x - k * LN2, series, 10) * of_bits((uint64_t)(k + 1023) << 52);
}

// log(2^k m) = k ln 2 + 2 artanh((m - 1) / (m + 1)), 1 <= m < 2. Of positive normal numbers.
static NOINLINE double logarithm(double x) {
    static const double series[] = {
        1.0, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19,
    };
    uint64_t bits = bits_of(x);
    double m = of_bits((bits & 0xfffffffffffffull) | 1023ull << 52), s = (m - 1) / (m + 1);
    return (int)((bits >> 52) - 1023) * LN2 + 2 * s * polynomial(s * s, series, 10);
}

// By quadrants, |r| <= pi / 4.
static NOINLINE double sine(double x) {
    static const double odd[] = {1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800};
    static const double even[] = {1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800};
    int quadrant = nearest(x / HALF_PI);
    double r = x - quadrant * HALF_PI;
    double value = quadrant & 1 ? polynomial(r * r, even, 6) : r * polynomial(r * r, odd, 6);
    return quadrant & 2 ? -value : value;
}

// arctan x = 2 arctan(x / (1 + sqrt(1 + x^2))), twice.
static NOINLINE double arc_tangent(double x) {
    static const double series[] = {1.0, -1.0 / 3, 1.0 / 5, -1.0 / 7, 1.0 / 9, -1.0 / 11, 1.0 / 13, -1.0 / 15};
    double inverted = x > 1 ? 1 / x : x;
    for (int i = 0; i < 2; i++)
        inverted = inverted / (1 + __builtin_sqrt(1 + inverted * inverted));
    double value = 4 * inverted * polynomial(inverted * inverted, series, 8);
    return x > 1 ? HALF_PI - value : value;
}

static NOINLINE double power(double x, double y) { return exponential(y * logarithm(x)); }

uint32_t kernel(void) {
    floats_on();
    static double x[COUNT];
    uint32_t state = 9, checksum = 0;
    for (unsigned pass_number = 0; pass_number < REPEATS; pass_number++) {
        for (int i = 0; i < COUNT; i++)
            x[i] = next_fraction(&state) * 20 + 0.001;
        double sum = 0;
        for (int i = 0; i < COUNT; i++)
            sum += sine(x[i]) + exponential(-x[i]) + logarithm(x[i]) + arc_tangent(x[i]) + power(x[i], 0.7) +
                   __builtin_sqrt(x[i]);
        checksum = add_bits(checksum, sum);
    }
    return checksum;
}
