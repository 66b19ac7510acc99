// SPDX-License-Identifier: Apache-2.0
// Sieve of Eratosthenes over the bytes of the numbers below 1 Mi.
#include "bench.h"

#define LIMIT 0x100000u
static uint8_t composite[LIMIT];

uint32_t kernel(void) {
    uint32_t checksum = 0;
    for (unsigned pass_number = 0; pass_number < REPEATS; pass_number++) {
        for (unsigned i = 0; i < LIMIT; i += 4)
            *(uint32_t *)&composite[i] = 0;
        for (unsigned i = 2; i * i < LIMIT; i++)
            if (!composite[i])
                for (unsigned j = i * i; j < LIMIT; j += i)
                    composite[j] = 1;
        uint32_t primes = 0;
        for (unsigned i = 2; i < LIMIT; i++)
            primes += !composite[i];
        checksum = checksum * 31 + primes;
    }
    return checksum;
}
