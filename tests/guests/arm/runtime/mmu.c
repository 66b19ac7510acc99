// SPDX-License-Identifier: Apache-2.0
// Identity map with short descriptors (ARM DDI 0406C, B3.5), caches, and the floating-point unit's switch.
#include "guest.h"

#define SCTLR_M (1u << 0)
#define SCTLR_C (1u << 2)
#define SCTLR_Z (1u << 11)
#define SCTLR_I (1u << 12)
#define SCTLR_TRE (1u << 28)
#define SCTLR_AFE (1u << 29)
#define ACTLR_SMP (1u << 6)
#define TTBR_WALK 0x4au // inner and outer write-back write-allocate, shareable

uint32_t level1_table[4096] __attribute__((section(".bss.tables"), aligned(0x4000)));

static void fill_table(void) {
    for (uint32_t mib = 0x080; mib < 0x0b0; mib++)
        level1_table[mib] = mib << 20 | SECTION_DEVICE;
    for (uint32_t mib = RAM_BASE >> 20; mib < 0x800; mib++)
        level1_table[mib] = mib << 20 | SECTION_NORMAL;
}

bool mmu_is_on(void) { return READ_CP15(0, c1, c0, 0) & SCTLR_M; }

void mmu_on(void) {
    if (!level1_table[RAM_BASE >> 20])
        fill_table();
    uint32_t actlr = READ_CP15(0, c1, c0, 1);
    if (!(actlr & ACTLR_SMP))
        WRITE_CP15(0, c1, c0, 1, actlr | ACTLR_SMP);
    WRITE_CP15(0, c2, c0, 2, 0);                                  // TTBCR: TTBR0 for all, short descriptors
    WRITE_CP15(0, c2, c0, 0, (uint32_t)level1_table | TTBR_WALK); // TTBR0
    WRITE_CP15(0, c3, c0, 0, 1);                                  // DACR: domain 0 is a client
    WRITE_CP15(0, c13, c0, 1, 0);                                 // CONTEXTIDR: ASID 0
    WRITE_CP15(0, c8, c7, 0, 0);                                  // TLBIALL
    WRITE_CP15(0, c7, c5, 0, 0);                                  // ICIALLU
    WRITE_CP15(0, c7, c5, 6, 0);                                  // BPIALL
    __asm__ volatile("dsb sy\n\tisb" ::: "memory");
    uint32_t sctlr = READ_CP15(0, c1, c0, 0);
    sctlr &= ~(SCTLR_TRE | SCTLR_AFE);
    WRITE_CP15(0, c1, c0, 0, sctlr | SCTLR_M | SCTLR_C | SCTLR_Z | SCTLR_I);
    isb();
}

void vfp_on(void) {
    WRITE_CP15(0, c1, c0, 2, READ_CP15(0, c1, c0, 2) | 0xf << 20); // CPACR: cp10 and cp11
    isb();
    __asm__ volatile(".fpu vfpv4\n\tvmsr fpexc, %0" ::"r"(1u << 30));
}
