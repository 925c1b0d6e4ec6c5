"""
The programs that are run in a VM and natively, to compare what they print and their status.

`python -m tests.vm.program_table` runs them and writes docs/programs.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pycontain.vm import Volume
from pycontain.vm.program import World, run_program
from pycontain.vm.sink import Capture

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "LC_ALL": "C", "TZ": "UTC"}
PAGE = Path(__file__).parents[2] / "docs/programs.md"
GIT = "git -c user.name=n -c user.email=e@x -c init.defaultBranch=main -c gc.auto=0"
PYTHON = "/usr/bin/python3 -c"

# Each is a line for a shell. What it prints must not depend on times, process numbers or paths.
COMMANDS = {
    "coreutils": [
        "echo one two",
        "cat text",
        "ls -1",
        "wc text numbers",
        "sort -rn numbers | head -3",
        "sha256sum text",
        "md5sum numbers",
        "od -c text | head -2",
        "seq 1 5 | tac",
        "tr a-z A-Z < text",
        "cut -d' ' -f1 text | uniq -c",
        "mkdir -p a/b/c && rmdir a/b/c && ls a",
        "cp text copy && mv copy moved && cat moved && rm moved",
        "ln -s text link && readlink link && cat link",
        "touch new && stat -c '%s %F' new",
        "chmod 640 text && stat -c %a text",
        "dd if=/dev/zero bs=1k count=64 2>/dev/null | wc -c",
        "head -c 100000 /dev/zero | tail -c 5 | od -An -tx1",
        "tee out < text | wc -l; cat out",
        "env -i A=b /usr/bin/env",
        "expr 6 '*' 7",
        "printf '%05d %s\\n' 42 x",
        "date -u -d @86400 +%F",
        "basename /a/b.c .c; dirname /a/b.c",
        "test -f text && echo file; test -d text || echo no",
        "cat missing; echo $?",
        "timeout 5 sleep 0.01; echo $?",
        "timeout -s KILL 0.2 sleep 10; echo $?",
        "split -l 500 numbers part && ls part* && cat part* | cmp - numbers",
        "truncate -s 100 zeros && stat -c %s zeros",
        "du -b text",
        "false",
    ],
    "shells": [
        "for i in 1 2 3; do echo $i; done | wc -l",
        "x=$(echo inner); echo $x",
        "(exit 3); echo $?",
        "cat <<END\nhere\nEND",
        "sleep 0.05 & wait $!; echo $?",
        "trap 'echo caught' USR1; kill -USR1 $$; echo after",
        "trap 'echo bye' EXIT; exit 4",
        "kill -TERM $$",
        "sh -c 'kill -SEGV $$'; echo $?",
        "bash -c 'a=(1 2 3); echo ${#a[@]} ${a[1]}'",
        "bash -c 'diff <(seq 1 3) <(seq 1 4)'",
        "bash -c 'set -o pipefail; false | true; echo $?'",
        "yes | head -2",
        "busybox sh -c 'echo $((2+3)); ls -1 | wc -l'",
        "printf '#!/bin/sh\\necho script $1\\n' > s && chmod +x s && ./s arg",
        "seq 1 20 | xargs -n 5 echo",
        "find . -name 'te*' | sort",
    ],
    "text and archives": [
        "grep -c 7 numbers",
        "grep -n two text | head -1",
        "sed -e 's/one/1/' text | head -1",
        "sed -i -e 's/one/uno/' text && head -1 text",
        "awk '{ s += $1 } END { print s }' numbers",
        "diff text numbers | head -1",
        "gzip -c text | gzip -d | cmp - text && echo same",
        "xz -c numbers | xz -d | wc -l",
        "tar cf t.tar text numbers && tar tf t.tar",
        "tar czf t.tgz text && mkdir x && tar xzf t.tgz -C x && cat x/text",
        "bzip2 -c text | bzip2 -d | wc -c",
    ],
    "languages": [
        "perl -e 'print join(\",\", map { $_ ** 2 } 1..5), \"\\n\"'",
        "perl -e 'my $p = fork; if (!$p) { exit 5 } waitpid $p, 0; print $? >> 8, \"\\n\"'",
        f"{PYTHON} 'print(sum(range(1000)))'",
        f"{PYTHON} 'import json, math; print(json.dumps([math.pi]))'",
        f"{PYTHON} 'import subprocess as s; print(s.run([\"echo\", \"x\"], capture_output=True))'",
        f"{PYTHON} 'import os; r, w = os.pipe(); os.fork() or os._exit(os.write(w, b\"hi\")); "
        "print(os.read(r, 9), os.wait()[1])'",
        f"{PYTHON} 'import sqlite3 as s; print(s.connect(\":memory:\").execute(\"select 6*7\").fetchall())'",
        f"{PYTHON} 'import signal, os; signal.signal(10, lambda *a: print(a[0])); os.kill(os.getpid(), 10)'",
        f"{PYTHON} 'import asyncio; print(asyncio.run(asyncio.sleep(0.01, 3)))'",
        f"{PYTHON} 'import ctypes; ctypes.string_at(8)'; echo $?",
        f"{PYTHON} 'import hashlib; print(hashlib.sha256(b\"x\").hexdigest())'",
        f"{PYTHON} 'import tempfile as t; f = t.NamedTemporaryFile(dir=\".\"); print(f.write(b\"abc\"))'",
    ],
    "tools": [
        f"{GIT} init -q r && cd r && echo a > f && git add f && {GIT} commit -qm m && "
        f"git log --format=%s && {GIT} clone -q . ../r2 && cat ../r2/f",
        "printf 'all: x y\\nx y:\\n\\t@echo $@ > $@\\n' > Makefile && make -s && cat x y",
        "printf 'a: b c\\n\\t@cat b c\\nb c:\\n\\t@echo $@ > $@\\n' > Makefile && make -s -j2",
        "printf 'int puts(const char *); int main(void) { puts(\"built\"); return 3; }' > p.c && "
        "gcc -O1 -o p p.c && ./p",
        "sqlite3 d.db 'create table t(a); insert into t values(1),(2); select sum(a) from t'",
        "echo '{\"a\": [1, 2]}' | jq -c '.a | map(. + 1)'",
    ],
    "threads": [
        "seq 1 100000 | xz -T2 --block-size=200000 | xz -d | md5sum",
        "sort --parallel=2 -n numbers | tail -1",
        "printf '#include <pthread.h>\\n#include <stdio.h>\\nvoid *f(void *n) { return n; }\\n"
        "int main() { pthread_t t; void *r; pthread_create(&t, 0, f, (void *)42);"
        " pthread_join(t, &r); printf(\"%%ld\\\\n\", (long)r); }' > p.c"
        " && gcc -pthread -o p p.c && ./p",
        "perl -e 'use threads; print join(\",\", map { $_->join }"
        " map { my $n = $_; threads->create(sub { $n * 2 }) } 1..4), \"\\n\"'",
        f"{PYTHON} 'import threading as t; l = []; "
        "r = [t.Thread(target=l.append, args=(n,)) for n in range(9)]; "
        "[x.start() for x in r]; [x.join() for x in r]; print(sorted(l))'",
        f"{PYTHON} 'from concurrent.futures import *; e = ThreadPoolExecutor(3); "
        "print(list(e.map(abs, range(-4, 4))))'",
        f"{PYTHON} 'import asyncio as a; print(a.run(a.to_thread(sum, range(10))))'",
    ],
    "shared memory": [
        "sqlite3 d.db 'pragma journal_mode=wal; create table t(a); insert into t values(1),(2)'"
        " && sqlite3 d.db 'select sum(a) from t'",
        f"{PYTHON} 'import mmap; f = open(\"text\", \"r+b\"); m = mmap.mmap(f.fileno(), 0); "
        "m[0:3] = b\"ONE\"; m.flush(); print(open(\"text\").readline())'",
        f"{PYTHON} 'from multiprocessing.shared_memory import SharedMemory as S; "
        "m = S(create=True, size=9); m.buf[0] = 7; n = S(m.name); print(n.buf[0]); n.close(); "
        "m.close(); m.unlink()'",
        f"{PYTHON} 'import multiprocessing as m; "
        "print(m.get_context(\"fork\").Pool(2).map(abs, range(-4, 4)))'",
        "printf 'import multiprocessing as m\\nif __name__ == \"__main__\":\\n"
        "    m.set_start_method(\"spawn\")\\n    with m.Pool(2) as p: print(p.map(abs, [-1, 2]))\\n'"
        " > s.py && /usr/bin/python3 s.py",
    ],
    "network": [
        f"{PYTHON} 'import socket as s, threading as t; l = s.create_server((\"127.0.0.1\", 0)); "
        "t.Thread(target=lambda: l.accept()[0].send(b\"hi\")).start(); "
        "print(s.create_connection(l.getsockname()).recv(9))'",
        f"{PYTHON} 'import http.server as h, threading as t, urllib.request as u; "
        "s = h.HTTPServer((\"127.0.0.1\", 0), h.SimpleHTTPRequestHandler); "
        "t.Thread(target=s.serve_forever, daemon=True).start(); "
        "print(u.urlopen(\"http://127.0.0.1:%d/text\" % s.server_port).read())'",
        f"{PYTHON} 'import socket as s; a, b = s.socketpair(); s.send_fds(a, [b\"x\"], [0, 1]); "
        "print(len(s.recv_fds(b, 9, 9)[1]))'",
    ],
}  # fmt: skip


def rows() -> list[tuple[str, str]]:
    """(group, command) of each."""
    return [(group, command) for group, commands in COMMANDS.items() for command in commands]


def missing(command: str) -> str:
    """The program that this host lacks for a command, or ""."""
    for name in ("git", "gcc", "make", "perl", "sqlite3", "jq", "xz", "bzip2", "busybox"):
        if name in command.replace("/", " ").split() and not shutil.which(name):
            return name
    return "" if "python3" not in command or os.access("/usr/bin/python3", os.X_OK) else "python3"


def fill(folder: Path) -> None:
    """The files that the commands use."""
    (folder / "text").write_text("one two\nthree\nthree\nfour\n")
    (folder / "numbers").write_text("".join(f"{n}\n" for n in range(1, 2001)))


def variables(folder: Path) -> dict[str, str]:
    """The environment; what is temporary goes to the folder, too."""
    return {**ENVIRONMENT, "TMPDIR": str(folder)}


def natively(command: str, folder: Path) -> tuple[int, bytes]:
    """Status and standard output on this host."""
    done = subprocess.run(
        ["/bin/sh", "-c", command], check=False, cwd=folder, env=variables(folder),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    status = done.returncode
    return status if status >= 0 else 128 - status, done.stdout


def in_vm(command: str, folder: Path) -> tuple[int, bytes]:
    """Status and standard output in a VM that is shown this host, and may write to the folder."""
    output = Capture()
    with open(os.devnull, "rb") as empty:
        world = World(
            root="/", cwd=str(folder), network="loopback", stdin=empty.fileno(), stdout=output, stderr=lambda _: None,
            volumes=(Volume(host=str(folder), guest=str(folder), writable=True),),
        )  # fmt: skip
        environment = [f"{name}={value}" for name, value in variables(folder).items()]
        result = run_program(["/bin/sh", "-c", command], environment, world, timeout=90)
    return result.ending.status, bytes(output.data)


def compare(command: str) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """How a command ends natively and in a VM, each in a fresh folder of the same path."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as root:
        folder, found = Path(root) / "work", []
        for run in (natively, in_vm):
            folder.mkdir()
            fill(folder)
            found.append(run(command, folder))
            shutil.rmtree(folder)
        return found[0], found[1]


HEAD = """# Programs that run in a VM

Unmodified programs of Debian, run by
`pycontain vm run --root / --volume DIR:DIR:rw --net loopback -- sh -c ...`. Each was also run
natively: what it printed and its status were compared. This page is made by
`python -m tests.vm.program_table`; `tests/vm/test_program_table.py` runs the same commands.

| command | status | same as natively |
|---|---|---|
"""


def shown(command: str) -> str:
    """A command in a table of Markdown."""
    return command.replace("\n", "\\n").replace("|", "\\|")


def page() -> str:
    """The page of the documentation."""
    lines = []
    for group, command in rows():
        lack = missing(command)
        if lack:
            raise SystemExit(f"{lack} is missing")
        native, vm = compare(command)
        lines.append(f"| `{shown(command)}` | {native[0]} | {'yes' if native == vm else 'NO'} |\n")
        sys.stderr.write(f"{group}: {'ok' if native == vm else (native, vm)} {command}\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
