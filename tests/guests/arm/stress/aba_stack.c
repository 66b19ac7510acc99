// SPDX-License-Identifier: Apache-2.0
// A lock-free stack. To pop, a CPU reserves the head by LDREX, reads the next node and replaces the head by STREX. While
// it is in between, others may pop two nodes and push the first one back: the head is what it was, the next node is
// not. If the STREX succeeds by comparing values, a node that somebody has is on the stack again (the ABA problem).
// With exact reservations it fails (ARM DDI 0406C, A3.4.2), and every node has one owner at a time.
#include "guest.h"
GUEST_ENTRY

#define PATIENCE 2000 // loops with YIELD
#define NODES (2 * MAX_CPUS + 2)

typedef struct {
    volatile uint32_t next, owners;
} ALIGNED(64) Node;

static Node nodes[NODES];
static volatile uint32_t head ALIGNED(64);
static volatile uint32_t swaps ALIGNED(64), pops ALIGNED(64);
static volatile uint32_t shared_nodes ALIGNED(64), empty, rounds_done[MAX_CPUS];

// After its first LDREX it waits until `event` changes, but for at most `patience` loops. No store is in there.
static Node *pop(volatile uint32_t *event, unsigned patience) {
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
                     : [head] "r"(&head), [event] "r"(event), [before] "r"(before)
                     : "memory", "cc");
    return (Node *)top;
}

// Stores between LDREX and STREX, as the owner of the node.
static void push(Node *node) {
    uint32_t top, failed;
    __asm__ volatile("1:\n\t"
                     "ldrex %[top], [%[head]]\n\t"
                     "str %[top], [%[node]]\n\t"
                     "dmb\n\t"
                     "strex %[failed], %[node], [%[head]]\n\t"
                     "cmp %[failed], #0\n\t"
                     "bne 1b"
                     : [top] "=&r"(top), [failed] "=&r"(failed)
                     : [head] "r"(&head), [node] "r"(node)
                     : "memory", "cc");
}

static Node *take(unsigned patience) {
    Node *node = pop(&swaps, patience);
    fetch_add(&pops, 1);
    if (!node)
        fetch_add(&empty, 1);
    else if (fetch_add(&node->owners, 1))
        fetch_add(&shared_nodes, 1);
    return node;
}

static void give(Node *node) {
    fetch_add(&node->owners, -1u);
    push(node);
}

static bool broken(void) { return empty || shared_nodes; }

static void work(unsigned cpu) {
    uint32_t random = cpu;
    meet();
    for (uint32_t round = 0; round < ROUNDS && !broken(); round++) {
        random = random * 1664525 + 1013904223; // of all CPUs, ever other ones wait
        bool waits = random >> 31;
        Node *first = take(waits ? PATIENCE : 0), *second = take(0);
        if (!first || !second)
            return;
        give(first);
        if (!waits) { // the first node is back, the second one is not: let those that wait try
            uint32_t before = pops;
            fetch_add(&swaps, 1);
            for (unsigned left = PATIENCE; left && pops == before; left--)
                cpu_yield();
        }
        give(second);
        rounds_done[cpu] = round + 1;
    }
}

int main(void) {
    mmu_on();
    for (unsigned i = 0; i < NODES; i++)
        push(&nodes[i]);
    run_on_all(work);
    uint32_t rounds = 0, left = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        rounds += rounds_done[cpu];
    for (Node *node = (Node *)head; node && left <= NODES; node = (Node *)node->next)
        left++;
    if (broken() || left != NODES)
        fail("cpus=%u after %u rounds: nodes with two owners %u, empty %u, nodes left %u of %u", cpu_count, rounds,
             shared_nodes, empty, left, NODES);
    pass("cpus=%u rounds=%u", cpu_count, rounds);
}
