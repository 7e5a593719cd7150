/* Preloaded into a process: its time of day is off by what a file says, which may change while it runs.

   Some ask libc, whose functions are replaced. ClickHouse asks the vDSO without libc between: it finds a copy of it
   whose functions are redirected. x86-64 only; elsewhere its clock is right, and the fault is not counted. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
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

static Elf64_auxv_t *auxiliary;
/* What the kernel has told the process, once the vDSO in it is replaced. */

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

/* Programs that link to libc for the time. */
int clock_gettime(clockid_t clock, struct timespec *at) {
    if (!offset)
        return (int)syscall(SYS_clock_gettime, clock, at);
    return clock_off(clock, at);
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

#ifdef __x86_64__
static void redirect(uint8_t *from, const void *to) {
    static const uint8_t jump[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0}; /* movabs rax, to; jmp rax */
    memcpy(from, jump, sizeof jump);
    memcpy(from + 2, &to, sizeof to);
}

static void redirect_all(uint8_t *base) {
    static const struct {
        const char *name;
        const void *to;
    } functions[] = {
        {"__vdso_clock_gettime", clock_gettime}, {"__vdso_gettimeofday", gettimeofday}, {"__vdso_time", time}};
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

/* A copy of the vDSO, as newer kernels seal the page itself. Only what is found by symbols may run in it: the data
   that the functions read lies beside the original. */
static uint8_t *copied(const uint8_t *base) {
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)base;
    const Elf64_Phdr *part = (const Elf64_Phdr *)(base + head->e_phoff);
    size_t size = 0;
    for (int number = 0; number < head->e_phnum; number++)
        if (part[number].p_type == PT_LOAD && part[number].p_offset + part[number].p_memsz > size)
            size = part[number].p_offset + part[number].p_memsz;
    size = (size + PAGE - 1) & ~(PAGE - 1);
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return NULL;
    memcpy(made, base, size);
    return made;
}

/* Programs that look for the vDSO by themselves find the copy: behind the environment, and in /proc/self/auxv. */
static void replace_vdso(void) {
    char **entry = environ;
    while (*entry)
        entry++;
    auxiliary = (Elf64_auxv_t *)(entry + 1);
    for (Elf64_auxv_t *one = auxiliary; one->a_type != AT_NULL; one++)
        if (one->a_type == AT_SYSINFO_EHDR) {
            uint8_t *copy = copied((const uint8_t *)one->a_un.a_val);
            if (copy) {
                redirect_all(copy);
                one->a_un.a_val = (uint64_t)copy;
            }
        }
}
#endif

static int open_auxiliary(void) {
    size_t count = 1;
    while (auxiliary[count - 1].a_type != AT_NULL)
        count++;
    int file = memfd_create("auxv", MFD_CLOEXEC);
    if (file >= 0 && write(file, auxiliary, count * sizeof *auxiliary) >= 0)
        lseek(file, 0, SEEK_SET);
    return file;
}

static int opened(const char *path, int flags, mode_t mode) {
    if (auxiliary && !strcmp(path, "/proc/self/auxv"))
        return open_auxiliary();
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags | O_LARGEFILE, mode);
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
    replace_vdso();
#endif
}
