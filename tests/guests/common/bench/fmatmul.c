// SPDX-License-Identifier: Apache-2.0
// Product of two 96 x 96 matrices of doubles; the product is the next pass's left factor, divided by its first element.
#include "floats.h"

#define N 96u
static double left[N][N], right[N][N], product[N][N];

uint32_t kernel(void) {
    floats_on();
    uint32_t state = 8, checksum = 0;
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++) {
            left[i][j] = next_fraction(&state);
            right[i][j] = next_fraction(&state);
        }
    for (unsigned pass_number = 0; pass_number < REPEATS; pass_number++) {
        for (unsigned i = 0; i < N; i++)
            for (unsigned j = 0; j < N; j++) {
                double sum = 0;
                for (unsigned k = 0; k < N; k++)
                    sum += left[i][k] * right[k][j];
                product[i][j] = sum;
            }
        for (unsigned i = 0; i < N; i++)
            for (unsigned j = 0; j < N; j++) {
                checksum = add_bits(checksum, product[i][j]);
                left[i][j] = product[i][j] / product[0][0];
            }
    }
    return checksum;
}
