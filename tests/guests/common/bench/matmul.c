// SPDX-License-Identifier: Apache-2.0
// Product of two 96 x 96 matrices of 32-bit integers; the product is the next pass's left factor.
#include "bench.h"

#define N 96u
static uint32_t left[N][N], right[N][N], product[N][N];

uint32_t kernel(void) {
    uint32_t state = 3, checksum = 0;
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++) {
            left[i][j] = next_random(&state) >> 16;
            right[i][j] = next_random(&state) >> 16;
        }
    for (unsigned pass_number = 0; pass_number < REPEATS; pass_number++) {
        for (unsigned i = 0; i < N; i++)
            for (unsigned j = 0; j < N; j++) {
                uint32_t sum = 0;
                for (unsigned k = 0; k < N; k++)
                    sum += left[i][k] * right[k][j];
                product[i][j] = sum;
            }
        for (unsigned i = 0; i < N; i++)
            for (unsigned j = 0; j < N; j++) {
                checksum = checksum * 31 + product[i][j];
                left[i][j] = product[i][j] >> 3;
            }
    }
    return checksum;
}
