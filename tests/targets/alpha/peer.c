/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs some instructions from a given state, under an emulator of Linux programs for Alpha: the standard input
 * has records, and each is answered by the record as it is afterwards. Freestanding; peer.S has the instructions' place.
 */
#include <linux/mman.h>
#include <asm/sigcontext.h>
#include <asm/signal.h>
#include <asm/unistd.h>

#define WINDOW 0x20010000UL
#define WINDOW_SIZE 0x4000UL

struct record {
    unsigned long r[31], f[31], fpcr;
    unsigned char memory[64]; /* at the beginning of the window */
    unsigned code[16];        /* the instructions */
    unsigned long exit;       /* 0: after the last one, 1: at the next word, 0x100 + the number of a signal */
    unsigned long pc;         /* after a signal, as the handler sees it */
};

struct context {
    unsigned long flags, link, mask;
    stack_t stack;
    struct sigcontext state;
};

struct action {
    void (*handler)(int, void *, struct context *);
    unsigned long flags, mask;
};

extern struct record record;
extern unsigned int slot[];
void run(void);
void leave(void);

static unsigned char handler_stack[65536];

static long call(long number, long a0, long a1, long a2, long a3, long a4, long a5)
{
    register long v0 __asm__("$0") = number;
    register long r16 __asm__("$16") = a0;
    register long r17 __asm__("$17") = a1;
    register long r18 __asm__("$18") = a2;
    register long r19 __asm__("$19") = a3;
    register long r20 __asm__("$20") = a4;
    register long r21 __asm__("$21") = a5;
    __asm__ volatile("callsys"
                     : "+r"(v0), "+r"(r19)
                     : "r"(r16), "r"(r17), "r"(r18), "r"(r20), "r"(r21)
                     : "memory", "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$22", "$23", "$24", "$25", "$27",
                       "$28");
    return r19 ? -v0 : v0;
}

static void fill(void *place, const void *source, unsigned long size)
{
    volatile unsigned char *to = place;
    const unsigned char *from = source;
    while (size--)
        *to++ = *from++;
}

/* Signals do not return: the record gets the state that was interrupted, and `leave` unwinds `run`. */
static void handle(int number, void *info, struct context *context)
{
    struct sigcontext *state = &context->state;
    fill(record.r, state->sc_regs, sizeof record.r);
    fill(record.f, state->sc_fpregs, sizeof record.f);
    record.fpcr = state->sc_fpcr;
    record.exit = 0x100 + number;
    record.pc = state->sc_pc;
    leave();
}

static int whole(long number, int file)
{
    unsigned long done = 0;
    while (done < sizeof record) {
        long count = call(number, file, (long)&record + done, sizeof record - done, 0, 0, 0);
        if (count <= 0)
            return 0;
        done += count;
    }
    return 1;
}

void begin(void)
{
    static const int signals[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
    static struct action action = {handle, SA_SIGINFO | SA_ONSTACK | SA_NODEFER, 0};
    static stack_t stack = {handler_stack, 0, sizeof handler_stack};
    call(__NR_sigaltstack, (long)&stack, 0, 0, 0, 0, 0);
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        call(__NR_rt_sigaction, signals[i], (long)&action, 0, 8, 0, 0);
    call(__NR_mmap, WINDOW, WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    while (whole(__NR_read, 0)) {
        for (unsigned i = 0; i < sizeof record.code / sizeof *record.code; i++)
            slot[i] = record.code[i];
        fill((void *)WINDOW, record.memory, sizeof record.memory);
        __asm__ volatile("imb" ::: "memory");
        run();
        fill(record.memory, (void *)WINDOW, sizeof record.memory);
        if (!whole(__NR_write, 1))
            break;
    }
    call(__NR_exit, 0, 0, 0, 0, 0, 0);
}
