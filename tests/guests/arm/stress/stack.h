// SPDX-License-Identifier: Apache-2.0
// A stack by LDREX and STREX.
#include "guest.h"

typedef struct Node {
    struct Node *volatile next;
    volatile uint32_t owners;
} ALIGNED(64) Node;

// After its first LDREX it waits until `event` changes, but for at most `patience` loops. No store is in there.
static Node *pop(Node *volatile *head, volatile uint32_t *event, unsigned patience) {
    uint32_t top, next, failed, before = *event;
    __asm__ volatile("1:\n\t"
                     "ldrex %[top], [%[head]]\n\t"
                     "cmp %[top], #0\n\t"
                     "beq 4f\n\t"
                     "ldr %[next], [%[top]]\n"
                     "2:\n\t"
                     "subs %[patience], %[patience], #1\n\t"
                     "bmi 3f\n\t"
                     "yield\n\t"
                     "ldr %[failed], [%[event]]\n\t"
                     "cmp %[failed], %[before]\n\t"
                     "beq 2b\n\t"
                     "mov %[patience], #0\n"
                     "3:\n\t"
                     "strex %[failed], %[next], [%[head]]\n\t"
                     "cmp %[failed], #0\n\t"
                     "movne %[patience], #0\n\t"
                     "bne 1b\n"
                     "4:\n\t"
                     "clrex\n\t"
                     "dmb"
                     : [top] "=&r"(top), [next] "=&r"(next), [failed] "=&r"(failed), [patience] "+&r"(patience)
                     : [head] "r"(head), [event] "r"(event), [before] "r"(before)
                     : "memory", "cc");
    return (Node *)top;
}

// Stores between LDREX and STREX, as the owner of the node.
static void push(Node *volatile *head, Node *node) {
    uint32_t top, failed;
    __asm__ volatile("1:\n\t"
                     "ldrex %[top], [%[head]]\n\t"
                     "str %[top], [%[node]]\n\t"
                     "dmb\n\t"
                     "strex %[failed], %[node], [%[head]]\n\t"
                     "cmp %[failed], #0\n\t"
                     "bne 1b"
                     : [top] "=&r"(top), [failed] "=&r"(failed)
                     : [head] "r"(head), [node] "r"(node)
                     : "memory", "cc");
}
