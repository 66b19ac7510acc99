// SPDX-License-Identifier: Apache-2.0
// Quicksort (Hoare's partition, middle pivot) of 32768 random words, new ones in each pass.
#include "bench.h"

#define COUNT 32768
static uint32_t values[COUNT];

static NOINLINE void quicksort(uint32_t *a, int low, int high) {
    while (low < high) {
        uint32_t pivot = a[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t swap = a[i];
                a[i++] = a[j];
                a[j--] = swap;
            }
        }
        // The smaller part by recursion, so that the stack stays short.
        if (j - low < high - i) {
            quicksort(a, low, j);
            low = i;
        } else {
            quicksort(a, i, high);
            high = j;
        }
    }
}

uint32_t kernel(void) {
    uint32_t state = 4, checksum = 0;
    for (unsigned pass_number = 0; pass_number < REPEATS; pass_number++) {
        for (unsigned i = 0; i < COUNT; i++)
            values[i] = next_random(&state);
        quicksort(values, 0, COUNT - 1);
        for (unsigned i = 0; i < COUNT; i++) {
            if (i && values[i - 1] > values[i])
                fail("pass %u: not in order at %u", pass_number, i);
            checksum = checksum * 31 + values[i];
        }
    }
    return checksum;
}
