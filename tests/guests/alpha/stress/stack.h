// SPDX-License-Identifier: Apache-2.0
// A stack by LDQ_L and STQ_C, with branches and accesses in between: an implementation may let such stores fail always
// (Alpha Architecture Reference Manual, 4.2.5), and then this does not end.
#include "guest.h"

typedef struct Node {
    struct Node *volatile next;
    volatile uint32_t owners;
} ALIGNED(64) Node;

#define LOOPS_A_ROUND 20u // of the waiting loop below, which takes a few instructions; others' loops do more

// After its first LDQ_L it waits until `event` changes, but for at most `patience` rounds. No store is in there.
static Node *pop(Node *volatile *head, volatile uint32_t *event, unsigned patience) {
    Node *top, *next;
    uint32_t seen, before = *event;
    uint64_t left = (uint64_t)patience * LOOPS_A_ROUND;
    __asm__ volatile("1:\n\t"
                     "ldq_l %[top], 0(%[head])\n\t"
                     "beq %[top], 4f\n\t"
                     "ldq %[next], 0(%[top])\n"
                     "2:\n\t"
                     "subq %[left], 1, %[left]\n\t"
                     "blt %[left], 3f\n\t"
                     "ldl %[seen], 0(%[event])\n\t"
                     "cmpeq %[seen], %[before], %[seen]\n\t"
                     "bne %[seen], 2b\n"
                     "3:\n\t"
                     "bis $31, $31, %[left]\n\t"
                     "stq_c %[next], 0(%[head])\n\t"
                     "beq %[next], 1b\n"
                     "4:\n\t"
                     "mb"
                     : [top] "=&r"(top), [next] "=&r"(next), [seen] "=&r"(seen), [left] "+&r"(left)
                     : [head] "r"(head), [event] "r"(event), [before] "r"(before)
                     : "memory");
    return top;
}

// Stores between LDQ_L and STQ_C, as the owner of the node.
static void push(Node *volatile *head, Node *node) {
    Node *top, *new;
    __asm__ volatile("1:\n\t"
                     "ldq_l %[top], 0(%[head])\n\t"
                     "stq %[top], 0(%[node])\n\t"
                     "mb\n\t"
                     "bis $31, %[node], %[new]\n\t"
                     "stq_c %[new], 0(%[head])\n\t"
                     "beq %[new], 1b"
                     : [top] "=&r"(top), [new] "=&r"(new)
                     : [head] "r"(head), [node] "r"(node)
                     : "memory");
}
