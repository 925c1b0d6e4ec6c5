"""
The parts of libc and libseccomp that pycontain uses, declared in C.

`python -m pycontain.kernel.ffi_source` writes `_ffi.py` beside this file: an out-of-line ABI module
of cffi, which needs no compiler and takes half a millisecond to import. A test regenerates and
compares it, and checks each structure against the system's C headers.
"""

from __future__ import annotations

LIBC = """
/* syscall(2), ioctl(2): cast to the signature of each call in calls.py */
long syscall(long number);
int ioctl(int fd, unsigned long request, void *argument);
int socket(int domain, int type, int protocol);
int flock(int fd, int operation);
int signalfd(int fd, const void *mask, int flags);
int unshare(int flags);
int setns(int fd, int type);
int mount(const char *source, const char *target, const char *type, unsigned long flags,
          const void *data);
int umount2(const char *target, int flags);
int sethostname(const char *name, size_t length);
int setdomainname(const char *name, size_t length);
int personality(unsigned long persona);
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int capset(void *header, const void *data);
int fstatfs(int fd, void *buffer);
int dladdr(const void *address, void *info);
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
typedef struct {                        /* dladdr(3) */
    const char *dli_fname; void *dli_fbase; const char *dli_sname; void *dli_saddr;
} Dl_info;

union bpf_attr {                        /* linux/bpf.h, bpf(2): the commands that are used */
    struct {                            /* BPF_PROG_LOAD */
        uint32_t prog_type, insn_cnt;
        uint64_t insns, license;
        uint32_t log_level, log_size;
        uint64_t log_buf;
        uint32_t kern_version, prog_flags;
        char prog_name[16];
    };
    struct { uint32_t target_fd, attach_bpf_fd, attach_type, attach_flags, replace_bpf_fd; };
    struct { uint32_t prog_id; };       /* BPF_PROG_GET_FD_BY_ID */
    struct { uint32_t bpf_fd, info_len; uint64_t info; } info;
    struct {                            /* BPF_PROG_QUERY */
        uint32_t target_fd, attach_type, query_flags, attach_flags;
        uint64_t prog_ids;
        uint32_t prog_cnt, padding;
        uint64_t padding_of_later[4];   /* 6.17 to 7.1 write here whatever the size */
    } query;
};
struct bpf_prog_info {                  /* linux/bpf.h: up to the name */
    uint32_t type, id;
    uint8_t tag[8];
    uint32_t jited_prog_len, xlated_prog_len;
    uint64_t jited_prog_insns, xlated_prog_insns, load_time;
    uint32_t created_by_uid, nr_map_ids;
    uint64_t map_ids;
    char name[16];
};
"""

SECCOMP = """
/* libseccomp 2.5, seccomp.h */
struct scmp_version { unsigned int major, minor, micro; };
struct scmp_arg_cmp { unsigned int arg; int op; uint64_t datum_a, datum_b; };
const struct scmp_version *seccomp_version(void);
void *seccomp_init(uint32_t default_action);
void seccomp_release(void *context);
int seccomp_arch_add(void *context, uint32_t architecture);
uint32_t seccomp_arch_native(void);
int seccomp_attr_set(void *context, int attribute, uint32_t value);
int seccomp_syscall_resolve_name(const char *name);
int seccomp_syscall_resolve_name_arch(uint32_t architecture, const char *name);
int seccomp_rule_add_array(void *context, uint32_t action, int number,
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
