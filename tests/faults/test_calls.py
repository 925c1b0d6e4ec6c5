"""
Whichever system call of a command fails, it says so in one line, or does what was requested.

A call fails with ENOSPC, EMFILE, ENOMEM or EINTR, once or from there on, as on a disk that stays
full. Afterwards `delete --force` succeeds and the host is as before. PYCONTAIN_SEED chooses a few
calls of each command; PYCONTAIN_FAULTS=full (`make faults`) tries each call with each error.
"""

from __future__ import annotations

import errno

import pytest

from tests.faults import figures
from tests.faults.binding import STEP, Call, Fault
from tests.faults.sample import FULL, SEED, enough, sample
from tests.faults.trial import Trials
from tests.faults.verbs import LAUNCHES, VERBS

pytestmark = pytest.mark.needs_root

ERRORS = (errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EINTR)
LASTING = ERRORS[:3]
ONCE, FROM_ONE_ON = 12, 6  # calls of each command


def chosen(errors: tuple[int, ...], index: int) -> tuple[int, ...]:
    """The errors to try at a call: all, or each in turn."""
    return errors if FULL else (errors[(SEED + index) % len(errors)],)


def calls_of(trials: Trials, most: int) -> list[Call]:
    """The calls to try, so many of them at most unless all are to be tried."""
    calls = [call for call in trials.calls if call.name != STEP]
    return sample(calls, most, trials.verb.words)


def tried(trials: Trials, faults: list[Fault], kind: str) -> None:
    """Try them all; fails with what they have shown."""
    found = []
    calls = {(call.process, call.call): call for call in trials.calls}
    for fault in faults:
        call = calls[fault.process, fault.call]
        where = f"{fault}, {call.name} {call.detail!r}"
        found += [f"{where}: {complaint}" for complaint in trials.complaints(fault)]
    print(f"{len(trials.calls)} calls, PYCONTAIN_SEED={SEED}")
    figures.add(kind, trials.name, trials.faults)
    assert found == []
    assert enough(trials.faults, len(faults))


@pytest.mark.parametrize("trials", VERBS, indirect=True)
def test_a_call_that_fails_once_leaves_nothing_and_is_named(trials):
    tried(
        trials,
        [
            Fault(call.process, call.call, error)
            for index, call in enumerate(calls_of(trials, ONCE))
            for error in chosen(ERRORS, index)
        ],
        "failed once",
    )


@pytest.mark.parametrize("trials", LAUNCHES, indirect=True)
def test_calls_that_fail_from_one_moment_on_leave_nothing(trials):
    tried(
        trials,
        [
            Fault(call.process, call.call, error, lasting=True)
            for index, call in enumerate(calls_of(trials, FROM_ONE_ON))
            for error in chosen(LASTING, index)
        ],
        "failed from one on",
    )
