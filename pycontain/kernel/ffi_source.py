"""
What pycontain needs of libc and libseccomp, declared in C.

`python -m pycontain.kernel.ffi_source` writes `_ffi.py` beside this file: an out-of-line ABI module
of cffi, which needs no compiler where it runs and costs half a millisecond to import. A test makes
it again and compares, and checks each structure against the system's C headers.
"""

from __future__ import annotations

LIBC = """
/* syscall(2), ioctl(2): cast to the shape of each call in calls.py */
long syscall(long number);
int ioctl(int fd, unsigned long request, void *argument);
int unshare(int flags);
int setns(int fd, int type);
int umount2(const char *target, int flags);
int sethostname(const char *name, size_t length);
int setdomainname(const char *name, size_t length);
int personality(unsigned long persona);
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int capget(void *header, void *data);
int capset(void *header, const void *data);
int fstatfs(int fd, void *buffer);
void *signal(int number, void *handler);
int prlimit(int pid, int resource, const void *new_limit, void *old_limit);

struct clone_args {                     /* linux/sched.h, clone(2) */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    uint64_t set_tid, set_tid_size, cgroup;
};
struct open_how { uint64_t flags, mode, resolve; };                      /* linux/openat2.h */
struct mount_attr { uint64_t attr_set, attr_clr, propagation, userns_fd; };  /* linux/mount.h */
struct sched_attr {                     /* linux/sched/types.h, sched_setattr(2) */
    uint32_t size, sched_policy;
    uint64_t sched_flags;
    int32_t sched_nice;
    uint32_t sched_priority;
    uint64_t sched_runtime, sched_deadline, sched_period;
};
struct __user_cap_header_struct { uint32_t version; int pid; };          /* linux/capability.h */
struct __user_cap_data_struct { uint32_t effective, permitted, inheritable; };
struct rlimit { unsigned long rlim_cur, rlim_max; };
struct winsize { unsigned short ws_row, ws_col, ws_xpixel, ws_ypixel; };
struct ifreq { char ifr_name[16]; short ifr_flags; char padding[22]; };  /* netdevice(7) */
struct sock_filter { uint16_t code; uint8_t jt, jf; uint32_t k; };       /* linux/filter.h */
struct sock_fprog { unsigned short len; struct sock_filter *filter; };
"""

SECCOMP = """
/* libseccomp 2.5, seccomp.h */
struct scmp_version { unsigned int major, minor, micro; };
struct scmp_arg_cmp { unsigned int arg; int op; uint64_t datum_a, datum_b; };
const struct scmp_version *seccomp_version(void);
unsigned int seccomp_api_get(void);
void *seccomp_init(uint32_t default_action);
void seccomp_release(void *context);
int seccomp_arch_add(void *context, uint32_t architecture);
int seccomp_arch_remove(void *context, uint32_t architecture);
uint32_t seccomp_arch_native(void);
uint32_t seccomp_arch_resolve_name(const char *name);
int seccomp_attr_set(void *context, int attribute, uint32_t value);
int seccomp_syscall_resolve_name(const char *name);
int seccomp_syscall_resolve_name_arch(uint32_t architecture, const char *name);
int seccomp_rule_add_array(void *context, uint32_t action, int number,
                           unsigned int count, const struct scmp_arg_cmp *comparisons);
int seccomp_rule_add_exact_array(void *context, uint32_t action, int number,
                                 unsigned int count, const struct scmp_arg_cmp *comparisons);
int seccomp_export_bpf(void *context, int fd);
"""


def generate(path: str) -> None:
    """Write the binding module to this path."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(LIBC + SECCOMP)
    ffi.set_source("pycontain.kernel._ffi", None)
    ffi.emit_python_code(path)


if __name__ == "__main__":
    generate(__file__.replace("ffi_source", "_ffi"))
