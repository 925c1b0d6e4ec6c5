"""Threads of programs: what a program with several sees in a VM is what it sees natively."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycontain.errors import Timeout
from pycontain.vm.linux import pids, threads
from tests.vm.programs import compile_c, run

__all__ = ["compile_c"]  # a fixture

HEAD = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <setjmp.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static _Atomic int count, stop;
static pthread_t main_thread;
static pthread_t go(void *(*body)(void *), void *with) {
    pthread_t made; int failed = pthread_create(&made, 0, body, with);
    if (failed) { printf("no thread: %s\n", strerror(failed)); exit(9); }
    return made;
}
static void set(int signal, void (*to)(int), int flags) {
    struct sigaction a = { .sa_handler = to, .sa_flags = flags };
    sigaction(signal, &a, 0);
}
static int futex(_Atomic int *at, int operation, int value, void *timeout, int *other, int last) {
    return syscall(SYS_futex, at, operation, value, timeout, other, last);
}
"""

PROGRAMS = {
    "threads share memory and have their own": r"""
        static __thread int mine; static int all;
        void *body(void *with) {
            for (int i = 0; i < 2000; i++) { pthread_mutex_lock(&lock); all++; mine++; pthread_mutex_unlock(&lock); }
            return (void *)(long)mine;
        }
        MAIN pthread_t t[16]; void *got; long sum = 0;
        for (int i = 0; i < 16; i++) t[i] = go(body, 0);
        for (int i = 0; i < 16; i++) { pthread_join(t[i], &got); sum += (long)got; }
        printf("%d %ld %d\n", all, sum, mine);""",
    "they take turns at a condition": r"""
        static int turn;
        void *body(void *with) {
            for (int i = 0; i < 50; i++) {
                pthread_mutex_lock(&lock);
                while (turn % 3 != (long)with) pthread_cond_wait(&changed, &lock);
                turn++; pthread_cond_broadcast(&changed); pthread_mutex_unlock(&lock);
            }
            return 0;
        }
        MAIN pthread_t t[3]; for (long i = 0; i < 3; i++) t[i] = go(body, (void *)i);
        for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
        printf("%d\n", turn);""",
    "a thread has a number": r"""
        void *body(void *with) { printf("%d %d\n", gettid() != getpid(), getpid() == *(int *)with); return 0; }
        MAIN int pid = getpid(); pthread_join(go(body, &pid), 0); printf("%d\n", gettid() == pid);""",
    "a wait times out": r"""
        MAIN struct timespec t; clock_gettime(CLOCK_REALTIME, &t); t.tv_nsec += 20000000;
        if (t.tv_nsec >= 1000000000) { t.tv_sec++; t.tv_nsec -= 1000000000; }
        pthread_mutex_lock(&lock);
        printf("%d\n", pthread_cond_timedwait(&changed, &lock, &t) == ETIMEDOUT);
        sem_t s; sem_init(&s, 0, 0); printf("%d %d\n", sem_timedwait(&s, &t) < 0, errno == ETIMEDOUT);""",
    "a blocking call does not hold others": r"""
        static int ends[2];
        void *body(void *with) { char c; read(ends[0], &c, 1); printf("read %c\n", c); return 0; }
        MAIN pipe(ends); pthread_t t = go(body, 0); usleep(30000);
        puts("main"); fflush(stdout); write(ends[1], "x", 1); pthread_join(t, 0);""",
    "one thread ends all": r"""
        void *body(void *with) { printf("out\n"); fflush(stdout); exit(5); }
        void *loop(void *with) { for (;;) count++; }
        MAIN go(loop, 0); go(body, 0); for (;;) pause();""",
    "the first thread ends before the last": r"""
        void *body(void *with) { pthread_join(main_thread, 0); puts("alone"); exit(3); }
        MAIN main_thread = pthread_self(); go(body, 0); pthread_exit(0);""",
    "a fault of a thread kills all": r"""
        void *body(void *with) { usleep(10000); *(volatile int *)16 = 1; return 0; }
        MAIN puts("up"); fflush(stdout); pthread_join(go(body, 0), 0);""",
    "a thread handles its own fault": r"""
        static __thread sigjmp_buf back;
        void on(int s) { count++; siglongjmp(back, 1); }
        void *body(void *with) {
            for (int i = 0; i < 20; i++) if (!sigsetjmp(back, 1)) *(volatile int *)16 = 1;
            return 0;
        }
        MAIN set(SIGSEGV, on, 0); pthread_t t[4];
        for (int i = 0; i < 4; i++) t[i] = go(body, 0);
        for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
        printf("%d\n", count);""",
    "a signal for one thread": r"""
        static __thread int mine; static _Atomic int ready;
        void on(int s) { mine++; count++; }
        void *body(void *with) { ready++; while (!mine && !stop) usleep(1000); return (void *)(long)mine; }
        MAIN set(10, on, 0); pthread_t t[3]; void *got;
        for (int i = 0; i < 3; i++) t[i] = go(body, 0);
        while (ready < 3) usleep(1000);
        pthread_kill(t[1], 10); pthread_join(t[1], &got); stop = 1;
        printf("%ld %d %d\n", (long)got, count, mine);
        for (int i = 0; i < 3; i += 2) { pthread_join(t[i], &got); printf("%ld\n", (long)got); }""",
    "a computing thread takes a signal": r"""
        void on(int s) { stop = 1; }
        void *body(void *with) { while (!stop) count++; return 0; }
        MAIN set(10, on, 0); pthread_t t = go(body, 0); while (!count) usleep(1000);
        pthread_kill(t, 10); pthread_join(t, 0); puts("stopped");""",
    "a process signal goes to a thread that does not block it": r"""
        void on(int s) { count = gettid() != getpid(); stop = 1; }
        void *body(void *with) {
            sigset_t s; sigemptyset(&s); sigaddset(&s, 10); pthread_sigmask(SIG_UNBLOCK, &s, 0);
            while (!stop) pause();
            return 0;
        }
        MAIN sigset_t s; sigemptyset(&s); sigaddset(&s, 10); pthread_sigmask(SIG_BLOCK, &s, 0);
        set(10, on, 0); pthread_t t = go(body, 0); usleep(20000);
        kill(getpid(), 10); while (!stop) { usleep(1000); } pthread_kill(t, 12 * 0);
        printf("%d\n", count);""",
    "a thread waits for signals": r"""
        void *body(void *with) { int got; sigwait(with, &got); printf("got %d\n", got); return 0; }
        MAIN sigset_t s; sigemptyset(&s); sigaddset(&s, SIGALRM); pthread_sigmask(SIG_BLOCK, &s, 0);
        pthread_t t = go(body, &s); struct itimerval v = { { 0, 0 }, { 0, 20000 } };
        setitimer(ITIMER_REAL, &v, 0); pthread_join(t, 0);""",
    "a thread is cancelled": r"""
        void *body(void *with) { for (;;) sleep(100); }
        MAIN void *got; pthread_t t = go(body, 0); usleep(10000);
        pthread_cancel(t); pthread_join(t, &got); printf("%d\n", got == PTHREAD_CANCELED);""",
    "a fork has one thread": r"""
        void *loop(void *with) { while (!stop) count++; return 0; }
        void *body(void *with) {
            int pid = fork(), status;
            if (!pid) { int before = count; usleep(20000); _exit(count == before ? 4 : 5); }
            waitpid(pid, &status, 0); printf("%d\n", WEXITSTATUS(status)); stop = 1; return 0;
        }
        MAIN pthread_t l = go(loop, 0); pthread_join(go(body, 0), 0); pthread_join(l, 0);""",
    "a forked process has threads": r"""
        void *body(void *with) { count++; return 0; }
        void *loop(void *with) { for (;;) usleep(1000); }
        MAIN go(loop, 0); int status, pid = fork();
        if (!pid) { pthread_join(go(body, 0), 0); pthread_join(go(body, 0), 0); _exit(count); }
        waitpid(pid, &status, 0); printf("%d %d\n", WEXITSTATUS(status), count);""",
    "a child outlives the thread that forked it": r"""
        static int ends[2];
        void *body(void *with) {
            int pid = fork(); char c = 'c';
            if (!pid) { usleep(100000); write(ends[1], &c, 1); _exit(3); }
            return (void *)(long)pid;
        }
        MAIN pipe(ends); void *pid; char c; int status; pthread_join(go(body, 0), &pid);
        read(ends[0], &c, 1); waitpid((long)pid, &status, 0); printf("%c %d\\n", c, WEXITSTATUS(status));""",
    "exec ends other threads": r"""
        void *loop(void *with) { for (;;) count++; }
        void *body(void *with) { execl("/bin/echo", "echo", "replaced", (char *)0); return 0; }
        MAIN go(loop, 0); go(body, 0); for (;;) pause();""",
    "a child of one thread is waited for by another": r"""
        void *body(void *with) { int pid = fork(); if (!pid) _exit(6); return (void *)(long)pid; }
        MAIN void *pid; pthread_join(go(body, 0), &pid); int status;
        printf("%d %d\n", waitpid((long)pid, &status, 0) == (long)pid, WEXITSTATUS(status));""",
    "pages are taken away while others use them": r"""
        static char *page; static __thread sigjmp_buf back;
        void on(int s) { count++; siglongjmp(back, 1); }
        void *body(void *with) {
            while (!stop) if (!sigsetjmp(back, 1)) for (;;) { *(volatile char *)page = 1; if (stop) break; }
            return 0;
        }
        MAIN set(SIGSEGV, on, 0);
        page = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); pthread_t t = go(body, 0);
        for (int i = 0; i < 100; i++) {
            mprotect(page, 4096, PROT_READ); char before = page[0]; page[0];
            mprotect(page, 4096, PROT_NONE); mprotect(page, 4096, PROT_READ | PROT_WRITE); page[0] = 0;
            mprotect(page, 4096, PROT_READ); char a = page[0]; for (volatile int k = 0; k < 2000; k++);
            if (a != page[0]) puts("written while read-only");
            mprotect(page, 4096, PROT_READ | PROT_WRITE);
        }
        stop = 1; pthread_join(t, 0); puts("done");""",
    "a change elsewhere is no fault": r"""
        static char *pages;
        void *body(void *with) { while (!stop) for (int i = 0; i < 64; i++) pages[i * 4096]++; return 0; }
        MAIN pages = mmap(0, 64 * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); pthread_t t = go(body, 0);
        for (int i = 0; i < 200; i++) { mprotect(pages, 64 * 4096, 7 & ~4); mprotect(pages, 64 * 4096, 3);
            madvise(pages, 64 * 4096, MADV_DONTNEED); }
        stop = 1; pthread_join(t, 0); puts("done");""",
    "a waiting read meets other pages": r"""
        static int ends[2]; static char *page;
        void *body(void *with) { int got = read(ends[0], page, 4096); return (void *)(long)(got < 0 ? -errno : got); }
        MAIN pipe(ends); page = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pthread_t t = go(body, 0); usleep(30000); munmap(page, 4096);
        write(ends[1], "abc", 3); void *got; pthread_join(t, &got); printf("%d\n", (long)got == -EFAULT);""",
    "waiters move to another futex": r"""
        static _Atomic int a, b, woken;
        void *body(void *with) { futex(&a, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0); woken++; return 0; }
        MAIN pthread_t t[4]; for (int i = 0; i < 4; i++) t[i] = go(body, 0);
        usleep(100000);
        printf("%d\n", futex(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)9, (int *)&b, 0));
        usleep(50000); printf("%d\n", woken);
        printf("%d\n", futex(&b, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
        for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
        printf("%d %d\n", woken, futex(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, 0, (int *)&b, 5) < 0);""",
    "bits choose who is woken": r"""
        static _Atomic int a; static char order[3]; static _Atomic int n;
        void *body(void *with) { futex(&a, FUTEX_WAIT_BITSET_PRIVATE, 0, 0, 0, (long)with); order[n++] = '0' + (long)with; return 0; }
        MAIN pthread_t x = go(body, (void *)1), y = go(body, (void *)2); usleep(100000);
        printf("%d\n", futex(&a, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 2)); pthread_join(y, 0);
        printf("%d\n", futex(&a, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 1)); pthread_join(x, 0); puts(order);
        printf("%d %d\n", futex(&a, FUTEX_WAIT_BITSET_PRIVATE, 0, 0, 0, 0), errno == EINVAL);
        printf("%d %d\n", futex(&a, FUTEX_WAIT_PRIVATE, 7, 0, 0, 0), errno == EAGAIN);""",
    "who dies with a robust mutex lets others know": r"""
        static pthread_mutex_t m;
        void *body(void *with) { pthread_mutex_lock(&m); return 0; }
        MAIN pthread_mutexattr_t a; pthread_mutexattr_init(&a);
        pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST); pthread_mutex_init(&m, &a);
        pthread_join(go(body, 0), 0);
        printf("%d\n", pthread_mutex_lock(&m) == EOWNERDEAD);
        printf("%d %d\n", pthread_mutex_consistent(&m), pthread_mutex_unlock(&m));""",
    "floating-point numbers of threads are their own": r"""
        void *body(void *with) { double sum = 0; for (int i = 1; i <= 300000; i++) sum += (long)with / (double)i;
            double *to = malloc(8); *to = sum; return to; }
        MAIN pthread_t t[4]; for (long i = 0; i < 4; i++) t[i] = go(body, (void *)(i + 1));
        for (int i = 0; i < 4; i++) { double *got; pthread_join(t[i], (void **)&got); printf("%.9f\n", *got); }""",
    "many threads, one after the other": r"""
        void *body(void *with) { return with; }
        MAIN long sum = 0; for (long i = 0; i < 400; i++) { void *got; pthread_join(go(body, (void *)i), &got); sum += (long)got; }
        printf("%ld\n", sum);""",
    "a barrier in memory": r"""
        MAIN printf("%d ", syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) > 0);
        printf("%ld ", syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
        printf("%ld\n", syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));""",
    "a closed descriptor ends no read": r"""
        static int ends[2];
        void *body(void *with) { char c = '-'; read(ends[0], &c, 1); putchar(c); return 0; }
        MAIN pipe(ends); pthread_t t = go(body, 0); usleep(30000); close(ends[0]);
        int other[2]; pipe(other); write(other[1], "n", 1); write(ends[1], "y", 1);
        pthread_join(t, 0); puts("");""",
    "stopped and continued as a whole": r"""
        void *loop(void *with) { for (;;) count++; }
        MAIN int *seen = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0), status, pid = fork();
        if (!pid) { go(loop, 0); for (;;) { *seen = count; usleep(500); } }
        while (!*(volatile int *)seen) usleep(1000);
        kill(pid, SIGSTOP); waitpid(pid, &status, WUNTRACED); usleep(30000); int at = *seen; usleep(50000);
        printf("%d %d\n", WIFSTOPPED(status), at == *(volatile int *)seen);
        kill(pid, SIGCONT); while (at == *(volatile int *)seen) usleep(1000);
        kill(pid, SIGKILL); waitpid(pid, &status, 0); printf("%d\n", WTERMSIG(status));""",
}  # fmt: skip


def source(name):
    """A C program; functions come before what main() does."""
    functions, _, body = PROGRAMS[name].rpartition("MAIN")
    return f"{HEAD}{functions}int main(int argc, char **argv) {{ {body} return 0; }}"


def natively(command):
    """Output and status, as a shell shows it."""
    native = subprocess.run(command, check=False, capture_output=True, timeout=60)
    status = native.returncode if native.returncode >= 0 else 128 - native.returncode
    return status, native.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_threads_do_what_they_do_natively(compile_c, needs_kvm, name):
    path = compile_c(source(name), "-static", "-pthread")
    expected = natively([path])
    assert expected[1]
    status, output, errors, _ = run(path, root="/", timeout=60)
    assert (status, output) == expected, errors


PYTHON = {
    "threads": """
import threading, queue
q = queue.Queue()
def work():
    while (n := q.get()) is not None: done.append(n * n)
done = []; team = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in team]; [q.put(n) for n in range(200)]; [q.put(None) for _ in team]
[t.join(20) for t in team]; print(sum(done), len(done), threading.active_count())""",
    "timers": """
import threading
e = threading.Event(); threading.Timer(0.05, e.set).start(); print(e.wait(20), e.wait(0.01))""",
    "executors of asyncio": """
import asyncio, time
async def main():
    loop = asyncio.get_running_loop()
    waits = [loop.run_in_executor(None, lambda n=n: (time.sleep(0.02), n)[1]) for n in range(8)]
    print(sum(await asyncio.gather(*waits)), await asyncio.to_thread(sum, range(10)))
asyncio.run(main())""",
    "subprocesses of threads": """
import subprocess, concurrent.futures as f
with f.ThreadPoolExecutor(4) as e:
    print(list(e.map(lambda n: subprocess.run(["echo", str(n)], capture_output=True).stdout, range(8))))""",
    "a pool of processes": """
import multiprocessing as m
if __name__ == "__main__":
    with m.get_context("fork").Pool(2) as p: print(p.map(abs, range(-5, 5)))""",
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_cpython_has_threads(needs_kvm, name):
    command = ["/usr/bin/python3", "-c", PYTHON[name]]
    if not os.access(command[0], os.X_OK):
        pytest.skip("needs Debian's Python")
    status, output, errors, _ = run(*command, root="/", timeout=60)
    assert (status, output) == natively(command), errors


def test_a_thread_is_refused_by_name_where_the_processor_is_emulated(compile_c):
    pytest.importorskip("unicorn")
    path = compile_c(source("a thread has a number"), "-static", "-pthread")
    status, output, _, result = run(path, root="/", timeout=60, engine="emulate")
    assert status == 9
    assert b"no thread" in output
    assert "clone of a thread (use --engine kvm)" in result.unserved


BOMB = r"""
    void *body(void *with) { pause(); return 0; }
    MAIN pthread_attr_t a; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 65536);
    pthread_t t; int made = 0, failed; while (!(failed = pthread_create(&t, &a, body, 0))) made++;
    printf("%d %d\n", made, failed == EAGAIN); fflush(stdout); if (fork() >= 0) puts("a process"); _exit(0);"""


def test_a_bomb_of_threads_meets_the_limit_of_processes(compile_c, needs_kvm):
    functions, _, body = BOMB.rpartition("MAIN")
    path = compile_c(f"{HEAD}{functions}int main() {{ {body} }}", "-static", "-pthread")
    status, output, _, _ = run(path, root="/", timeout=60)
    assert status == 0
    assert output == b"%d 1\n" % (pids.SIZE - 2)


STORM = r"""
    static _Atomic int words[64];
    void *body(void *with) {
        for (unsigned i = (long)with; ; i += 7)
            if (i & 1) futex(&words[i % 64], FUTEX_WAKE_PRIVATE, i, 0, 0, 0);
            else { struct timespec t = { 0, 1 + i % 50000 };
                   futex(&words[i % 64], FUTEX_WAIT_PRIVATE, 0, &t, (int *)&words[i * 3 % 64], 0); }
    }
    MAIN for (long i = 0; i < 24; i++) go(body, (void *)i); puts("storm"); fflush(stdout); for (;;) pause();"""


def test_a_storm_of_futexes_ends_at_the_deadline(compile_c, needs_kvm):
    functions, _, body = STORM.rpartition("MAIN")
    path = compile_c(f"{HEAD}{functions}int main() {{ {body} }}", "-static", "-pthread")
    with pytest.raises(Timeout):
        run(path, root="/", timeout=3)
    assert not [task for task in Path("/proc/self/task").iterdir() if b"storm" in _name(task)]
    status, output, _, _ = run("/bin/echo", "after", root="/", timeout=30)
    assert (status, output) == (0, b"after\n")


def _name(task):
    return (task / "comm").read_bytes()


def test_a_fault_that_another_thread_has_mended_is_control_for_the_retry(
    compile_c, needs_kvm, monkeypatch
):
    """Without it, a page that is changed by one thread is a fault for another."""
    path = compile_c(source("a change elsewhere is no fault"), "-static", "-pthread")
    monkeypatch.setattr(threads, "is_over", lambda _task, _fault: False)
    seen = {run(path, root="/", timeout=60)[0] for _ in range(5)}
    assert 139 in seen


if __name__ == "__main__":
    sys.stdout.write(source(sys.argv[1]))
