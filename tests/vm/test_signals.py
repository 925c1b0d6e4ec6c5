"""Signals of programs: what a C program sees in a VM is what it sees natively."""

from __future__ import annotations

import subprocess

import pytest

from tests.vm.programs import compile_c, run

__all__ = ["compile_c"]  # a fixture

HEAD = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static volatile int count, last;
static void on(int signal) { count++; last = signal; }
static void set(int signal, void (*to)(int), int flags) {
    struct sigaction a = { .sa_handler = to, .sa_flags = flags };
    sigaction(signal, &a, 0);
}
static void timer(int first, int again) {
    struct itimerval t = { { 0, again }, { 0, first } };
    setitimer(ITIMER_REAL, &t, 0);
}
"""

PROGRAMS = {
    "a handler runs": 'set(10, on, 0); raise(10); printf("%d %d\\n", count, last);',
    "a handler is reset": 'set(10, on, SA_RESETHAND); raise(10); puts("one"); fflush(stdout); raise(10);',
    "siginfo names the sender": r"""
        void info(int s, siginfo_t *i, void *c) {
            printf("%d %d %d\n", s, i->si_code, i->si_pid == getpid());
        }
        MAIN struct sigaction a = { .sa_sigaction = info, .sa_flags = SA_SIGINFO };
        sigaction(12, &a, 0); kill(getpid(), 12);""",
    "a fault has an address": r"""
        static sigjmp_buf back; static char *at;
        void info(int s, siginfo_t *i, void *c) {
            at = i->si_addr; last = i->si_code; siglongjmp(back, 1);
        }
        MAIN struct sigaction a = { .sa_sigaction = info, .sa_flags = SA_SIGINFO };
        sigaction(SIGSEGV, &a, 0);
        char *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (!sigsetjmp(back, 1)) page[5] = 1;
        printf("%ld %d\n", (long)(at - page), last);
        if (!sigsetjmp(back, 1)) *(volatile int *)8 = 1;
        printf("%ld %d\n", (long)at, last);""",
    "a handler repairs a fault": r"""
        static char *page;
        void repair(int s) { count++; mprotect(page, 4096, PROT_READ | PROT_WRITE); }
        MAIN set(SIGSEGV, repair, 0);
        page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        page[0] = 7; printf("%d %d\n", page[0], count);""",
    "an overflow runs on the other stack": r"""
        static sigjmp_buf back; static char other[65536];
        void over(int s) { char here; last = &here >= other && &here < other + 65536; siglongjmp(back, 1); }
        int deep(int n) { volatile char fill[4096]; fill[n % 4096] = n; return deep(n + 1) + fill[0]; }
        MAIN stack_t st = { .ss_sp = other, .ss_size = sizeof other };
        sigaltstack(&st, 0); set(SIGSEGV, over, SA_ONSTACK);
        if (!sigsetjmp(back, 1)) deep(0);
        printf("%d\n", last);""",
    "a blocked signal waits": r"""
        sigset_t s, p; sigemptyset(&s); sigaddset(&s, 10); set(10, on, 0);
        sigprocmask(SIG_BLOCK, &s, 0); raise(10); raise(10);
        sigpending(&p); printf("%d %d\n", count, sigismember(&p, 10));
        sigprocmask(SIG_UNBLOCK, &s, 0); printf("%d\n", count);""",
    "its own signal is blocked in a handler": r"""
        void nest(int s) { if (count++ == 0) { raise(10); printf("in %d\n", count); } }
        MAIN set(10, nest, 0); raise(10); printf("%d\n", count);""",
    "read is interrupted": r"""
        int p[2]; char c; pipe(p); set(SIGALRM, on, 0); timer(50000, 0);
        int r = read(p[0], &c, 1); printf("%d %d %d\n", r, errno == EINTR, count);""",
    "read begins again": r"""
        int p[2]; char c; pipe(p); set(SIGALRM, on, SA_RESTART); timer(50000, 0);
        if (!fork()) { usleep(200000); write(p[1], "x", 1); _exit(0); }
        int r = read(p[0], &c, 1); printf("%d %c %d\n", r, c, count);""",
    "a loop is interrupted": 'set(SIGALRM, on, 0); timer(20000, 20000); while (count < 3); puts("3");',
    "a sleep tells what is left": r"""
        set(SIGALRM, on, 0); timer(50000, 0); struct timespec t = { 2, 0 }, left;
        int r = nanosleep(&t, &left); printf("%d %d %ld\n", r, errno == EINTR, (long)left.tv_sec);""",
    "suspended until a signal": r"""
        sigset_t s, none; sigemptyset(&none); sigemptyset(&s); sigaddset(&s, SIGALRM);
        set(SIGALRM, on, 0); sigprocmask(SIG_BLOCK, &s, 0); timer(20000, 0);
        int r = sigsuspend(&none); sigset_t now; sigprocmask(SIG_BLOCK, 0, &now);
        printf("%d %d %d %d\n", r, errno == EINTR, count, sigismember(&now, SIGALRM));""",
    "a signal is waited for": r"""
        sigset_t s; sigemptyset(&s); sigaddset(&s, 10); sigprocmask(SIG_BLOCK, &s, 0);
        struct timespec t = { 0, 10000000 };
        printf("%d\n", sigtimedwait(&s, 0, &t) < 0 && errno == EAGAIN);
        raise(10); printf("%d\n", sigtimedwait(&s, 0, &t));""",
    "the death of a child is told": r"""
        void info(int s, siginfo_t *i, void *c) { printf("%d %d\n", i->si_code, i->si_status); count++; }
        MAIN struct sigaction a = { .sa_sigaction = info, .sa_flags = SA_SIGINFO };
        sigaction(SIGCHLD, &a, 0);
        if (!fork()) _exit(7);
        while (!count) pause();
        int status; wait(&status); printf("%d\n", WEXITSTATUS(status));""",
    "a child is killed": r"""
        int pid = fork(); if (!pid) for (;;);
        usleep(50000); kill(pid, SIGTERM); int status; waitpid(pid, &status, 0);
        printf("%d %d\n", WIFSIGNALED(status), WTERMSIG(status));""",
    "a child is stopped and goes on": r"""
        int pid = fork(), status; if (!pid) { for (;;) usleep(1000); }
        kill(pid, SIGSTOP); waitpid(pid, &status, WUNTRACED);
        printf("%d %d\n", WIFSTOPPED(status), WSTOPSIG(status));
        kill(pid, SIGCONT); waitpid(pid, &status, WCONTINUED); printf("%d\n", WIFCONTINUED(status));
        kill(pid, SIGKILL); waitpid(pid, &status, 0); printf("%d\n", WTERMSIG(status));""",
    "ignored children leave nothing": r"""
        signal(SIGCHLD, SIG_IGN); if (!fork()) _exit(1);
        printf("%d %d\n", wait(0) < 0, errno == ECHILD);""",
    "a pipe without a reader": r"""
        int p[2]; pipe(p); close(p[0]); set(SIGPIPE, on, 0);
        int r = write(p[1], "x", 1); printf("%d %d %d\n", r, errno == EPIPE, count);""",
    "floating-point numbers survive": r"""
        volatile double sum; void spoil(int s) { volatile double x = 1e300; x *= x; count++; }
        MAIN set(SIGALRM, spoil, 0); timer(1000, 1000);
        for (int i = 1; count < 5; i++) ;
        for (int i = 1; i <= 2000000; i++) sum += 1.0 / i;
        timer(0, 0); printf("%.12f\n", sum);""",
    "a group is signalled": r"""
        set(10, on, 0); if (!fork()) { setpgid(0, 0); kill(0, 10); _exit(count); }
        int status; wait(&status); printf("%d %d\n", WEXITSTATUS(status), count);""",
    "exec keeps what is ignored": r"""
        signal(10, SIG_IGN); set(12, on, 0);
        execl("/proc/self/exe", "x", "again", (char *)0);""",
}  # fmt: skip
AGAIN = r"""
    if (argc > 1) {
        struct sigaction a, b; sigaction(10, 0, &a); sigaction(12, 0, &b);
        printf("%d %d\n", a.sa_handler == SIG_IGN, b.sa_handler == SIG_DFL);
        return 0;
    }
"""


def source(name):
    """A C program; functions come before what main() does."""
    functions, _, body = PROGRAMS[name].rpartition("MAIN")
    return f"{HEAD}{functions}int main(int argc, char **argv) {{ {AGAIN} {body} return 0; }}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_signals_do_what_they_do_natively(compile_c, needs_kvm, name):
    path = compile_c(source(name), "-static", "-O0")
    native = subprocess.run([path], check=False, capture_output=True, timeout=20)
    expected = native.returncode if native.returncode >= 0 else 128 - native.returncode
    assert native.stdout
    status, output, errors, _ = run(path, root="/", timeout=20)
    assert (status, output, errors) == (expected, native.stdout, native.stderr)


EMULATED = ["a handler runs", "a blocked signal waits", "a fault has an address",
            "the death of a child is told", "read begins again"]  # fmt: skip


@pytest.mark.parametrize("name", EMULATED)
def test_signals_work_on_an_emulated_processor(compile_c, name):
    pytest.importorskip("unicorn")
    path = compile_c(source(name), "-static", "-O0")
    native = subprocess.run([path], check=False, capture_output=True, timeout=20)
    status, output, _, _ = run(path, root="/", timeout=30, engine="emulate")
    assert (status, output) == (native.returncode, native.stdout)
