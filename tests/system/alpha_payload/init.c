// SPDX-License-Identifier: Apache-2.0
// The first process of Alpha's boot payload. All CPUs get work whose result is known: first in processes, then in threads,
// which also contend for a counter and for a lock. Then it turns the machine off.
//
// payload_n=WORKERS and payload_it=PASSES of each on the kernel's command line; the kernel puts them into the environment.
// Output: PAYLOAD-CPUS <number>, PAYLOAD-TIMES processes=<seconds> threads=<seconds>, and PAYLOAD-OK or
// PAYLOAD-BAD <number of failures>.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORKERS 64
#define STEPS 500000
#define ROUNDS 50000 // of the counter and the lock
#define EXPECTED 0x7aaa3e27153178f5u

static int passes = 4;
static long counted, locked;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t pass(void) {
    uint64_t word = 0x9e3779b97f4a7c15u, sum = 0;
    double real = 1;
    for (int step = 0; step < STEPS; step++) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        real = real * (1 + 0x1p-20) + (double)(word & 0xff) * 0x1p-30;
        sum += word + (uint64_t)(real * 1e6);
    }
    return sum;
}

static long wrong_passes(void) {
    long wrong = 0;
    for (int number = 0; number < passes; number++)
        wrong += pass() != EXPECTED;
    return wrong;
}

static void *thread(void *unused) {
    long wrong = wrong_passes();
    for (int round = 0; round < ROUNDS; round++) {
        __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
        pthread_mutex_lock(&lock);
        locked++;
        pthread_mutex_unlock(&lock);
    }
    return (void *)wrong;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int option(const char *name, int otherwise, int most) {
    const char *value = getenv(name);
    int number = value ? atoi(value) : otherwise;
    return number >= 1 && number <= most ? number : otherwise;
}

static long run_processes(int workers) {
    long bad = 0;
    for (int number = 0; number < workers; number++) {
        pid_t child = fork();
        if (child == 0)
            _exit(wrong_passes() != 0);
        bad += child < 0;
    }
    for (int status; wait(&status) > 0;)
        bad += status != 0;
    return bad;
}

static long run_threads(int workers) {
    pthread_t threads[MAX_WORKERS];
    long bad = 0;
    for (int number = 0; number < workers; number++)
        if (pthread_create(&threads[number], NULL, thread, NULL) != 0)
            return 1; // the machine is turned off next, threads or not
    for (int number = 0; number < workers; number++) {
        void *wrong;
        bad += pthread_join(threads[number], &wrong) != 0 || wrong != NULL;
    }
    long expected = (long)workers * ROUNDS;
    return bad + (counted != expected) + (locked != expected);
}

int main(void) {
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    int workers = option("payload_n", 4, MAX_WORKERS);
    passes = option("payload_it", passes, 1000000);
    struct utsname system;
    uname(&system);
    printf("%s %s %s\nPAYLOAD-CPUS %ld\n", system.sysname, system.release, system.machine, sysconf(_SC_NPROCESSORS_ONLN));
    fflush(stdout); // or each child would print it again
    double started = now();
    long bad = run_processes(workers);
    double between = now();
    bad += run_threads(workers);
    printf("PAYLOAD-TIMES processes=%.3f threads=%.3f\n", between - started, now() - between);
    if (bad)
        printf("PAYLOAD-BAD %ld\n", bad);
    else
        puts("PAYLOAD-OK");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 1; // never: a kernel whose first process ends panics
}
