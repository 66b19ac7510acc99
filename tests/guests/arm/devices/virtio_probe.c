// SPDX-License-Identifier: Apache-2.0
// The 32 virtio-mmio slots of the board answer a probe: there is a slot, and no device in it. An abort fails the guest.
#include "guest.h"
GUEST_ENTRY

#define SLOT(number, offset) REGISTER(0x0a000000 + 0x200 * (number) + (offset))
#define SLOTS 32u

int main(void) {
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (SLOT(slot, 0) != 0x74726976 || SLOT(slot, 4) != 1 || SLOT(slot, 8) != 0)
            fail("slot %u: magic %08x version %u device %u", slot, SLOT(slot, 0), SLOT(slot, 4), SLOT(slot, 8));
    pass("slots=%u", SLOTS);
}
