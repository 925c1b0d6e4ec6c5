"""
Whichever system call of a command fails, it says so in one line, or does what was requested.

Each call of each command fails once, with ENOSPC, EMFILE, ENOMEM or EINTR. Afterwards
`delete --force` succeeds and the host is as before. PYCONTAIN_FAULTS=full tries each call with each
of these errors, and with those that last, as on a disk that stays full; PYCONTAIN_SEED chooses
which error is tried first.
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.faults.binding import STEP, Fault
from tests.faults.trial import Trials
from tests.faults.verbs import LAUNCHES, VERBS

pytestmark = pytest.mark.needs_root

FULL = os.environ.get("PYCONTAIN_FAULTS") == "full"
SEED = int(os.environ.get("PYCONTAIN_SEED", "0"))
ERRORS = (errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EINTR)
LASTING = ERRORS[:3]


def chosen(errors: tuple[int, ...], index: int) -> tuple[int, ...]:
    """The errors to try at a call: all, or each in turn."""
    return errors if FULL else (errors[(SEED + index) % len(errors)],)


def tried(trials: Trials, faults: list[Fault]) -> None:
    """Try them all; fails with what they have shown."""
    found = []
    calls = {(call.process, call.call): call for call in trials.calls}
    for fault in faults:
        call = calls[fault.process, fault.call]
        where = f"{fault}, {call.name} {call.detail!r}"
        found += [f"{where}: {complaint}" for complaint in trials.complaints(fault)]
    print(f"{trials.faults} faults in {len(trials.calls)} calls, PYCONTAIN_SEED={SEED}")
    assert found == []
    assert trials.faults > len(faults) * 0.9


@pytest.mark.parametrize("trials", VERBS, indirect=True)
def test_a_call_that_fails_once(trials):
    calls = [call for call in trials.calls if call.name != STEP]
    tried(
        trials,
        [
            Fault(call.process, call.call, error)
            for index, call in enumerate(calls)
            for error in chosen(ERRORS, index)
        ],
    )


@pytest.mark.parametrize("trials", LAUNCHES, indirect=True)
def test_calls_that_fail_from_one_on(trials):
    calls = [call for call in trials.calls if call.name != STEP][:: 1 if FULL else 9]
    tried(
        trials,
        [
            Fault(call.process, call.call, error, lasting=True)
            for index, call in enumerate(calls)
            for error in chosen(LASTING, index)
        ],
    )
