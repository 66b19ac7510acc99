// SPDX-License-Identifier: Apache-2.0
// A lock-free stack. To pop, a CPU reserves the head by a load-locked, reads the next node and replaces the head by a
// store-conditional. While it is in between, others may pop two nodes and push the first one back: the head is what it
// was, the next node is not. If the store succeeds by comparing values, a node that somebody has is on the stack again
// (the ABA problem). With exact reservations it fails (ARM DDI 0406C, A3.4.2; Alpha Architecture Reference Manual,
// 4.2.4), and every node has one owner at a time.
#include "stack.h"
GUEST_ENTRY

#define PATIENCE 2000 // rounds of waiting loops
#define NODES (2 * MAX_CPUS + 2)

static Node nodes[NODES];
static Node *volatile head ALIGNED(64);
static volatile uint32_t swaps ALIGNED(64), pops ALIGNED(64);
static volatile uint32_t shared_nodes ALIGNED(64), empty, rounds_done[MAX_CPUS];

static Node *take(unsigned patience) {
    Node *node = pop(&head, &swaps, patience);
    fetch_add(&pops, 1);
    if (!node)
        fetch_add(&empty, 1);
    else if (fetch_add(&node->owners, 1))
        fetch_add(&shared_nodes, 1);
    return node;
}

static void give(Node *node) {
    fetch_add(&node->owners, -1u);
    push(&head, node);
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
                spin_hint(left);
        }
        give(second);
        rounds_done[cpu] = round + 1;
    }
}

int main(void) {
    mmu_on();
    for (unsigned i = 0; i < NODES; i++)
        push(&head, &nodes[i]);
    run_on_all(work);
    uint32_t rounds = 0, left = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        rounds += rounds_done[cpu];
    for (Node *node = head; node && left <= NODES; node = node->next)
        left++;
    if (broken() || left != NODES)
        fail("cpus=%u after %u rounds: nodes with two owners %u, empty %u, nodes left %u of %u", cpu_count, rounds,
             shared_nodes, empty, left, NODES);
    pass("cpus=%u rounds=%u", cpu_count, rounds);
}
