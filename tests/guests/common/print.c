// SPDX-License-Identifier: Apache-2.0
// Formatted console output and the verdict lines. The machine's console.h has the device, and keeps other CPUs out.
#include "guest.h"
#include "console.h"

void put_char(char c) { console_put(c); }

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

void print(const char *format, ...) {
    va_list arguments;
    ConsoleState state = console_enter();
    va_start(arguments, format);
    print_list(format, arguments);
    va_end(arguments);
    console_leave(state);
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
