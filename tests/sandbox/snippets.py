"""
Hostile snippets, what each tries, and what it ends with.

`python -m tests.sandbox.snippets` writes docs/hostile-snippets.md from them again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "hostile-snippets.md"
MIB = 1 << 20


class Snippet(NamedTuple):
    """
    A snippet.

    tries    what it does, for the table
    limits   those that it meets, beside the usual ones
    reasons  what its result may say
    """

    name: str
    tries: str
    code: str
    limits: dict[str, Any]
    reasons: tuple[str, ...]


SNIPPETS = [
    Snippet(
        "fork bomb",
        "creates processes that create processes",
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        {"pids": 20},
        ("pids",),
    ),
    Snippet(
        "thread storm",
        "starts threads until it cannot",
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(60,)).start()",
        {"pids": 20},
        ("pids",),
    ),
    Snippet(
        "memory bomb",
        "allocates and uses memory, piece by piece",
        "kept = []\nwhile True:\n    kept.append(bytearray(b'x') * (1 << 20))",
        {"memory": "64M"},
        ("memory",),
    ),
    Snippet(
        "one huge object",
        "allocates more than there can be, at once",
        "b'x' * 10**11",
        {"memory": "64M"},
        ("memory",),
    ),
    Snippet(
        "shared memory bomb",
        "uses memory that a limit on private memory does not count",
        "import mmap\nspace = mmap.mmap(-1, 1 << 30)\nfor _ in range(1 << 10):\n    space.write(b'x' * (1 << 20))\nimport time; time.sleep(60)",
        {"memory": "64M"},
        ("memory",),
    ),
    Snippet(
        "memory of many",
        "uses a little memory in each of many processes",
        "import os, time\nfor _ in range(10):\n    if os.fork() == 0:\n        x = bytearray(b'x') * (20 << 20)\n        time.sleep(60)\ntime.sleep(60)",
        {"memory": "64M"},
        ("memory",),
    ),
    Snippet(
        "compression bomb",
        "expands a megabyte to a gigabyte",
        "import zlib\nsmall = zlib.compress(bytes(1 << 26), 9)\nkept = [zlib.decompress(small) for _ in range(16)]",
        {"memory": "128M"},
        ("memory",),
    ),
    Snippet(
        "disk filler",
        "writes to a file until it cannot",
        "with open('/tmp/big', 'wb') as file:\n    while True:\n        file.write(bytes(1 << 16))",
        {"disk": "8M"},
        ("disk",),
    ),
    Snippet(
        "many empty files",
        "fills the file system with names",
        "for number in range(10**7):\n    open(str(number), 'w').close()",
        {"disk": "4M"},
        ("disk",),
    ),
    Snippet(
        "zip bomb",
        "unpacks an archive that is larger than the disk",
        "import io, zipfile\nout = io.BytesIO()\nwith zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as archive:\n    archive.writestr('big', bytes(1 << 25))\nzipfile.ZipFile(out).extractall('/work')",
        {"disk": "8M"},
        ("disk",),
    ),
    Snippet(
        "output flood",
        "prints without end",
        "while True:\n    print('x' * 1000)",
        {"output": "1M"},
        ("output",),
    ),
    Snippet(
        "flood of errors",
        "prints to standard error without end, from a child",
        "import os, sys\nos.fork()\nwhile True:\n    os.write(2, b'x' * 1000)",
        {"output": "1M"},
        ("output",),
    ),
    Snippet(
        "many open files",
        "opens files until it cannot",
        "kept = []\nwhile True:\n    kept.append(open('/dev/null'))",
        {"open_files": 64},
        ("files",),
    ),
    Snippet(
        "endless loop",
        "never ends",
        "while True:\n    pass",
        {"timeout": 0.5},
        ("timeout",),
    ),
    Snippet(
        "endless loop in C",
        "never gets back to the interpreter",
        "sum(iter(int, 1))",
        {"timeout": 0.5},
        ("timeout",),
    ),
    Snippet(
        "deaf to signals",
        "ignores every signal that can be ignored, then sleeps",
        "import signal, time\nfor number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\nwhile True:\n    time.sleep(1)",
        {"timeout": 0.5},
        ("timeout",),
    ),
    Snippet(
        "stops itself",
        "stops its processes with SIGSTOP",
        "import os, signal, time\nif os.fork() == 0:\n    os.kill(os.getpid(), signal.SIGSTOP)\nos.wait()",
        {"timeout": 0.5},
        ("timeout",),
    ),
    Snippet(
        "kills everything",
        "sends SIGKILL to all processes that it sees",
        "import os, signal, time\nif os.fork() == 0:\n    time.sleep(60)\ntry:\n    os.kill(-1, signal.SIGKILL)\nexcept OSError:\n    pass\nos.wait()",
        {},
        ("exit",),
    ),
    Snippet(
        "processor burner",
        "computes in several processes",
        "import os\nos.fork()\nos.fork()\nwhile True:\n    pass",
        {"cpu": 0.5, "cpus": 0},
        ("cpu",),
    ),
    Snippet(
        "stays behind",
        "leaves a process in a session of its own",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(600)\n    os._exit(0)",
        {},
        ("exit",),
    ),
    Snippet(
        "breaks the interpreter",
        "writes to address 0",
        "import ctypes\nctypes.memset(0, 0, 1)",
        {},
        ("signal",),
    ),
    Snippet(
        "endless recursion in C",
        "uses up the stack",
        "import ctypes, sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\neval('(' * 50 + '1' + ')' * 50)\nclass A:\n    def __getattr__(self, name): return getattr(self, name)\nA().x",
        {"memory": "256M"},
        ("signal", "memory", "exit"),
    ),
    Snippet(
        "false answers",
        "writes to every descriptor it has, then closes them",
        "import os\nfor number in range(3, 300):\n    try:\n        os.write(number, b'\\xff' * 5000)\n        os.close(number)\n    except OSError:\n        pass",
        {"timeout": 5},
        ("exit", "timeout"),
    ),
    Snippet(
        "huge value",
        "ends with a value that takes megabytes",
        "['x' * 1000] * 10000",
        {},
        ("exit",),
    ),
    Snippet(
        "nested value",
        "ends with a value nested without end",
        "a = []\na.append(a)\na",
        {},
        ("exit",),
    ),
]  # fmt: skip

_HEAD = """\
# Hostile snippets

What untrusted code tries, and the `reason` that its result has then, in a `Sandbox` and in a
`Pool`. The table is made from tests/sandbox/snippets.py; the tests run each of these.

| Snippet | What it does | Limits | Reason |
|---|---|---|---|
"""


def page() -> str:
    """The page, from the snippets."""
    rows = []
    for snippet in SNIPPETS:
        limits = ", ".join(f"{name}={value}" for name, value in snippet.limits.items())
        reasons = " or ".join(f"`{reason}`" for reason in snippet.reasons)
        rows.append(f"| {snippet.name} | {snippet.tries} | {limits} | {reasons} |\n")
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
