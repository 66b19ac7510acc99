// SPDX-License-Identifier: Apache-2.0
// Console output on the PL011, formatted, and the verdict lines.
#include "guest.h"

#define UART 0x09000000u
#define UART_DR REGISTER(UART + 0x00)
#define UART_FR REGISTER(UART + 0x18)
#define UART_FR_TXFF 0x20u

static volatile uint32_t console_lock;

void put_char(char c) {
    while (UART_FR & UART_FR_TXFF) {
    }
    UART_DR = (uint8_t)c;
}

static void put_number(uint64_t value, unsigned base, unsigned width, char fill) {
    char digits[24];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    for (unsigned i = count; i < width; i++)
        put_char(fill);
    while (count)
        put_char(digits[--count]);
}

static void put_string(const char *text, unsigned width) {
    unsigned length = 0;
    for (; text[length]; length++)
        put_char(text[length]);
    for (; length < width; length++)
        put_char(' ');
}

static void print_list(const char *format, va_list arguments) {
    for (; *format; format++) {
        if (*format != '%') {
            if (*format == '\n')
                put_char('\r');
            put_char(*format);
            continue;
        }
        char fill = ' ';
        unsigned width = 0, longs = 0;
        format++;
        if (*format == '0')
            fill = '0';
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (unsigned)(*format - '0');
        for (; *format == 'l'; format++)
            longs++;
        uint64_t value;
        switch (*format) {
        case 's':
            put_string(va_arg(arguments, const char *), width);
            break;
        case 'c':
            put_char((char)va_arg(arguments, int));
            break;
        case 'd': {
            int32_t number = va_arg(arguments, int32_t);
            if (number < 0)
                put_char('-');
            put_number(number < 0 ? 0u - (uint32_t)number : (uint32_t)number, 10, width, fill);
            break;
        }
        case 'u':
        case 'x':
            value = longs == 2 ? va_arg(arguments, uint64_t) : va_arg(arguments, uint32_t);
            put_number(value, *format == 'x' ? 16 : 10, width, fill);
            break;
        default:
            put_char(*format);
        }
    }
}

// Exclusives need normal cacheable memory, so there is a lock only when the MMU is on. IRQs are masked inside, because
// a handler that prints would wait for itself.
static uint32_t console_enter(void) {
    uint32_t cpsr;
    __asm__ volatile("mrs %0, cpsr" : "=r"(cpsr));
    irq_off();
    if (mmu_is_on()) {
        uint32_t old, failed;
        do {
            __asm__ volatile("ldrex %0, [%2]\n\tcmp %0, #0\n\tstrexeq %1, %3, [%2]\n\tmovne %1, #1\n\tyieldne"
                             : "=&r"(old), "=&r"(failed)
                             : "r"(&console_lock), "r"(1)
                             : "memory", "cc");
        } while (failed);
        dmb();
    }
    return cpsr;
}

static void console_leave(uint32_t cpsr) {
    dmb();
    console_lock = 0;
    __asm__ volatile("msr cpsr_c, %0" ::"r"(cpsr) : "memory");
}

void print(const char *format, ...) {
    va_list arguments;
    uint32_t cpsr = console_enter();
    va_start(arguments, format);
    print_list(format, arguments);
    va_end(arguments);
    console_leave(cpsr);
}

// The lock is not given back: the first verdict is the only one.
static void verdict(const char *word, const char *separator, const char *format, va_list arguments) {
    console_enter();
    put_string(word, 0);
    put_string(guest_name, 0);
    put_string(separator, 0);
    print_list(format, arguments);
    put_string("\r\n", 0);
    power_off();
}

void pass(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    verdict("PASS ", " ", format, arguments);
    __builtin_unreachable();
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    verdict("FAIL ", ": ", format, arguments);
    __builtin_unreachable();
}

void power_off(void) {
    hvc_call(PSCI_SYSTEM_OFF, 0, 0, 0);
    for (;;)
        wfi();
}

void (*volatile data_abort_hook)(uint32_t fault_status, uint32_t fault_address);

// Called from the vectors in start.S.
void unexpected_exception(uint32_t kind, uint32_t lr, uint32_t spsr) {
    static const char *const names[] = {"reset", "undefined",  "svc", "prefetch abort", "data abort",
                                        "?",     "interrupt", "fiq"};
    fail("unexpected %s cpu=%u lr=%08x spsr=%08x dfsr=%x dfar=%08x ifsr=%x ifar=%08x", names[kind], cpu_id(), lr, spsr,
         READ_CP15(0, c5, c0, 0), READ_CP15(0, c6, c0, 0), READ_CP15(0, c5, c0, 1), READ_CP15(0, c6, c0, 2));
}

// Called from the data-abort vector in start.S.
void data_abort_entry(uint32_t pc, uint32_t spsr) {
    if (!data_abort_hook)
        unexpected_exception(4, pc, spsr);
    data_abort_hook(READ_CP15(0, c5, c0, 0), READ_CP15(0, c6, c0, 0));
}
