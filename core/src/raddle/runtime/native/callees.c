/* SPDX-License-Identifier: Apache-2.0 */
/* Calls from C of the target's callees: routines in the code buffer, and functions in Python. */
#include "internal.h"

bool enter_python(struct raddle_cpu *cpu)
{
    bool was_in_code = leave_code(cpu);
    if (is_lent(cpu) && !cpu->python_depth++ && cpu->context->callbacks.lent)
        cpu->context->callbacks.lent(cpu->env, 1);
    return was_in_code;
}

void leave_python(struct raddle_cpu *cpu, bool was_in_code)
{
    if (is_lent(cpu) && !--cpu->python_depth && cpu->context->callbacks.lent)
        cpu->context->callbacks.lent(cpu->env, 0);
    return_to_code(cpu, was_in_code);
}

uint64_t call_python(struct raddle_cpu *cpu, uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    if (!cpu->context->callbacks.call)
        return 0;
    uint64_t start = now_ns();
    cpu->header->count_python++;
    bool was_in_code = enter_python(cpu);
    uint64_t result = cpu->context->callbacks.call(cpu->env, id, a0, a1, a2, a3);
    leave_python(cpu, was_in_code);
    COUNT(cpu->stats.python_ns, now_ns() - start);
    return result;
}

static uint64_t call_function(struct raddle_cpu *cpu, raddle_function f, uint64_t a0, uint64_t a1, uint64_t a2,
                              uint64_t a3)
{
    struct raddle_cpu_header *h = cpu->header;
    h->arg0 = a0;
    h->arg1 = a1;
    h->arg2 = a2;
    h->arg3 = a3;
    return f(cpu->env, a0, a1, a2, a3);
}

uint64_t call_number(struct raddle_cpu *cpu, uint32_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    if (number >= RADDLE_PYTHON_NUMBER)
        return call_python(cpu, number - RADDLE_PYTHON_NUMBER, a0, a1, a2, a3);
    return call_function(cpu, (raddle_function)(uintptr_t)((void **)cpu->header->helpers)[number], a0, a1, a2, a3);
}

uint64_t call_callee(struct raddle_cpu *cpu, uint32_t which, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    const struct callee *callee = &cpu->context->callees[which];
    if (callee->function)
        return call_function(cpu, callee->function, a0, a1, a2, a3);
    return call_number(cpu, callee->number, a0, a1, a2, a3);
}
