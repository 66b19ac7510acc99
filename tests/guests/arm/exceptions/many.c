// SPDX-License-Identifier: Apache-2.0
// More than a million exceptions of each kind at one place, and each returns: a guest that gets on.
#include "guest.h"
GUEST_ENTRY

#define MANY 1100000u

__asm__(".align 5\n"
        "returning_vectors:\n"
        "        b .\n"
        "        movs pc, lr\n"       // undefined instruction: to the next one
        "        movs pc, lr\n"       // SVC
        "        b .\n"
        "        subs pc, lr, #4\n"   // data abort: to the next one
        "        b .\n"
        "        b .\n"
        "        b .\n");
extern char returning_vectors[];

int main(void) {
    WRITE_CP15(0, c12, c0, 0, returning_vectors);
    isb();
    for (unsigned i = 0; i < MANY; i++)
        __asm__ volatile("svc #0" ::: "lr", "cc", "memory");
    for (unsigned i = 0; i < MANY; i++)
        __asm__ volatile(".inst 0xe7f000f0" ::: "lr", "cc", "memory");
    for (unsigned i = 0; i < MANY; i++)
        __asm__ volatile("ldr r0, [%0]" ::"r"(0x20000000) : "r0", "lr", "cc", "memory");
    pass("exceptions=%u", 3 * MANY);
}
