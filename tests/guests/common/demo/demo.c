// SPDX-License-Identifier: Apache-2.0
// The bundled demo: a Mandelbrot set drawn by all CPUs of the machine, as characters.
//
// The rows are handed out by an atomic counter. A CPU that finds none left tells CPU 0 by an interrupt and sleeps; CPU 0
// sleeps until all have told it, then compares some rows with what it computes alone, prints the picture with the CPU
// that drew each row, what each CPU did, and the verdict, and powers the machine off.
//
// Output: ROWS lines "<COLUMNS characters> |<cpu>", then
//   DEMO-CPU <n> rows=<number> first=<row> last=<row> ticks=<of its own time>      (first and last -1 without rows)
//   DEMO-TIME cpus=<number> ticks=<for the whole picture> frequency=<ticks in a second>
//   DEMO-OK crc=<CRC-32 of the picture's characters>          or DEMO-FAIL <reason>
#include "guest.h"
GUEST_ENTRY

#define COLUMNS 76
#define ROWS 36
#define SAMPLES 8 // in each direction of a character's cell
#define ITERATIONS 8000
#define EXPECTED_CRC 0xa9725eb5u

// Fixed point with 28 fractional bits: the plane from -2.1 to 0.7 and from -1.2 to 1.2.
#define FIXED(x) ((int32_t)((x) * (1 << 28)))
#define LEFT FIXED(-2.1)
#define TOP FIXED(1.2)
#define STEP_RIGHT (FIXED(2.8) / (COLUMNS * SAMPLES))
#define STEP_DOWN (FIXED(2.4) / (ROWS * SAMPLES))

#define SGI_DONE 1u

typedef struct {
    volatile uint32_t rows;
    volatile int32_t first, last;
    volatile uint64_t ticks;
    uint32_t padding[10];
} Share;

static char picture[ROWS][COLUMNS];
static volatile uint8_t drawn_by[ROWS];
static volatile uint32_t next_row ALIGNED(64), done ALIGNED(64);
static Share shares[MAX_CPUS];
static volatile uint64_t start, end;

static unsigned escape_time(int32_t cr, int32_t ci) {
    int32_t zr = 0, zi = 0;
    unsigned n = 0;
    for (; n < ITERATIONS; n++) {
        int64_t rr = (int64_t)zr * zr, ii = (int64_t)zi * zi;
        if ((int32_t)((rr + ii) >> 32) >= 4 << 24)
            break;
        zi = (int32_t)((int64_t)zr * zi >> 27) + ci;
        zr = (int32_t)((rr - ii) >> 28) + cr;
    }
    return n;
}

// The character for a cell: its samples' escape times, on a logarithmic scale, averaged; blank inside the set.
static char shade(unsigned row, unsigned column) {
    static const char palette[] = " .,:;-~=+*xoahkXOHKMW%#@";
    unsigned levels = 0, inside = 0;
    for (unsigned y = 0; y < SAMPLES; y++)
        for (unsigned x = 0; x < SAMPLES; x++) {
            unsigned time = escape_time(LEFT + (int32_t)(column * SAMPLES + x) * STEP_RIGHT,
                                        TOP - (int32_t)(row * SAMPLES + y) * STEP_DOWN);
            if (time == ITERATIONS) {
                inside++;
                continue;
            }
            unsigned level = 0; // three steps a doubling
            while (time > 3 && level < 3 * 7) {
                time -= time / 5 + 1;
                level++;
            }
            levels += level;
        }
    if (inside > SAMPLES * SAMPLES / 2)
        return ' ';
    return palette[1 + levels / (SAMPLES * SAMPLES - inside)];
}

static void draw(unsigned row, char *line) {
    for (unsigned column = 0; column < COLUMNS; column++)
        line[column] = shade(row, column);
}

static void take_rows(unsigned cpu) {
    Share *share = &shares[cpu];
    uint64_t from = counter();
    share->first = share->last = -1;
    for (uint32_t row; (row = fetch_add(&next_row, 1)) < ROWS;) {
        draw(row, picture[row]);
        drawn_by[row] = (uint8_t)cpu;
        if (share->rows++ == 0)
            share->first = (int32_t)row;
        share->last = (int32_t)row;
    }
    share->ticks = counter() - from;
}

static void handler(unsigned interrupt, unsigned source) {
    if (interrupt == SGI_DONE)
        done |= 1u << source;
}

static void work(unsigned cpu) {
    meet();
    if (cpu == 0)
        start = counter();
    take_rows(cpu);
    if (cpu) {
        memory_barrier();
        send_sgi(SGI_DONE, 1);
        return; // to sleep
    }
    // Masked, so that an interrupt between the look and the sleep is not lost: it stays pending and ends the sleep.
    while (done != (((1u << cpu_count) - 1) & ~1u)) {
        wfi();
        irq_on();
        fetch_barrier();
        irq_off();
    }
    memory_barrier();
    end = counter();
}

static uint32_t crc32(const char *bytes, unsigned size) {
    uint32_t crc = ~0u;
    while (size--) {
        crc ^= (uint8_t)*bytes++;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

// One row of each other CPU, computed again by this one alone.
static int wrong_row(void) {
    char again[COLUMNS];
    for (unsigned cpu = 1; cpu < cpu_count; cpu++) {
        if (shares[cpu].rows == 0)
            continue;
        draw((unsigned)shares[cpu].first, again);
        for (unsigned column = 0; column < COLUMNS; column++)
            if (again[column] != picture[shares[cpu].first][column])
                return shares[cpu].first;
    }
    return -1;
}

static void report(void) {
    for (unsigned row = 0; row < ROWS; row++) {
        char line[COLUMNS + 1];
        for (unsigned column = 0; column < COLUMNS; column++)
            line[column] = picture[row][column];
        line[COLUMNS] = 0;
        print("%s |%u\n", line, drawn_by[row]);
    }
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        print("DEMO-CPU %u rows=%u first=%d last=%d ticks=%llu\n", cpu, shares[cpu].rows, (int)shares[cpu].first,
              (int)shares[cpu].last, shares[cpu].ticks);
    print("DEMO-TIME cpus=%u ticks=%llu frequency=%u\n", cpu_count, end - start, counter_frequency());
}

int main(void) {
    mmu_on();
    interrupts_start(handler);
    run_on_all(work);
    report();
    uint32_t rows = 0, crc = crc32(picture[0], sizeof picture);
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        rows += shares[cpu].rows;
    int wrong = wrong_row();
    if (rows != ROWS)
        print("DEMO-FAIL %u rows drawn\n", rows);
    else if (wrong >= 0)
        print("DEMO-FAIL row %d differs when computed again\n", wrong);
    else if (crc != EXPECTED_CRC)
        print("DEMO-FAIL crc=%08x expected=%08x\n", crc, EXPECTED_CRC);
    else
        print("DEMO-OK crc=%08x\n", crc);
    power_off();
}
