"""
Fuzz everything for a while: `python -m tests.fuzz --for 10m`, or `make fuzz FOR=10m`.

Each target gets its share of the time in a process of its own. Targets of bytes are driven by
atheris, which mutates the inputs that reach new code; containers of mutated configurations are
driven by a seed. Inputs that fail are written to tests/fuzz/found/TARGET, where they are tests from
then on; the exit status is 1 if there are any. Inputs that reached new code are kept in build/fuzz.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pycontain.errors import UsageError
from pycontain.units import duration

FOLDER = Path(__file__).parent
FOUND = FOLDER / "found"
CORPUS = FOLDER.parents[1] / "build/fuzz"
LAUNCHES = "launches"
_LONGEST = 8192  # bytes of an input


def main() -> int:
    """Fuzz all targets, or only those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument(
        "--for", dest="time", default="1m", help="such as 10m; all targets together"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*")
    chosen = parser.parse_args()
    try:
        seconds = duration(chosen.time, "--for")
    except UsageError as error:
        parser.error(str(error))
    if chosen.worker:
        return work(chosen.worker, seconds, chosen.seed)
    return fuzz(chosen.targets or names(), seconds, chosen.seed)


def names() -> list[str]:
    """All targets."""
    from tests.fuzz.targets import TARGETS

    return [*TARGETS, LAUNCHES]


def fuzz(targets: list[str], seconds: float, seed: int) -> int:
    """Fuzz these targets, one after the other; prints a line on each."""
    total = faults = 0
    share = max(1, int(seconds / len(targets)))
    print(f"seed {seed}, {share} s for each of {len(targets)} targets", flush=True)
    for name in targets:
        words = ["--worker", name, "--for", f"{share}s", "--seed", str(seed)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        tried = inputs_in(done.stdout)
        found = [line for line in done.stdout.splitlines() if line.startswith("found ")]
        broken = tried == 0 or done.returncode not in (0, 1)
        print(f"{name:16} {tried:9} inputs, {len(found)} that fail", flush=True)
        print("".join(f"    {line}\n" for line in found), end="")
        if broken:
            print(done.stdout[-2000:])
        total, faults = total + tried, faults + len(found) + broken
    print(f"{total} inputs, {faults} that fail, seed {seed}")
    return int(faults > 0)


def inputs_in(output: str) -> int:
    """How many inputs a worker has tried: libFuzzer's last line, or ours."""
    numbers = re.findall(r"^Done (\d+) (?:runs|inputs) ", output, re.MULTILINE)
    return int(numbers[-1]) if numbers else 0


def work(name: str, seconds: float, seed: int) -> int:
    """Fuzz one target in this process."""
    if name == LAUNCHES:
        return launches(seconds, seed)
    import atheris

    with atheris.instrument_imports(include=["pycontain"], enable_loader_override=False):
        from tests.fuzz.targets import SEEDS, TARGETS, words
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for text in SEEDS[name]:
        (corpus / hashlib.sha1(text).hexdigest()).write_bytes(text)
    dictionary = CORPUS / f"{name}.words"
    dictionary.write_text("".join(f'"{escaped(word)}"\n' for word in words(name)))
    known: set[str] = set()
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={int(seconds)}",
            f"-seed={seed % 2**32}",
            f"-max_len={_LONGEST}",
            f"-dict={dictionary}",
            "-timeout=10",
            f"-artifact_prefix={CORPUS}/",
            str(corpus),
        ],
        lambda data: _try(name, TARGETS[name], data, known),
    )
    atheris.Fuzz()
    return 0


def _try(name: str, target: Callable[[bytes], None], data: bytes, known: set[str]) -> None:
    try:
        target(data)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} at {os.path.basename(where.filename)}:{where.lineno}"
        if what not in known:
            known.add(what)
            print(f"found {keep(name, data)}: {what}", flush=True)


def keep(name: str, data: bytes) -> str:
    """Keep an input that fails as a test; returns its path."""
    path = FOUND / name / hashlib.sha1(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path.relative_to(FOLDER.parents[1]))


def escaped(word: str) -> str:
    """A word as libFuzzer's dictionaries want it."""
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02X}"
        for byte in word.encode()
    )


def launches(seconds: float, seed: int) -> int:
    """Run containers of mutated configurations."""
    from tests.fuzz import contained

    tried = 0
    for texts in contained.forever(seed, seconds):
        tried += 1
        for text in texts:
            head, _, config = text.rpartition("\n")
            print(f"found {keep(LAUNCHES, config.encode())}: {head!r}", flush=True)
    print(f"Done {tried} inputs in {seconds:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
