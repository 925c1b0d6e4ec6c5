/*
 * A child that shares its parent's memory until execve(2), as one of vfork(2) does.
 *
 * fork(2) would copy the page tables, and then every page that either side writes: half of what a
 * container's child written in Python costs. Here nothing is copied: the parent sleeps in clone3(2)
 * while the child runs Python in its memory, on its stack, in its interpreter, and what the child
 * leaves there (times, an error) the parent finds.
 *
 * This cannot be Python: the child must have left the interpreter, by returning, when it executes
 * its program, or the parent would wake up among the frames of a child that is gone.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FAILED = 255 };

extern char **environ;

struct shared {
    PyObject *live;                      /* what the child does */
    PyObject *refuse;                    /* what it does when execve fails, with the errno */
    PyObject *program;                   /* what `live` returned */
    char *path, **arguments, **environment;
    int begun;                           /* the child has come to life: not every one does */
    int whole;                           /* its last Python function has returned */
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
#error "write down how this architecture makes a system call"
#endif
}

/* The pointers of a tuple of bytes, ended by NULLs; NULL with an exception otherwise. */
static char **vector(PyObject *tuple, int nulls)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 0)
        return NULL;
    char **made = PyMem_Calloc(count + nulls, sizeof *made);
    if (made == NULL)
        return (char **)PyErr_NoMemory();
    for (Py_ssize_t index = 0; index < count; index++) {
        /* without a place for the length it refuses a NUL inside */
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
    shared->begun = 1;
    if (prepare(shared) == 0) {
        shared->whole = 1;
        execve(shared->path, shared->arguments, shared->environment);
        shared->whole = 0;
        PyObject *result = PyObject_CallFunction(shared->refuse, "i", errno);
        Py_XDECREF(result);
    }
    shared->whole = 1;
    _exit(FAILED);
}

static void release(struct shared *shared)
{
    PyMem_Free(shared->arguments);
    PyMem_Free(shared->environment);
    Py_XDECREF(shared->program);
}

/*
 * The child was killed among its Python functions: no one can tell what they were writing to. What
 * is left to do is done by another program.
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

PyDoc_STRVAR(spawn_doc,
"spawn(arguments, live, refuse, recovery, /)\n--\n\n"
"Make a child with clone3(2); returns its pid once it has executed its program, or was killed\n"
"before it called anything.\n\n"
"arguments  a struct clone_args, with CLONE_VM and CLONE_VFORK among its flags\n"
"live       called in the child; returns (path, arguments, environment) for execve(2), as bytes\n"
"           and tuples of bytes\n"
"refuse     called in the child with the errno of an execve that failed\n"
"recovery   (path, arguments...), what this process becomes when the child is killed in `live`;\n"
"           the child's pid is the last argument\n\n"
"Raises what either of them raises, with the child gone; without a child returns -errno.");

static PyObject *spawn(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer arguments;
    PyObject *last;
    struct shared shared = {0};
    if (!PyArg_ParseTuple(args, "y*OOO!", &arguments, &shared.live, &shared.refuse, &PyTuple_Type,
                          &last))
        return NULL;
    char **recovery = vector(last, 2);
    if (recovery == NULL) {
        PyBuffer_Release(&arguments);
        return NULL;
    }
    long pid = clone3(arguments.buf, arguments.len);
    if (pid == 0)
        child(&shared);
    if (pid > 0 && shared.begun && !shared.whole)
        become_recovery(recovery, pid);
    PyMem_Free(recovery);
    PyBuffer_Release(&arguments);
    release(&shared);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(pid);
}

static PyMethodDef functions[] = {
    {"spawn", spawn, METH_VARARGS, spawn_doc},
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
