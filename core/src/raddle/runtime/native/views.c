/* SPDX-License-Identifier: Apache-2.0 */
/* Host memory for translated code: two views of the same pages, one to write and one to execute, so that no address is
 * both writable and executable; or one view for both, if the host or the user wants it so. */
#include "internal.h"

#include <errno.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_APART  ((uint64_t)1 << 36)
#define LEAST_APART ((uint64_t)1 << 21)

static uint64_t random_number(void)
{
    uint64_t number;
    if (syscall(SYS_getrandom, &number, sizeof number, 0) != (long)sizeof number)
        number = now_ns() * 0x9e3779b97f4a7c15u; /* better than none */
    return number;
}

/* A random free address in a stretch that the kernel has chosen; NULL, which lets the kernel choose, if there is no
 * such stretch. The kernel by itself puts mappings side by side, so that the address of one view would reveal the
 * other. */
static void *random_place(uint64_t size)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    for (uint64_t apart = MOST_APART; apart >= LEAST_APART; apart /= 2) { /* address space may be limited */
        void *stretch = mmap(NULL, apart + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stretch == MAP_FAILED)
            continue;
        munmap(stretch, apart + size);
        return (uint8_t *)stretch + random_number() % (apart / page) * page;
    }
    return NULL;
}

static int views_set(struct code_views *views, void *rw, void *rx)
{
    if (rw != MAP_FAILED && rx != MAP_FAILED) {
        views->rw = rw;
        views->rx = rx;
        return 0;
    }
    int error = errno;
    if (rw != MAP_FAILED)
        munmap(rw, views->size);
    if (rx != MAP_FAILED)
        munmap(rx, views->size);
    errno = error;
    return -1;
}

/* Maps a file without a name twice: writable at `place`, or anywhere if that is NULL, and executable. Old C libraries
 * have no function for the system call. */
static int map_file_twice(struct code_views *views, void *place)
{
    void *rw = MAP_FAILED, *rx = MAP_FAILED;
    int fd = (int)syscall(SYS_memfd_create, "raddle-code", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)views->size) == 0)
        rx = mmap(NULL, views->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (rx != MAP_FAILED)
        rw = mmap(place, views->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int result = views_set(views, rw, rx), error = errno;
    close(fd);
    errno = error;
    return result;
}

/* Without a file: moving 0 bytes of a shared mapping maps its pages a second time. */
static int map_shared_twice(struct code_views *views, void *place)
{
    void *rw = mmap(place, views->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *rx = rw == MAP_FAILED ? rw : mremap(rw, 0, views->size, MREMAP_MAYMOVE);
    if (rx != MAP_FAILED && mprotect(rx, views->size, PROT_READ | PROT_EXEC)) {
        int error = errno;
        munmap(rx, views->size);
        errno = error;
        rx = MAP_FAILED;
    }
    return views_set(views, rw, rx);
}

static int map_once(struct code_views *views)
{
    int access = PROT_READ | PROT_WRITE | PROT_EXEC;
    void *both = mmap(NULL, views->size, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return views_set(views, both, both);
}

static int map(struct code_views *views, uint64_t size, uint32_t flags, bool hidden)
{
    *views = (struct code_views){.size = size};
    if (flags & RADDLE_FLAG_DUAL_MAP) {
        void *place = hidden ? random_place(size) : NULL;
        if (!map_file_twice(views, place) || !map_shared_twice(views, place))
            return 0;
    }
    return flags & RADDLE_FLAG_DUAL_ONLY ? -1 : map_once(views);
}

int views_map(struct code_views *views, uint64_t size, uint32_t flags)
{
    return map(views, size, flags, true);
}

/* A page to try the host with. Its addresses need not be hidden: looking for a random place costs a second and half a
 * gigabyte under QEMU 7.2's emulation of user programs, which keeps records of each page in the stretch. */
static int map_trial(struct code_views *views, uint32_t flags)
{
    return map(views, (uint64_t)sysconf(_SC_PAGESIZE), flags, false);
}

void views_unmap(struct code_views *views)
{
    if (views->rx)
        munmap(views->rx, views->size);
    if (views->rw != views->rx)
        munmap(views->rw, views->size);
    *views = (struct code_views){0};
}

int raddle_code_trial(uint32_t flags, const void *first, const void *second, uint32_t size, uint32_t *results)
{
    struct code_views views;
    if (size > (uint64_t)sysconf(_SC_PAGESIZE))
        return -EINVAL;
    if (map_trial(&views, flags))
        return -errno;
    const void *codes[] = {first, second};
    uint32_t (*function)(void) = (uint32_t (*)(void))(uintptr_t)views.rx;
    for (int i = 0; i < 2; i++) {
        memcpy(views.rw, codes[i], size);
        __builtin___clear_cache((char *)views.rx, (char *)views.rx + size);
        results[i] = function();
    }
    views_unmap(&views);
    return 0;
}

int raddle_code_views(uint32_t flags)
{
    struct code_views views;
    if (map_trial(&views, flags))
        return -errno;
    int count = views.rw == views.rx ? 1 : 2;
    views_unmap(&views);
    return count;
}
