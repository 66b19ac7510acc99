// SPDX-License-Identifier: Apache-2.0
// Mandelbrot set: 64 x 64 points of another part of the plane in each pass, at most 100 iterations for each.
#include "floats.h"

#define SIDE 64
#define ITERATIONS 100u

static NOINLINE unsigned iterations(double cr, double ci) {
    double zr = 0, zi = 0, square_r = 0, square_i = 0;
    unsigned n = 0;
    while (n < ITERATIONS && square_r + square_i <= 4) {
        zi = 2 * zr * zi + ci;
        zr = square_r - square_i + cr;
        square_r = zr * zr;
        square_i = zi * zi;
        n++;
    }
    return n;
}

uint32_t kernel(void) {
    floats_on();
    uint32_t state = 7, checksum = 0;
    for (unsigned pass_number = 0; pass_number < REPEATS; pass_number++) {
        double left = next_fraction(&state) * 0.5 - 2, low = next_fraction(&state) * 0.5 - 1.5;
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                checksum = checksum * 31 + iterations(left + x * (2.5 / SIDE), low + y * (2.5 / SIDE));
    }
    return checksum;
}
