// SPDX-License-Identifier: Apache-2.0
// One CPU, as the console leaves it: prints and halts. The first thing a new machine should run.
#include "guest.h"
GUEST_ENTRY

int main(void) {
    uint64_t extensions, generation;
    __asm__("amask %1, %0" : "=r"(extensions) : "r"(-1));
    __asm__("implver %0" : "=r"(generation));
    print("hello from the clipper board\n");
    pass("whami=%u amask=%llx implver=%llu", cpu_id(), ~extensions, generation);
}
