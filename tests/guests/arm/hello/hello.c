// SPDX-License-Identifier: Apache-2.0
// One CPU, MMU off: prints and powers off. The first thing a new machine should run.
#include "guest.h"
GUEST_ENTRY

int main(void) {
    print("hello from the virt board\n");
    pass("midr=%08x mpidr=%08x", READ_CP15(0, c0, c0, 0), READ_CP15(0, c0, c0, 5));
}
