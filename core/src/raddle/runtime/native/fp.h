/* SPDX-License-Identifier: Apache-2.0 */
/* The floating-point helpers: X(name, expression). Floats are bit patterns; `e` is the vCPU's environment (the header
 * fields fp_rules, fp_rounding, fp_flush, fp_default_nan, and fp_flags, whose flags are sticky). raddle.ir.floats
 * defines each operation, to the last flag.
 *
 *   compare         0 less, 1 equal, 2 greater, 3 unordered
 *   to int          a1: signed | rounding << 1 | fraction << 8 | result's bits << 16
 *   from int        a1: signed | rounding << 1 | fraction << 8 | operand's bits << 16
 *                   rounding: 0 nearest, 1 up, 2 down, 3 zero, 4 the environment's
 *   f16             a1: not 0 for the alternative format, which has no infinities and NaNs but one more exponent;
 *                   halves are never flushed to zero */
#pragma once

#define RADDLE_FP_HELPERS(X)                                                                                           \
    X(fp_add32, add(e, a0, a1, F32, false))                                                                            \
    X(fp_add64, add(e, a0, a1, F64, false))                                                                            \
    X(fp_sub32, add(e, a0, a1, F32, true))                                                                             \
    X(fp_sub64, add(e, a0, a1, F64, true))                                                                             \
    X(fp_mul32, multiply(e, a0, a1, F32))                                                                              \
    X(fp_mul64, multiply(e, a0, a1, F64))                                                                              \
    X(fp_div32, divide(e, a0, a1, F32))                                                                                \
    X(fp_div64, divide(e, a0, a1, F64))                                                                                \
    X(fp_sqrt32, square_root(e, a0, F32))                                                                              \
    X(fp_sqrt64, square_root(e, a0, F64))                                                                              \
    X(fp_fma32, multiply_add(e, a0, a1, a2, F32))                                                                      \
    X(fp_fma64, multiply_add(e, a0, a1, a2, F64))                                                                      \
    X(fp_compare32, compare(e, a0, a1, F32, false))                                                                    \
    X(fp_compare64, compare(e, a0, a1, F64, false))                                                                    \
    X(fp_compare_signalling32, compare(e, a0, a1, F32, true))                                                          \
    X(fp_compare_signalling64, compare(e, a0, a1, F64, true))                                                          \
    X(fp_f32_to_f64, convert(e, a0, F32, F64))                                                                         \
    X(fp_f64_to_f32, convert(e, a0, F64, F32))                                                                         \
    X(fp_f16_to_f32, convert(e, a0, (uint32_t)a1 ? F16_ALTERNATIVE : F16, F32))                                        \
    X(fp_f32_to_f16, convert(e, a0, F32, (uint32_t)a1 ? F16_ALTERNATIVE : F16))                                        \
    X(fp_f32_to_int, to_int(e, a0, F32, a1))                                                                           \
    X(fp_f64_to_int, to_int(e, a0, F64, a1))                                                                           \
    X(fp_int_to_f32, from_int(e, a0, F32, a1))                                                                         \
    X(fp_int_to_f64, from_int(e, a0, F64, a1))
