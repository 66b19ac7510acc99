// SPDX-License-Identifier: Apache-2.0
// A heavy body and seven light ones that attract each other. Each step is 28 pairs with a square root and a division.
#include "floats.h"

#define BODIES 8
#define STEP 0.001
static struct {
    double mass, position[3], speed[3];
} bodies[BODIES];

static NOINLINE void advance(void) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double apart[3], square = 0.001; // never quite a collision
            for (int axis = 0; axis < 3; axis++) {
                apart[axis] = bodies[i].position[axis] - bodies[j].position[axis];
                square += apart[axis] * apart[axis];
            }
            double pull = STEP / (square * __builtin_sqrt(square));
            for (int axis = 0; axis < 3; axis++) {
                bodies[i].speed[axis] -= apart[axis] * (pull * bodies[j].mass);
                bodies[j].speed[axis] += apart[axis] * (pull * bodies[i].mass);
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int axis = 0; axis < 3; axis++)
            bodies[i].position[axis] += STEP * bodies[i].speed[axis];
}

uint32_t kernel(void) {
    floats_on();
    uint32_t state = 6, checksum = 0;
    for (int i = 0; i < BODIES; i++) {
        bodies[i].mass = i ? next_fraction(&state) * 0.01 : 10;
        for (int axis = 0; axis < 3; axis++) {
            bodies[i].position[axis] = i ? (next_fraction(&state) - 0.5) * 8 : 0;
            bodies[i].speed[axis] = i ? (next_fraction(&state) - 0.5) * 2 : 0;
        }
    }
    for (unsigned pass_number = 0; pass_number < REPEATS; pass_number++) {
        for (int step = 0; step < 100; step++)
            advance();
        for (int i = 0; i < BODIES; i++)
            for (int axis = 0; axis < 3; axis++)
                checksum = add_bits(checksum, bodies[i].position[axis]);
    }
    return checksum;
}
