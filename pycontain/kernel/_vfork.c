/*
 * A child that shares its parent's memory until execve(2), as one of vfork(2) does.
 *
 * fork(2) would copy the page tables, and then every page that either side writes: half the cost of
 * a container's child written in Python. Here nothing is copied: the parent sleeps in clone3(2)
 * while the child runs Python in the parent's memory, on its stack, in its interpreter. The parent
 * then finds what the child has stored there (times, an error).
 *
 * This cannot be Python: the child must have returned from the interpreter when it executes its
 * program, or the parent would resume among the stack frames of a child that no longer exists.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FAILED = 255, WATCH_STACK = 128 << 10, TIME_TO_EXECUTE = 500 /* milliseconds */ };

extern char **environ;

struct shared {
    PyObject *live;                      /* called in the child */
    PyObject *refuse;                    /* called in the child if execve fails, with the errno */
    PyObject *program;                   /* what `live` returned */
    char *path, **arguments, **environment;
    int started;                         /* the child has run: it may be killed before that */
    int outside;                         /* the child is not inside a Python function */
};

/*
 * Inlined, and not a function of libc: the child's next call would overwrite the return address of
 * a function that the parent has yet to return from.
 */
__attribute__((always_inline)) static inline long clone3(void *arguments, size_t size)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_clone3), "D"(arguments), "S"(size)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3;
    register long first __asm__("x0") = (long)arguments;
    register long second __asm__("x1") = (long)size;
    __asm__ volatile("svc 0" : "+r"(first) : "r"(second), "r"(number) : "memory");
    return first;
#elif defined(__riscv)
    register long number __asm__("a7") = SYS_clone3;
    register long first __asm__("a0") = (long)arguments;
    register long second __asm__("a1") = (long)size;
    __asm__ volatile("ecall" : "+r"(first) : "r"(second), "r"(number) : "memory");
    return first;
#else
#error "add the system call instruction of this architecture"
#endif
}

/* The pointers of a tuple of bytes, followed by NULLs; NULL with an exception on failure. */
static char **vector(PyObject *tuple, int nulls)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 0)
        return NULL;
    char **made = PyMem_Calloc(count + nulls, sizeof *made);
    if (made == NULL)
        return (char **)PyErr_NoMemory();
    for (Py_ssize_t index = 0; index < count; index++) {
        /* with NULL for the length it refuses embedded NULs */
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(tuple, index), &made[index], NULL) < 0) {
            PyMem_Free(made);
            return NULL;
        }
    }
    return made;
}

static int prepare(struct shared *shared)
{
    shared->program = PyObject_CallNoArgs(shared->live);
    if (shared->program == NULL)
        return -1;
    PyObject *arguments, *environment;
    if (!PyArg_ParseTuple(shared->program, "yO!O!", &shared->path, &PyTuple_Type, &arguments,
                          &PyTuple_Type, &environment))
        return -1;
    shared->arguments = vector(arguments, 1);
    shared->environment = shared->arguments ? vector(environment, 1) : NULL;
    return shared->environment ? 0 : -1;
}

/* Never inlined: what it writes to the stack must lie below the parent's own frame. */
__attribute__((noinline, noreturn)) static void child(struct shared *shared)
{
    shared->started = 1;
    if (prepare(shared) == 0) {
        shared->outside = 1;
        execve(shared->path, shared->arguments, shared->environment);
        shared->outside = 0;
        PyObject *result = PyObject_CallFunction(shared->refuse, "i", errno);
        Py_XDECREF(result);
    }
    shared->outside = 1;
    _exit(FAILED);
}

static void release(struct shared *shared)
{
    PyMem_Free(shared->arguments);
    PyMem_Free(shared->environment);
    Py_XDECREF(shared->program);
}

/*
 * The child was killed inside a Python function, which may have left any of the shared memory half
 * written. Another program does what is left to do.
 */
__attribute__((noreturn)) static void become_recovery(char **recovery, long pid)
{
    char number[24];
    char **end = recovery;
    while (*end)
        end++;
    snprintf(number, sizeof number, "%ld", pid);
    *end = number;
    execve(recovery[0], recovery + 1, environ);
    _exit(FAILED);
}

/*
 * Ends the wait for a child that does not come to its execve, because somebody has stopped it: while
 * the parent sleeps in clone3(2), only another thread of its can act on a signal or a deadline. That
 * thread runs no Python, since the parent holds the interpreter's lock.
 */
struct watch {
    int signals;                         /* readable when the child is to be killed; -1 for never */
    int timeout;                         /* milliseconds until it is; -1 for never */
    volatile int *pidfd;                 /* of the child; clone3 fills it in */
    volatile int *outside;               /* the child is about to execute its program, or has */
    int ended;                           /* an eventfd: the wait is over */
    pthread_t thread;
};

/* Milliseconds since some time in the past. */
static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/*
 * Wait until a descriptor is readable, or for this many milliseconds, -1 for ever. poll(2) also
 * returns after a signal handler; only libc's own signals are not blocked in this thread, or those
 * that whoever has imported this module lets through.
 */
static void wait_for(struct pollfd *polled, nfds_t count, int timeout)
{
    long long end = now() + timeout;
    int left = timeout;
    while (poll(polled, count, left) < 0 && errno == EINTR) {
        if (timeout >= 0) {
            long long rest = end - now();
            left = rest > 0 ? (int)rest : 0;
        }
    }
}

static void *watch(void *argument)
{
    struct watch *watch = argument;
    struct pollfd polled[] = {{watch->ended, POLLIN, 0}, {watch->signals, POLLIN, 0}};
    wait_for(polled, 2, watch->timeout);
    while (!polled[0].revents && *watch->pidfd < 0)
        wait_for(polled, 1, 1);          /* the child is about to be created */
    if (!polled[0].revents && *watch->outside)
        wait_for(polled, 1, TIME_TO_EXECUTE);
    if (!polled[0].revents)
        syscall(SYS_pidfd_send_signal, *watch->pidfd, SIGKILL, NULL, 0);
    return NULL;
}

/* Returns 0, or an errno. */
static int start_watch(struct watch *started)
{
    if (started->signals < 0 && started->timeout < 0)
        return 0;
    started->ended = eventfd(0, EFD_CLOEXEC);
    if (started->ended < 0)
        return errno;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WATCH_STACK);
    int failed = pthread_create(&started->thread, &attributes, watch, started);
    pthread_attr_destroy(&attributes);
    if (failed) {
        close(started->ended);
        started->ended = -1;
    }
    return failed;
}

static void end_watch(struct watch *started)
{
    if (started->ended < 0)
        return;
    eventfd_write(started->ended, 1);
    pthread_join(started->thread, NULL);
    close(started->ended);
}

PyDoc_STRVAR(spawn_doc,
"spawn(arguments, live, refuse, recovery, signals, timeout, /)\n--\n\n"
"Create a child with clone3(2); returns its pid once it has executed its program, or was killed\n"
"before it called anything.\n\n"
"arguments  a struct clone_args, with CLONE_VM and CLONE_VFORK among its flags\n"
"live       called in the child; returns (path, arguments, environment) for execve(2), as bytes\n"
"           and tuples of bytes\n"
"refuse     called in the child with the errno if execve fails\n"
"recovery   (path, arguments...) of the program that this process executes if the child is killed\n"
"           in `live`; the child's pid is the last argument\n"
"signals    a descriptor that is readable when the child is to be killed, -1 for none\n"
"timeout    milliseconds until it is, -1 for never\n\n"
"Raises what either function raises, after the child has exited; returns -errno if clone3 fails.");

static PyObject *spawn(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer arguments;
    PyObject *last;
    struct shared shared = {0};
    struct watch watch = {.ended = -1, .outside = &shared.outside};
    if (!PyArg_ParseTuple(args, "y*OOO!ii", &arguments, &shared.live, &shared.refuse, &PyTuple_Type,
                          &last, &watch.signals, &watch.timeout))
        return NULL;
    char **recovery = vector(last, 2);
    if (recovery == NULL) {
        PyBuffer_Release(&arguments);
        return NULL;
    }
    watch.pidfd = (int *)(uintptr_t)((uint64_t *)arguments.buf)[1];  /* struct clone_args */
    int failed = start_watch(&watch);
    long pid = failed ? -failed : clone3(arguments.buf, arguments.len);
    if (pid == 0)
        child(&shared);
    if (pid > 0 && shared.started && !shared.outside)
        become_recovery(recovery, pid);
    end_watch(&watch);
    PyMem_Free(recovery);
    PyBuffer_Release(&arguments);
    release(&shared);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(pid);
}

struct program {
    char *path, **arguments, **environment;
    int streams[3];
    int folder;
};

/* Carried out by a child of vfork(2): nothing here may change memory that the parent uses. */
static int become(const struct program *program, pid_t parent)
{
    struct sigaction ignored, usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || setpgid(0, 0) < 0)
        return errno;
    for (int stream = 0; stream < 3; stream++)
        if (dup2(program->streams[stream], stream) < 0)
            return errno;
    if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0 || fchdir(program->folder) < 0)
        return errno;
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &usual, &ignored);  /* it fails for two, and for those of libc */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(program->path, program->arguments, program->environment);
    return errno;
}

/* A function of its own: its caller's variables are not the child's to change. */
__attribute__((noinline)) static pid_t begin(const struct program *program, volatile int *failed)
{
    pid_t parent = getpid(), pid = vfork();
    if (pid == 0) {
        *failed = become(program, parent);
        _exit(FAILED);
    }
    return pid;
}

PyDoc_STRVAR(start_doc,
"start(path, arguments, environment, streams, folder, /)\n--\n\n"
"Start a program that is killed when this thread ends; returns its pid.\n\n"
"streams  the descriptors that become its standard ones, all greater than 2: it gets no others\n"
"folder   a descriptor of its working directory\n\n"
"It has a process group of its own, and signals as after a boot. Raises OSError.");

static PyObject *start(PyObject *module, PyObject *args)
{
    (void)module;
    struct program program;
    PyObject *arguments, *environment;
    int *streams = program.streams;
    if (!PyArg_ParseTuple(args, "yO!O!(iii)i", &program.path, &PyTuple_Type, &arguments,
                          &PyTuple_Type, &environment, &streams[0], &streams[1], &streams[2],
                          &program.folder))
        return NULL;
    program.arguments = vector(arguments, 1);
    program.environment = program.arguments ? vector(environment, 1) : NULL;
    volatile int failed = 0;
    pid_t pid = -1;
    if (program.environment) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);  /* no handler of ours may run in the child */
        pid = begin(&program, &failed);
        failed = pid < 0 ? errno : failed;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    PyMem_Free(program.arguments);
    PyMem_Free(program.environment);
    if (PyErr_Occurred())
        return NULL;
    if (!failed)
        return PyLong_FromLong(pid);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    errno = failed;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyMethodDef functions[] = {
    {"spawn", spawn, METH_VARARGS, spawn_doc},
    {"start", start, METH_VARARGS, start_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_vfork",
    .m_doc = "A child that shares its parent's memory until execve(2).",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__vfork(void)
{
    return PyModuleDef_Init(&definition);
}
