/* Preloaded into a process: its time of day is off by what a file says, which may change while it runs.

   Programs ask the vDSO for the time, often without libc between: so its functions are redirected, in this process's
   own copy of the page. x86-64 only; elsewhere nothing is redirected, and the clock is right. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define PAGE 4096UL

static volatile const int64_t *offset;

static struct timespec moved(struct timespec at, int64_t by) {
    int64_t all = at.tv_sec * SECOND + at.tv_nsec + by;
    return (struct timespec){all / SECOND, all % SECOND};
}

static int clock_off(clockid_t clock, struct timespec *at) {
    long code = syscall(SYS_clock_gettime, clock, at);
    if (!code && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *at = moved(*at, *offset);
    return (int)code;
}

static int timeval_off(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    clock_off(CLOCK_REALTIME, &now);
    if (at)
        *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

static time_t seconds_off(time_t *at) {
    struct timespec now;
    clock_off(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

/* The kernel's own clock is right: what waits until an instant of ours must ask it for that instant of its own. */
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    static int (*original)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!original)
        original = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlsym(
            RTLD_NEXT, "pthread_cond_timedwait");
    int monotonic = condition->__data.__wrefs & 2; /* glibc */
    struct timespec at = moved(*until, offset && !monotonic ? -*offset : 0);
    return original(condition, mutex, &at);
}

static void redirect(uint8_t *from, const void *to) {
    static const uint8_t jump[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0}; /* movabs rax, to; jmp rax */
    uintptr_t first = (uintptr_t)from & ~(PAGE - 1), last = ((uintptr_t)from + sizeof jump) & ~(PAGE - 1);
    if (mprotect((void *)first, last - first + PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
        return;
    memcpy(from, jump, sizeof jump);
    memcpy(from + 2, &to, sizeof to);
}

static void redirect_all(uint8_t *base) {
    static const struct {
        const char *name;
        const void *to;
    } functions[] = {
        {"__vdso_clock_gettime", clock_off}, {"__vdso_gettimeofday", timeval_off}, {"__vdso_time", seconds_off}};
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)base;
    const Elf64_Phdr *part = (const Elf64_Phdr *)(base + head->e_phoff);
    const Elf64_Dyn *entry = NULL;
    uint8_t *load = base;
    for (int number = 0; number < head->e_phnum; number++) {
        if (part[number].p_type == PT_DYNAMIC)
            entry = (const Elf64_Dyn *)(base + part[number].p_offset);
        if (part[number].p_type == PT_LOAD)
            load = base + part[number].p_offset - part[number].p_vaddr;
    }
    const Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    for (; entry && entry->d_tag; entry++) {
        if (entry->d_tag == DT_SYMTAB)
            symbols = (const Elf64_Sym *)(load + entry->d_un.d_ptr);
        if (entry->d_tag == DT_STRTAB)
            names = (const char *)(load + entry->d_un.d_ptr);
    }
    /* the names follow the symbols */
    for (const Elf64_Sym *symbol = symbols; symbol && (const char *)(symbol + 1) <= names; symbol++)
        for (size_t number = 0; number < sizeof functions / sizeof *functions; number++)
            if (!strcmp(names + symbol->st_name, functions[number].name))
                redirect(load + symbol->st_value, functions[number].to);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TORTURE_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found == MAP_FAILED)
        return;
    offset = found;
#ifdef __x86_64__
    uint8_t *base = (uint8_t *)getauxval(AT_SYSINFO_EHDR);
    if (base)
        redirect_all(base);
#endif
}
