"""An error names the step, the file or field, the value and the remedy, on one line."""

from __future__ import annotations

import errno
import pickle

import pytest

import pycontain
from pycontain import errors
from pycontain.errors import (
    Fault,
    HookError,
    KernelError,
    ProgramError,
    PycontainError,
    SpecError,
    StepError,
    UsageError,
)
from pycontain.lean import jsontext


def test_the_line_of_an_error_has_all_parts_in_order() -> None:
    error = StepError(
        "is not a directory", step="mount", call="open_tree", at="/srv", value="x", remedy="make it"
    )
    assert str(error) == "mount: open_tree: /srv = x is not a directory; make it"


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "is wrong"),
        ({"at": "process.cwd"}, "process.cwd is wrong"),
        ({"value": "7"}, "7 is wrong"),
        ({"step": "mount"}, "mount: is wrong"),
        ({"call": "fsopen"}, "fsopen: is wrong"),
        ({"remedy": "fix it"}, "is wrong; fix it"),
    ],
)
def test_unknown_parts_of_an_error_are_omitted(parts: dict[str, str], line: str) -> None:
    assert str(SpecError("is wrong", **parts)) == line


def test_the_line_of_a_fault_omits_the_remedy() -> None:
    assert SpecError("is wrong", remedy="fix it").fault.line() == "is wrong"


def test_only_errors_about_the_program_say_no_such_file() -> None:
    assert errors.reason(errno.ENOENT) == "does not exist"
    assert errors.reason(errno.EACCES) == "permission denied"
    for number in errno.errorcode:
        assert "no such file or directory" not in errors.reason(number).lower()


def test_a_kernel_error_keeps_call_file_and_number() -> None:
    error = KernelError.of("openat2", errno.ENOENT, "/srv", "create it")
    assert str(error) == "openat2: /srv does not exist; create it"
    assert error.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("cls", "status"), [(SpecError, 1), (KernelError, 1), (ProgramError, 127), (HookError, 1)]
)
def test_each_class_has_its_exit_status(cls: type[PycontainError], status: int) -> None:
    assert cls("is wrong").fault.status == status
    assert cls("is wrong", status=126).fault.status == 126


def test_a_fault_knows_its_class() -> None:
    assert HookError("failed").fault.kind == "HookError"
    assert isinstance(HookError("failed"), StepError)
    assert isinstance(UsageError("failed"), PycontainError)


def test_the_innermost_step_is_kept() -> None:
    error = SpecError("is wrong")
    assert error.in_step("mount") is error
    assert error.in_step("create").fault.step == "mount"


def test_the_record_of_a_fault_has_the_parts_that_are_set_as_json() -> None:
    record = KernelError.of("mount", errno.EBUSY, "/proc").fault.record()
    assert record == {
        "why": "device or resource busy",
        "call": "mount",
        "at": "/proc",
        "errno": errno.EBUSY,
        "status": 1,
        "kind": "KernelError",
    }
    assert jsontext.loads(jsontext.dumps(record)) == record


def subclasses(cls: type[PycontainError]) -> list[type[PycontainError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in subclasses(child))]


@pytest.mark.parametrize("cls", subclasses(PycontainError))
def test_every_error_survives_the_transfer_between_processes(cls: type[PycontainError]) -> None:
    sent = cls(
        "is wrong", step="s", call="c", at="a", value="v", remedy="r", errno=2, status=126
    )  # fmt: skip
    received = errors.from_record(jsontext.loads(jsontext.dumps(sent.fault.record())))
    assert type(received) is cls
    assert str(received) == str(sent)
    assert received.fault.record() == sent.fault.record()


@pytest.mark.parametrize(
    "record",
    [
        None, [], {}, {"kind": "SpecError"}, {"why": "x", "kind": "Nothing"}, {"why": 1},
        {"why": "x", "status": -1}, {"why": "x", "status": 256}, {"why": "x", "status": True},
        {"why": "x", "line": "y"},
    ],
)  # fmt: skip
def test_a_record_of_no_fault_is_a_value_error(record: object) -> None:
    with pytest.raises(ValueError):
        errors.from_record(record)


def test_an_error_is_one_line_whatever_its_values_are() -> None:
    error = SpecError("is\nwrong", at="a\r\nb", value="c\u2028d", remedy="e\nf")
    assert str(error) == "a b = c d is wrong; e f"


def test_every_exception_has_a_fault() -> None:
    own = SpecError("is wrong")
    assert errors.fault_of(own) is own.fault
    system = errors.fault_of(FileNotFoundError(errno.ENOENT, "No such file", "/srv"))
    assert system.line() == "/srv does not exist"
    assert (system.errno, system.kind) == (errno.ENOENT, "KernelError")
    assert errors.fault_of(OSError(errno.EIO, "x", b"/a\xff")).at == "/a\N{REPLACEMENT CHARACTER}"
    assert errors.fault_of(OSError(errno.EIO, "x")).at == ""
    other = errors.fault_of(ValueError("seven"))
    assert (other.line(), other.kind) == ("ValueError: seven", "StepError")
    assert errors.fault_of(OSError("no number")).line() == "OSError: no number"


def test_a_fault_accepts_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        Fault("is wrong").other = 1


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = {
        line.strip(" │├└─").split()[0]
        for line in errors.__doc__.splitlines()
        if "─" in line or line.startswith("    PycontainError")
    }
    ours = {cls for cls in subclasses(PycontainError) if cls.__module__ == errors.__name__}
    assert drawn == {cls.__name__ for cls in ours}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", subclasses(PycontainError))
def test_every_error_can_be_pickled(cls: type[PycontainError], protocol: int) -> None:
    sent = cls("is wrong", step="s", call="c", at="a", value="v", remedy="r", errno=2, status=126)
    received = pickle.loads(pickle.dumps(sent, protocol))
    assert type(received) is cls
    assert (str(received), received.errno, received.fault) == (str(sent), 2, sent.fault)


def test_an_interruption_keeps_its_status_when_pickled() -> None:
    assert pickle.loads(pickle.dumps(errors.Interrupted.by(15))).fault.status == 143


def test_every_error_is_exported() -> None:
    ours = {cls.__name__ for cls in subclasses(PycontainError) if cls.__module__ == errors.__name__}
    assert ours <= set(pycontain.__all__)
    assert all(getattr(pycontain, name) is getattr(errors, name) for name in ours)
