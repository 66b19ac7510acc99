// SPDX-License-Identifier: Apache-2.0
// Aborts, permissions, address spaces and address translation with long descriptors (LPAE), on one CPU; lines and
// verdict as in exceptions.c (ARM DDI 0406C, B3.6, B3.13.4).
#include "snippets.h"
GUEST_ENTRY

// Fault status (long format), with the LPAE bit.
#define LONG_FORMAT 0x200u
#define FS_TRANSLATION(level) (LONG_FORMAT | 0x04u | (level))
#define FS_ACCESS_FLAG(level) (LONG_FORMAT | 0x08u | (level))
#define FS_PERMISSION(level) (LONG_FORMAT | 0x0cu | (level))
#define FS_ALIGNMENT (LONG_FORMAT | 0x21u)
#define FS_DEBUG (LONG_FORMAT | 0x22u)
#define FS_EXTERNAL (LONG_FORMAT | 0x10u)
#define WNR 0x800u

// Descriptors.
typedef uint64_t Descriptor;
#define TABLE 3ull
#define BLOCK 1ull
#define PAGE_ENTRY 3ull
#define NORMAL (0ull << 2 | 3ull << 8) // MAIR attribute 0, inner shareable
#define DEVICE (1ull << 2 | 1ull << 54)
#define AP(ap) ((uint64_t)(ap) << 6) // AP[2:1]: 0 privileged, 1 all, 2 privileged read-only, 3 read-only
#define AF (1ull << 10)
#define NOT_GLOBAL (1ull << 11)
#define PXN (1ull << 53)
#define XN (1ull << 54)
#define TABLE_PXN (1ull << 59)
#define TABLE_XN (1ull << 60)
#define TABLE_AP(ap) ((uint64_t)(ap) << 61) // 1: not for USR mode, 2: read-only
#define RAM_ATTRIBUTES (NORMAL | AP(1) | AF)

static Descriptor level1[4] ALIGNED(32);
static Descriptor level2_devices[512] ALIGNED(4096), level2_ram[512] ALIGNED(4096);
static Descriptor level3[512] ALIGNED(4096), level3_restricted[512] ALIGNED(4096);
static uint32_t frames[32][1024] ALIGNED(4096);

#define WINDOW 0x70000000u
#define BLOCK_AT(n) (WINDOW + ((n) << 21))
#define PAGE(n) (WINDOW + ((n) << 12))
#define GIGABYTE_BLOCK 0x80000000u
#define NO_GIGABYTE 0xc0000000u
enum { READ_WRITE, INVALID, READ_ONLY, PRIVILEGED, PRIVILEGED_READ_ONLY, NO_ACCESS_FLAG, NO_EXECUTE, NO_PRIVILEGED_EXECUTE,
       CODE, SWITCHED = 12, GLOBAL = 13, RESERVED = 14 };
enum { PAGES_BLOCK, INVALID_BLOCK, READ_ONLY_BLOCK, PRIVILEGED_BLOCK, NO_EXECUTE_BLOCK, NO_ACCESS_FLAG_BLOCK,
       NO_USER_TABLE, READ_ONLY_TABLE, NO_EXECUTE_TABLE, NOTHING_THERE };

static void flush(void) {
    dsb();
    WRITE_CP15(0, c8, c7, 0, 0); // TLBIALL
    WRITE_CP15(0, c7, c5, 0, 0); // ICIALLU
    dsb();
    isb();
}

static void set_ttbr0(uint32_t asid) {
    uint64_t ttbr = (uint64_t)asid << 48 | (uint32_t)level1;
    __asm__ volatile("mcrr p15, 0, %Q0, %R0, c2\n\tisb" ::"r"(ttbr) : "memory");
}

static void build_tables(void) {
    for (unsigned i = 0; i < 32; i++)
        for (unsigned j = 0; j < 1024; j++)
            frames[i][j] = i << 24 | j << 2 | 0x00a00000;
    level1[0] = (uint32_t)level2_devices | TABLE;
    level1[1] = (uint32_t)level2_ram | TABLE;
    level1[2] = RAM_BASE | BLOCK | RAM_ATTRIBUTES;
    for (uint32_t i = 0x08000000 >> 21; i < 0x0b000000 >> 21; i++)
        level2_devices[i] = (uint64_t)i << 21 | BLOCK | DEVICE | AP(0) | AF;
    for (uint32_t i = 0; i < 128; i++)
        level2_ram[i] = (RAM_BASE + (i << 21)) | BLOCK | RAM_ATTRIBUTES;
    Descriptor *window = &level2_ram[(WINDOW - RAM_BASE) >> 21];
    window[PAGES_BLOCK] = (uint32_t)level3 | TABLE;
    window[READ_ONLY_BLOCK] = RAM_BASE | BLOCK | NORMAL | AP(3) | AF;
    window[PRIVILEGED_BLOCK] = RAM_BASE | BLOCK | NORMAL | AP(0) | AF;
    window[NO_EXECUTE_BLOCK] = RAM_BASE | BLOCK | RAM_ATTRIBUTES | XN;
    window[NO_ACCESS_FLAG_BLOCK] = RAM_BASE | BLOCK | NORMAL | AP(1);
    window[NO_USER_TABLE] = (uint32_t)level3_restricted | TABLE | TABLE_AP(1);
    window[READ_ONLY_TABLE] = (uint32_t)level3_restricted | TABLE | TABLE_AP(2);
    window[NO_EXECUTE_TABLE] = (uint32_t)level3_restricted | TABLE | TABLE_XN;
    window[NOTHING_THERE] = 0x0b000000 | BLOCK | DEVICE | AP(1) | AF;
    level3_restricted[0] = (uint32_t)frames[20] | PAGE_ENTRY | RAM_ATTRIBUTES;
    level3[READ_WRITE] = (uint32_t)frames[0] | PAGE_ENTRY | RAM_ATTRIBUTES;
    level3[READ_ONLY] = (uint32_t)frames[1] | PAGE_ENTRY | NORMAL | AP(3) | AF;
    level3[PRIVILEGED] = (uint32_t)frames[2] | PAGE_ENTRY | NORMAL | AP(0) | AF;
    level3[PRIVILEGED_READ_ONLY] = (uint32_t)frames[3] | PAGE_ENTRY | NORMAL | AP(2) | AF;
    level3[NO_ACCESS_FLAG] = (uint32_t)frames[4] | PAGE_ENTRY | NORMAL | AP(1);
    level3[NO_EXECUTE] = (uint32_t)frames[5] | PAGE_ENTRY | RAM_ATTRIBUTES | XN;
    level3[NO_PRIVILEGED_EXECUTE] = (uint32_t)frames[6] | PAGE_ENTRY | RAM_ATTRIBUTES | PXN;
    level3[CODE] = (uint32_t)frames[7] | PAGE_ENTRY | RAM_ATTRIBUTES;
    level3[RESERVED] = (uint32_t)frames[8] | BLOCK | RAM_ATTRIBUTES; // 0b01 is reserved at level 3
    frames[6][0] = frames[7][0] = 0xe12fff1e;                        // bx lr
}

static void mmu_on_long(void) {
    WRITE_CP15(0, c2, c0, 2, 0x80003500); // TTBCR: EAE, TTBR0 for all, walks write-back, inner shareable
    WRITE_CP15(0, c10, c2, 0, 0x000004ff); // MAIR0: 0 write-back, 1 device
    WRITE_CP15(0, c10, c2, 1, 0);
    set_ttbr0(0);
    flush();
    WRITE_CP15(0, c1, c0, 0, READ_CP15(0, c1, c0, 0) | 0x1805); // M, C, Z, I
    isb();
}

static void fetch(const char *name, uint32_t mode, uint32_t target, uint32_t status) {
    trial(name, a_jump, mode, target, 0, EXPECT_PREFETCH(status, target));
    value(" lr", record.lr, target + 4);
}

static void prefetch_aborts(void) {
    fetch("fetch-translation-1", MODE_SYS, NO_GIGABYTE + 0x10, FS_TRANSLATION(1));
    fetch("fetch-translation-2", MODE_SYS, BLOCK_AT(INVALID_BLOCK), FS_TRANSLATION(2));
    fetch("fetch-translation-3", MODE_USR, PAGE(INVALID), FS_TRANSLATION(3));
    fetch("fetch-reserved-3", MODE_USR, PAGE(RESERVED), FS_TRANSLATION(3));
    fetch("fetch-access-flag-3", MODE_USR, PAGE(NO_ACCESS_FLAG), FS_ACCESS_FLAG(3));
    fetch("fetch-no-execute-block", MODE_SYS, BLOCK_AT(NO_EXECUTE_BLOCK), FS_PERMISSION(2));
    fetch("fetch-no-execute-page", MODE_USR, PAGE(NO_EXECUTE), FS_PERMISSION(3));
    fetch("fetch-no-execute-table", MODE_USR, BLOCK_AT(NO_EXECUTE_TABLE), FS_PERMISSION(3));
    fetch("fetch-privileged-page-user", MODE_USR, PAGE(PRIVILEGED), FS_PERMISSION(3));
    fetch("fetch-pxn-privileged", MODE_SYS, PAGE(NO_PRIVILEGED_EXECUTE), FS_PERMISSION(3));
    trial("fetch-pxn-user", a_jump, MODE_USR, PAGE(NO_PRIVILEGED_EXECUTE), 0, EXPECT_NOTHING);
    trial("fetch-code", a_jump, MODE_SYS, PAGE(CODE), 0, EXPECT_NOTHING);
    trial("bkpt", a_bkpt, MODE_SYS, 0, 0, EXPECT_PREFETCH(FS_DEBUG, ANY));
}

static void load(const char *name, uint32_t mode, uint32_t address, uint32_t status) {
    trial(name, a_ldr, mode, address, 0, EXPECT_DATA(8, status, address));
}

static void store(const char *name, uint32_t mode, uint32_t address, uint32_t status) {
    trial(name, a_str, mode, address, 0x5555, EXPECT_DATA(8, status | WNR, address));
}

static void data_aborts(void) {
    uint32_t edge = PAGE(INVALID);
    trial("load", a_ldr, MODE_USR, PAGE(READ_WRITE) + 12, 0, EXPECT_NOTHING);
    value(" loaded", record.r[2], frames[0][3]);
    trial("load-gigabyte", a_ldr, MODE_USR, GIGABYTE_BLOCK + ((uint32_t)&frames[9][9] - RAM_BASE), 0, EXPECT_NOTHING);
    value(" loaded", record.r[2], frames[9][9]);
    load("translation-1", MODE_SYS, NO_GIGABYTE + 4, FS_TRANSLATION(1));
    store("translation-1-store", MODE_USR, NO_GIGABYTE, FS_TRANSLATION(1));
    load("translation-2", MODE_SYS, BLOCK_AT(INVALID_BLOCK), FS_TRANSLATION(2));
    store("translation-2-store", MODE_USR, BLOCK_AT(INVALID_BLOCK), FS_TRANSLATION(2));
    load("translation-3", MODE_USR, PAGE(INVALID) + 0xffc, FS_TRANSLATION(3));
    store("translation-3-store", MODE_SYS, PAGE(INVALID), FS_TRANSLATION(3));
    load("reserved-3", MODE_SYS, PAGE(RESERVED), FS_TRANSLATION(3));
    load("access-flag-2", MODE_SYS, BLOCK_AT(NO_ACCESS_FLAG_BLOCK), FS_ACCESS_FLAG(2));
    load("access-flag-3", MODE_SYS, PAGE(NO_ACCESS_FLAG), FS_ACCESS_FLAG(3));
    store("access-flag-3-store", MODE_USR, PAGE(NO_ACCESS_FLAG), FS_ACCESS_FLAG(3));
    store("read-only-block", MODE_SYS, BLOCK_AT(READ_ONLY_BLOCK), FS_PERMISSION(2));
    trial("read-only-block-load", a_ldr, MODE_USR, BLOCK_AT(READ_ONLY_BLOCK) + 0x100000, 0, EXPECT_NOTHING);
    load("privileged-block-user", MODE_USR, BLOCK_AT(PRIVILEGED_BLOCK), FS_PERMISSION(2));
    store("read-only-page", MODE_SYS, PAGE(READ_ONLY), FS_PERMISSION(3));
    store("read-only-page-user", MODE_USR, PAGE(READ_ONLY), FS_PERMISSION(3));
    load("privileged-page-user", MODE_USR, PAGE(PRIVILEGED), FS_PERMISSION(3));
    trial("privileged-page", a_str, MODE_SYS, PAGE(PRIVILEGED), 5, EXPECT_NOTHING);
    trial("privileged-page-ldrt", a_ldrt, MODE_SYS, PAGE(PRIVILEGED), 0, EXPECT_DATA(8, FS_PERMISSION(3), PAGE(PRIVILEGED)));
    trial("privileged-page-strt", a_strt, MODE_SYS, PAGE(PRIVILEGED), 0,
          EXPECT_DATA(8, FS_PERMISSION(3) | WNR, PAGE(PRIVILEGED)));
    store("privileged-read-only-page", MODE_SYS, PAGE(PRIVILEGED_READ_ONLY), FS_PERMISSION(3));
    load("privileged-read-only-page-user", MODE_USR, PAGE(PRIVILEGED_READ_ONLY), FS_PERMISSION(3));
    trial("privileged-read-only-page-load", a_ldr, MODE_SYS, PAGE(PRIVILEGED_READ_ONLY), 0, EXPECT_NOTHING);
    load("no-user-table", MODE_USR, BLOCK_AT(NO_USER_TABLE), FS_PERMISSION(3));
    trial("no-user-table-privileged", a_str, MODE_SYS, BLOCK_AT(NO_USER_TABLE), 6, EXPECT_NOTHING);
    store("read-only-table", MODE_SYS, BLOCK_AT(READ_ONLY_TABLE), FS_PERMISSION(3));
    trial("read-only-table-load", a_ldr, MODE_USR, BLOCK_AT(READ_ONLY_TABLE), 0, EXPECT_NOTHING);
    trial("unaligned-ldrd", a_ldrd, MODE_SYS, PAGE(0) + 2, 0, EXPECT_DATA(8, FS_ALIGNMENT, PAGE(0) + 2));
    trial("unaligned-stm", a_stm, MODE_SYS, PAGE(0) + 1, 0, EXPECT_DATA(8, FS_ALIGNMENT | WNR, PAGE(0) + 1));
    trial("ldm-across", a_ldm_writeback, MODE_SYS, edge - 8, 0, EXPECT_DATA(8, FS_TRANSLATION(3), edge));
    value(" base", record.r[0], edge - 8);
    trial("stm-across", a_stm_writeback, MODE_USR, edge - 4, 0, EXPECT_DATA(8, FS_TRANSLATION(3) | WNR, edge));
    value(" base", record.r[0], edge - 4);
    trial("word-over-the-edge", a_ldr, MODE_SYS, edge - 2, 0, EXPECT_DATA(8, FS_TRANSLATION(3), ANY));
    status_mask = 0x83f;
    load("external", MODE_SYS, BLOCK_AT(NOTHING_THERE), FS_EXTERNAL);
    status_mask = ANY;
}

static uint64_t translate(bool user_write, uint32_t address) {
    uint64_t par;
    if (user_write)
        WRITE_CP15(0, c7, c8, 3, address); // ATS1CUW
    else
        WRITE_CP15(0, c7, c8, 0, address); // ATS1CPR
    __asm__ volatile("isb\n\tmrrc p15, 0, %Q0, %R0, c7" : "=r"(par)::"memory");
    return par;
}

// PAR, long format: F, the fault status in bits 6:1, LPAE in bit 11.
static void address_translation(void) {
    value("translate", (uint32_t)translate(false, PAGE(READ_WRITE)) & 0xfffff801, (uint32_t)frames[0] | 0x800);
    value("translate-high", (uint32_t)(translate(false, PAGE(READ_WRITE)) >> 32) & 0xff, 0);
    value("translate-block", (uint32_t)translate(false, GIGABYTE_BLOCK + 0x123456) & 0xfffff801, 0x40123800);
    value("translate-1", (uint32_t)translate(false, NO_GIGABYTE) & 0x87f, 0x800 | (FS_TRANSLATION(1) & 0x3f) << 1 | 1);
    value("translate-3", (uint32_t)translate(false, PAGE(INVALID)) & 0x87f, 0x800 | (FS_TRANSLATION(3) & 0x3f) << 1 | 1);
    value("translate-read-only", (uint32_t)translate(true, PAGE(READ_ONLY)) & 0x87f,
          0x800 | (FS_PERMISSION(3) & 0x3f) << 1 | 1);
    value("translate-read-write", (uint32_t)translate(true, PAGE(READ_WRITE)) & 1, 0);
}

static uint32_t read_page(unsigned page) { return *(volatile uint32_t *)PAGE(page); }

static void set_entry(unsigned page, Descriptor descriptor) {
    *(volatile Descriptor *)&level3[page] = descriptor;
    dsb();
}

// As in exceptions.c, with the ASID in TTBR0.
static void address_spaces(void) {
    set_ttbr0(1);
    set_entry(SWITCHED, (uint32_t)frames[10] | PAGE_ENTRY | RAM_ATTRIBUTES | NOT_GLOBAL);
    set_entry(GLOBAL, (uint32_t)frames[12] | PAGE_ENTRY | RAM_ATTRIBUTES);
    flush();
    value("asid-1", read_page(SWITCHED), frames[10][0]);
    value("asid-1-global", read_page(GLOBAL), frames[12][0]);
    set_entry(SWITCHED, (uint32_t)frames[11] | PAGE_ENTRY | RAM_ATTRIBUTES | NOT_GLOBAL);
    set_ttbr0(2);
    value("asid-2", read_page(SWITCHED), frames[11][0]);
    value("asid-2-global", read_page(GLOBAL), frames[12][0]);
    WRITE_CP15(0, c8, c7, 2, 1); // TLBIASID 1
    dsb();
    set_ttbr0(1);
    value("asid-1-flushed", read_page(SWITCHED), frames[11][0]);
    set_entry(SWITCHED, (uint32_t)frames[10] | PAGE_ENTRY | RAM_ATTRIBUTES | NOT_GLOBAL);
    WRITE_CP15(0, c8, c7, 1, PAGE(SWITCHED) | 1); // TLBIMVA, ASID 1
    dsb();
    isb();
    value("asid-1-page-flushed", read_page(SWITCHED), frames[10][0]);
    set_entry(SWITCHED, 0);
    WRITE_CP15(0, c8, c7, 3, PAGE(SWITCHED)); // TLBIMVAA
    dsb();
    isb();
    load("asid-1-unmapped", MODE_SYS, PAGE(SWITCHED), FS_TRANSLATION(3));
    set_ttbr0(2);
    load("asid-2-unmapped", MODE_SYS, PAGE(SWITCHED), FS_TRANSLATION(3));
    set_ttbr0(0);
}

// T0SZ = T1SZ = 1: the upper 2 GiB go by TTBR1, by a table of two gigabytes.
static void second_table(void) {
    static Descriptor upper[4] ALIGNED(32);
    upper[0] = RAM_BASE | BLOCK | RAM_ATTRIBUTES;
    uint64_t ttbr1 = (uint32_t)upper;
    level1[2] = 0;
    __asm__ volatile("mcrr p15, 1, %Q0, %R0, c2" ::"r"(ttbr1) : "memory");
    WRITE_CP15(0, c2, c0, 2, 0xb5013501); // the same attributes for TTBR1
    flush();
    trial("ttbr1", a_ldr, MODE_USR, 0x80000000 + ((uint32_t)&frames[9][9] - RAM_BASE), 0, EXPECT_NOTHING);
    value(" loaded", record.r[2], frames[9][9]);
    load("ttbr1-nothing-there", MODE_USR, NO_GIGABYTE + 8, FS_TRANSLATION(1));
    trial("ttbr0-still", a_ldr, MODE_USR, PAGE(READ_WRITE), 0, EXPECT_NOTHING);
    WRITE_CP15(0, c2, c0, 2, 0xb5813501); // EPD1
    flush();
    load("ttbr1-disabled", MODE_USR, 0x80000000, FS_TRANSLATION(1));
}

int main(void) {
    build_tables();
    mmu_on_long();
    trials_on();
    prefetch_aborts();
    data_aborts();
    address_translation();
    address_spaces();
    second_table();
    finish();
}
