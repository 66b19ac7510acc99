/* SPDX-License-Identifier: Apache-2.0 */
/* What a flush or a mark must find in a TLB and in a jump cache that was filled by random pages which collide, and so change places with
 * victims; by a look at all entries there are. The controls leave the flush or the mark out. */
#include "harness.h"

#define FILLS      4000
#define PAGES      (4 * RADDLE_TLB_ENTRIES)
#define LOCAL_PAGE (1u << 22) /* of pages that collide, some are the address space's own */
#define CODE_PAGE  (RAM_BASE + 5 * PAGE)

static uint64_t seed;

static uint32_t random_below(uint32_t limit)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % limit);
}

static uint64_t fill_from_ram(void *env, uint64_t address, uint64_t access, uint64_t size, uint64_t unused)
{
    (void)size, (void)unused;
    uint64_t target = RAM_BASE + address % RAM_SIZE, local = address & LOCAL_PAGE ? PROT_LOCAL_BIT : 0;
    helper(env, "tlb_set", address, target, 7 | local | (access >> 8) << 16);
    return 0;
}

/* Fills by probes, with partial flushes between them that leave holes. Into holes of the last one come victims. */
static struct raddle_cpu *filled(void)
{
    machine_make(1, PARALLEL, NULL, fill_from_ram);
    struct raddle_cpu *cpu = cpu_of(machine.env[0]);
    struct probe probe;
    seed = 1;
    for (uint32_t i = 0; i < FILLS; i++) {
        CHECK(!tlb_fill(cpu, (uint64_t)random_below(PAGES) * PAGE, 4, ACCESS_READ, random_below(3), &probe));
        if (i % 16 == 0)
            helper(cpu->env, "tlb_flush_page", (uint64_t)random_below(PAGES) * PAGE, ALL_INDICES, 0);
        if (i == FILLS - 100) {
            helper(cpu->env, "tlb_flush_local", ALL_INDICES, 0, 0);
            for (uint32_t j = 0; j < 3 * PAGES; j++)
                tlb_probe(cpu, (uint64_t)(j / 3) * PAGE, ACCESS_READ, j % 3, &probe);
        }
        if (i == FILLS / 2)
            helper(cpu->env, "tlb_flush_by_mmuidx", 1, 0, 0);
    }
    return cpu;
}

/* Counts the entries, victims included, that `is_wrong` says should not be there. */
static void count_wrong(struct raddle_cpu *cpu, bool (*is_wrong)(const struct tlb_entry *e, uint64_t paddr))
{
    uint32_t entries = 0;
    for (uint32_t i = 0; i < RADDLE_MMU_INDICES; i++) {
        for (uint32_t j = 0; j < RADDLE_TLB_ENTRIES + RADDLE_VICTIM_ENTRIES; j++) {
            bool main = j < RADDLE_TLB_ENTRIES;
            uint32_t v = j - RADDLE_TLB_ENTRIES;
            const struct tlb_entry *e = main ? &cpu->tlb[i * RADDLE_TLB_ENTRIES + j] : &cpu->victims[i][v];
            if (e->read & RADDLE_TLB_INVALID)
                continue;
            entries++;
            if (is_wrong(e, main ? cpu->side[i][j].paddr : cpu->victim_side[i][v].paddr))
                atomic_fetch_add(&machine.violations, 1);
        }
    }
    fprintf(stderr, "%u entries\n", entries);
    machine_free();
}

static bool any(const struct tlb_entry *e, uint64_t paddr)
{
    (void)e, (void)paddr;
    return true;
}

static bool is_local(const struct tlb_entry *e, uint64_t paddr)
{
    (void)paddr;
    return e->read & LOCAL_PAGE;
}

static bool is_unmarked(const struct tlb_entry *e, uint64_t paddr)
{
    return paddr == CODE_PAGE && !(e->write & RADDLE_TLB_NOTDIRTY);
}

void test_flush_finds_all(bool mechanism)
{
    struct raddle_cpu *cpu = filled();
    if (mechanism)
        helper(cpu->env, "tlb_flush", 0, 0, 0);
    count_wrong(cpu, any);
}

void test_local_flush_finds_all(bool mechanism)
{
    struct raddle_cpu *cpu = filled();
    if (mechanism)
        helper(cpu->env, "tlb_flush_local", ALL_INDICES, 0, 0);
    count_wrong(cpu, is_local);
}

void test_marking_finds_all(bool mechanism)
{
    struct raddle_cpu *cpu = filled();
    if (mechanism)
        tlb_mark_code(cpu, CODE_PAGE);
    count_wrong(cpu, is_unmarked);
}

/* Whether loads would be told wrongly of the addend: with the mark they take the entry's, without it the common one. */
static bool is_told_wrongly(const struct raddle_cpu *cpu, uint32_t index, const struct tlb_entry *e)
{
    bool marked = e->read & RADDLE_TLB_APART;
    if (!(COMMON_INDICES >> index & 1))
        return marked;
    return marked != (e->addend != (&cpu->header->tlb0_addend)[index]);
}

/* Of pages that are mapped in several ways, linear in pieces, and of pages after them that are all mapped in one. The
 * control changes the common addend by itself. */
void test_common_addend(bool mechanism)
{
    struct raddle_cpu *cpu = filled();
    uint64_t *common = &cpu->header->tlb1_addend, before = *common;
    CHECK(before != NONE);
    for (uint64_t shift = 1; shift <= 2; shift++) {
        uint64_t page = 0;
        for (uint64_t i = 0; i < 16; i++, page += PAGE)
            tlb_set(cpu, page, RAM_BASE + shift * PAGE + page, 7, PAGE_BITS, 1);
        CHECK(*common == (uint64_t)(uintptr_t)machine.ram + shift * PAGE);
    }
    CHECK(*common != before);
    if (!mechanism)
        *common = before;
    for (uint32_t i = 0; i < RADDLE_MMU_INDICES; i++) {
        for (uint32_t j = 0; j < RADDLE_TLB_ENTRIES + RADDLE_VICTIM_ENTRIES; j++) {
            uint32_t v = j - RADDLE_TLB_ENTRIES;
            const struct tlb_entry *e =
                j < RADDLE_TLB_ENTRIES ? &cpu->tlb[i * RADDLE_TLB_ENTRIES + j] : &cpu->victims[i][v];
            if (!(e->read & RADDLE_TLB_INVALID) && is_told_wrongly(cpu, i, e))
                atomic_fetch_add(&machine.violations, 1);
        }
    }
    machine_free();
}

/* -- the jump cache --------------------------------------------------------------------------------------------- */

/* Whether an address is in the page or in the 4 KiB before it, whose blocks may reach into the page. */
static bool is_about(uint64_t pc, uint64_t page)
{
    return pc - (page - 4096) < 4096 + PAGE;
}

static void test_jumps(const char *flush, uint64_t page, bool mechanism)
{
    machine_make(1, PARALLEL, NULL, fill_identity);
    struct raddle_cpu *cpu = cpu_of(machine.env[0]);
    seed = 1;
    for (uint32_t i = 0; i < FILLS; i++) {
        uint64_t pc = RAM_BASE + random_below(RAM_SIZE / 4) * 4;
        install_now(pc, 0);
        struct raddle_block *block = block_find(cpu, pc, pc, 0, 0);
        CHECK(block);
        jumps_enter(cpu, block, i & 1);
        if (i % 100 == 0)
            helper(cpu->env, "tlb_flush_page", RAM_BASE + random_below(RAM_SIZE / PAGE) * PAGE, ALL_INDICES, 0);
        if (i == FILLS / 4)
            helper(cpu->env, "tlb_flush", 0, 0, 0);
    }
    if (mechanism)
        helper(cpu->env, flush, page, ALL_INDICES, 0);
    for (uint32_t i = 0; i < RADDLE_JUMP_CACHE_ENTRIES; i++)
        if (cpu->jumps[i].pc != NONE && (!page || is_about(cpu->jumps[i].pc, page)))
            atomic_fetch_add(&machine.violations, 1);
    machine_free();
}

void test_jumps_flush_finds_all(bool mechanism)
{
    test_jumps("tlb_flush", 0, mechanism);
}

void test_jumps_page_flush_finds_all(bool mechanism)
{
    test_jumps("tlb_flush_page", RAM_BASE + 9 * PAGE, mechanism);
}
