/*
 * A process that has none of the memory of the one that creates it.
 *
 * What fork(2) creates is a copy, and whoever may inspect it (ptrace(2)) finds in it what its parent
 * has ever read. Here the child's memory is a few pages, from its first moment: everything else of
 * its parent's is marked with MADV_DONTFORK, and is not there. What is left is called the room:
 *
 *     code     the functions of this file that the child runs, copied: no file of the host is mapped
 *     stack
 *     orders   system calls, with what their arguments point to; Python writes them (kernel/bare.py)
 *
 * The child makes those system calls one after the other, execve(2) last. If one fails, it writes a
 * text that was prepared for that case, and exits. It has neither an interpreter nor a C library.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FAILED = 255, STACK = 16 << 10, DIGITS = 5, TAIL = 8, RUN = -1, TOO_LATE = 1 << 16 };

/*
 * The child runs copies of these functions: they may refer to nothing but each other, not even to
 * constants that the compiler would put elsewhere, such as the initial value of an array.
 */
#define COPIED __attribute__((section("bare"), noinline))
extern const char code_begin[] __asm__("__start_bare") __attribute__((visibility("hidden")));
extern const char code_end[] __asm__("__stop_bare") __attribute__((visibility("hidden")));

/*
 * One system call, or RUN: another process makes the next arguments[0] ones, and is killed after the
 * time that arguments[1] points to, if any. arguments[2] points to a struct pollfd that waits for
 * its end, arguments[3] to room for its wait status.
 */
struct call {
    long number;
    long least;                          /* a result below this is a failure */
    long arguments[6];
    char *text;                          /* what is written then: DIGITS and TAIL are its end */
    long length;
    long report;                         /* the descriptor that it is written to */
};

struct orders {
    long count;
    struct call calls[];
};

#if defined(__x86_64__)
#define ENTER "syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\t" \
              "mov %[orders], %%rdi\n\tcall *%[work]\n\thlt\n1:"
#elif defined(__aarch64__)
#define ENTER "svc 0\n\tcbnz x0, 1f\n\tmov x29, xzr\n\tmov x0, %[orders]\n\tblr %[work]\n1:"
#elif defined(__riscv)
#define ENTER "ecall\n\tbnez a0, 1f\n\tmv s0, zero\n\tmv a0, %[orders]\n\tjalr %[work]\n1:"
#else
#error "add the system call instruction of this architecture"
#endif

__attribute__((always_inline)) static inline long make(long number, long a, long b, long c, long d,
                                                       long e, long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#elif defined(__riscv)
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "memory");
    return a0;
#endif
}

COPIED static void perform(struct orders *orders, long index, long end);

/* A child of the bare process makes some calls; 0, -errno, -its wait status or -TOO_LATE. */
COPIED static long run(struct orders *orders, long index)
{
    struct call *call = &orders->calls[index];
    struct pollfd *polled = (struct pollfd *)call->arguments[2];
    int *status = (int *)call->arguments[3];
    long pid = make(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, (long)&polled->fd, 0, 0, 0);
    if (pid < 0)
        return pid;
    if (pid == 0)
        perform(orders, index + 1, index + 1 + call->arguments[0]);
    long ready = make(SYS_ppoll, (long)polled, 1, call->arguments[1], 0, 0, 0);
    if (ready != 1)
        make(SYS_kill, -pid, SIGKILL, 0, 0, 0, 0);      /* its group, which it has made */
    make(SYS_wait4, pid, (long)status, 0, 0, 0, 0);
    make(SYS_close, polled->fd, 0, 0, 0, 0, 0);
    return ready != 1 ? -TOO_LATE : -(long)*status;
}

/* Make the calls from index to end, and exit: the last one, execve, does not return. */
COPIED static void perform(struct orders *orders, long index, long end)
{
    while (index < end) {
        struct call *call = &orders->calls[index];
        long *a = call->arguments;
        long result = call->number == RUN
                          ? run(orders, index)
                          : make(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (result < call->least) {
            unsigned long number = result < 0 ? -result : 0;
            char *digit = call->text + call->length - (TAIL - DIGITS);
            for (long count = call->length ? DIGITS : 0; count > 0; count--, number /= 10)
                *--digit = '0' + number % 10;
            if (call->length)
                make(SYS_write, call->report, (long)call->text, call->length, 0, 0, 0);
            break;
        }
        index += 1 + (call->number == RUN ? a[0] : 0);
    }
    for (;;)
        make(SYS_exit_group, FAILED, 0, 0, 0, 0, 0);
}

COPIED static void work(struct orders *orders)
{
    perform(orders, 0, orders->count);
}

/* clone(2) with another stack, on which the child begins with `begin`; the child's pid, or -errno. */
COPIED static long create(long flags, char *stack, int *pid, struct orders *orders,
                          void (*begin)(struct orders *))
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    long result;
    __asm__ volatile(ENTER
                     : "=a"(result)
                     : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(pid), "r"(r10), "r"(r8),
                       [orders] "r"(orders), [work] "r"(begin)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = flags;
    register char *x1 __asm__("x1") = stack;
    register int *x2 __asm__("x2") = pid;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile(ENTER
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [orders] "r"(orders),
                       [work] "r"(begin)
                     : "memory");
    return x0;
#elif defined(__riscv)
    register long a7 __asm__("a7") = SYS_clone;
    register long a0 __asm__("a0") = flags;
    register char *a1 __asm__("a1") = stack;
    register int *a2 __asm__("a2") = pid;
    register long a3 __asm__("a3") = 0;
    register long a4 __asm__("a4") = 0;
    __asm__ volatile(ENTER
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), [orders] "r"(orders),
                       [work] "r"(begin)
                     : "memory");
    return a0;
#endif
}

static char *base;                       /* of the room */
static size_t size;
static int *shared;                      /* the page that `page` returns */

static PyObject *refused(void)
{
    return PyErr_SetFromErrno(PyExc_OSError);
}

static void *copy_of(void *function)
{
    return base + ((char *)function - code_begin);
}

/* The size of the code's part of the room, which is mapped by itself. */
static size_t code_size(void)
{
    size_t page = sysconf(_SC_PAGESIZE);
    return (code_end - code_begin + page - 1) / page * page;
}

/* <sys/rseq.h> of glibc 2.35; missing in older ones, and in other C libraries. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

#if defined(__x86_64__)
enum { SIGNATURE = 0x53053053 };
#elif defined(__aarch64__)
enum { SIGNATURE = 0xd428bc00 };
#elif defined(__riscv)
enum { SIGNATURE = 0xf1401073 };
#endif

/*
 * Take back the area of rseq(2) that glibc has registered: a child inherits it, and is killed by
 * SIGSEGV if it is not mapped. With which length depends on the versions of glibc and the kernel.
 */
static void leave_rseq(void)
{
    const int unregister = 1, initial = 32, largest = 512;
    if (&__rseq_size == NULL || __rseq_size == 0)
        return;
    char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
    for (int length = initial; length <= largest; length += 4)
        if (syscall(SYS_rseq, area, length, unregister, SIGNATURE) == 0)
            return;
}

PyDoc_STRVAR(room_doc,
"room(size, /)\n--\n\n"
"Make the memory that a bare process will have; returns its part for the orders, of this size.\n\n"
"Raises OSError.");

static PyObject *room(PyObject *module, PyObject *args)
{
    (void)module;
    Py_ssize_t wanted;
    if (!PyArg_ParseTuple(args, "n", &wanted))
        return NULL;
    size_t code = code_size(), whole = code + STACK + wanted;
    char *made = mmap(NULL, whole, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED)
        return refused();
    memcpy(made, code_begin, code_end - code_begin);
    __builtin___clear_cache(made, made + code);
    if (mprotect(made, code, PROT_READ | PROT_EXEC) < 0)
        return refused();
    leave_rseq();
    base = made;
    size = whole;
    return PyMemoryView_FromMemory(base + code + STACK, wanted, PyBUF_WRITE);
}

PyDoc_STRVAR(page_doc,
"page()\n--\n\n"
"A page that this process shares with its children, but not with bare ones: the kernel writes the\n"
"pid of a bare process there. It is always the same one. Raises OSError.");

static PyObject *page(PyObject *module, PyObject *ignored)
{
    (void)module, (void)ignored;
    size_t length = sysconf(_SC_PAGESIZE);
    if (shared == NULL) {
        void *made = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (made == MAP_FAILED)
            return refused();
        shared = made;
    }
    return PyMemoryView_FromMemory((char *)shared, length, PyBUF_WRITE);
}

/* All mappings from one address to another; that there are gaps among them is an error of ENOMEM. */
static int not_inherited(uintptr_t begin, uintptr_t end)
{
    return madvise((void *)begin, end - begin, MADV_DONTFORK) < 0 && errno != ENOMEM;
}

PyDoc_STRVAR(spawn_doc,
"spawn(flags, orders, /)\n--\n\n"
"Create a bare process with clone(2), which carries out the orders at this address in the room;\n"
"returns its pid. With CLONE_PARENT_SETTID the kernel writes that into the page, before the process\n"
"runs. Raises OSError.");

static PyObject *spawn(PyObject *module, PyObject *args)
{
    (void)module;
    long flags;
    unsigned long long orders;
    if (!PyArg_ParseTuple(args, "lK", &flags, &orders))
        return NULL;
    uintptr_t last = UINTPTR_MAX & -(uintptr_t)sysconf(_SC_PAGESIZE);
    if (not_inherited(0, (uintptr_t)base) || not_inherited((uintptr_t)base + size, last))
        return refused();
    void (*begin)(struct orders *) = copy_of(work);
    long (*create_there)(long, char *, int *, struct orders *, void (*)(struct orders *)) =
        copy_of(create);
    long pid = create_there(flags, base + code_size() + STACK, shared, (void *)(uintptr_t)orders,
                            begin);
    if (pid < 0) {
        errno = -pid;
        return refused();
    }
    return PyLong_FromLong(pid);
}

static PyMethodDef functions[] = {
    {"room", room, METH_VARARGS, room_doc},
    {"page", page, METH_NOARGS, page_doc},
    {"spawn", spawn, METH_VARARGS, spawn_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_bare",
    .m_doc = "A process that has none of the memory of the one that creates it.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__bare(void)
{
    return PyModuleDef_Init(&definition);
}
