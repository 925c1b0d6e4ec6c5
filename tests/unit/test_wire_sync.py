"""The protocol of parent and child: both ends in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pycontain.errors import HookError, KernelError, ProgramError, StepError
from pycontain.wire import EXIT_FAILED, prepared, sync
from pycontain.wire.sync import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    parent, child = Channel.pair()
    yield parent, child
    parent.close()
    child.close()


def test_messages_of_the_child_arrive_one_by_one_and_in_order(ends):
    parent, child = ends
    for number in range(3):
        child.send({"done": [[f"step {number}", number]]})
    assert [sync.await_child(parent) for _ in range(3)] == [
        ("done", [(f"step {number}", number)]) for number in range(3)
    ]


def test_the_turn_passes_to_the_child_and_back(ends):
    parent, child = ends
    sync.pass_turn(parent)
    sync.await_turn(child)
    sync.report_done(child, [("mount", 7)])
    assert sync.await_child(parent) == ("done", [("mount", 7)])
    sync.report_exec(child, [])
    child.close()
    assert sync.await_child(parent) == ("exec", [])
    assert sync.await_child(parent) == ("end", [])


def test_a_message_larger_than_a_pipe_arrives_whole(ends):
    parent, child = ends
    text = "x" * 300_000
    if os.fork() == 0:
        child.send({"done": [[text, 1]]})
        os._exit(0)
    assert sync.await_child(parent) == ("done", [(text, 1)])
    os.wait()


def test_the_childs_error_is_raised_with_its_class_and_fields(ends):
    parent, child = ends
    error = ProgramError('exec: "x": no such file', remedy="look", errno=2, status=126)
    sync.report_fault(child, error.in_step("execve"))
    with pytest.raises(ProgramError) as caught:
        sync.await_child(parent)
    fault = caught.value.fault
    assert (fault.step, fault.remedy, fault.errno, fault.status) == ("execve", "look", 2, 126)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(13, "Permission denied", "/x"), "/x permission denied"),
        (ValueError("odd\nlines"), "ValueError: odd"),
        (KernelError.of("mount", 2, "/y"), "mount: /y does not exist"),
    ],
    ids=["OSError", "ValueError", "KernelError"],
)
def test_errors_of_all_kinds_reach_the_parent(ends, error, words):
    parent, child = ends
    sync.report_fault(child, error)
    with pytest.raises((StepError, KernelError)) as caught:
        sync.await_child(parent)
    assert words in str(caught.value)


def test_a_child_whose_parent_has_exited_exits(ends):
    parent, child = ends
    parent.close()
    if (pid := os.fork()) == 0:
        sync.await_turn(child)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == EXIT_FAILED
    with pytest.raises(BrokenPipeError):
        sync.report_done(child, [])


def test_passing_the_turn_to_an_exited_child_is_not_an_error(ends):
    parent, child = ends
    child.close()
    sync.pass_turn(parent)
    assert sync.await_child(parent) == ("end", [])


@pytest.mark.parametrize("line", [b"[1]\n", b"null\n", b"not json\n", b"\xff\n"])
def test_an_invalid_message_is_an_error(ends, line):
    parent, child = ends
    os.write(child.writer, line)
    with pytest.raises(StepError, match="is not a message of the protocol"):
        parent.receive()


def test_an_incomplete_last_message_is_the_end(ends):
    parent, child = ends
    os.write(child.writer, b'{"done"')
    child.close()
    assert parent.receive() is None


def test_begun_steps_are_counted(ends):
    parent, child = ends
    assert sync.steps_begun(parent) == 0
    for _ in range(3):
        sync.begin_step(child)
    assert sync.steps_begun(parent) == 3


def test_over_fifos_steps_are_not_counted():
    fifo = Channel(*os.pipe())
    sync.begin_step(fifo)
    fifo.close()


def test_descriptors_of_the_protocol_are_closed_on_execve_and_only_once(ends):
    parent, child = ends
    assert not any(os.get_inheritable(fd) for fd in parent.fds | child.fds)
    assert len(parent.fds | child.fds) == 6
    parent.close()
    parent.close()
    assert parent.fds == set()


# --- what a bare process sends -------------------------------------------------------------------


def filled(message: bytes, number: int) -> bytes:
    """A prepared message, with a number where the process puts it."""
    assert message.endswith(b'00000"}\n')
    return message[:-8] + f'{number:05}"}}\n'.encode()


def raised(ends, message: bytes) -> str:
    parent, child = ends
    os.write(child.writer, message)
    with pytest.raises((KernelError, StepError)) as caught:
        sync.await_child(parent)
    return str(caught.value)


def test_a_failure_that_was_prepared_gets_the_kernels_reason(ends):
    error = KernelError("", call="prlimit", at="process.rlimits[0]", value="1:2", step="rlimits")
    said = raised(ends, filled(prepared.failure(error), 1))
    assert said == "rlimits: prlimit: process.rlimits[0] = 1:2 operation not permitted"


def test_a_failure_can_have_other_errors_for_some_reasons(ends):
    cases = {8: ProgramError("exec /x: it is not a program", step="execve", status=126)}
    error = ProgramError('exec: "/x": ', step="execve", status=126)
    message = prepared.failure(error, cases)
    assert raised(ends, filled(message, 8)) == "execve: exec /x: it is not a program"
    assert raised(ends, filled(message, 7)) == 'execve: exec: "/x": argument list too long'


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3 << 8, "exited with status 3"),
        (9, "was killed by signal 9"),
        (1 << 16, "ran longer than its timeout of 5 s"),
    ],
)
def test_a_hook_that_fails_is_described_by_its_wait_status(ends, status, words):
    error = HookError("", call="error running x hook #0", at="/hook", step="hooks")
    said = raised(ends, filled(prepared.hook_failure(error, 5), status))
    assert said == f"hooks: error running x hook #0: /hook {words}"


def test_the_child_receives_its_pid_as_text_with_two_paddings(ends):
    parent, child = ends
    sync.let_run(parent, 17)
    assert os.read(child.reader, 100) == b"17".ljust(12, b"\0") + b"17".ljust(12)
    child.close()
    sync.let_run(parent, 17)  # it has died: not an error


FORGED = [
    b'{"born": 1}', b'{"done": 5}', b'{"exec": [["x"]]}', b'{"exec": [["x", {}]]}', b'{"fault": 1}',
    b'{"fault": {}}', b'{"fault": {"why": "x", "status": "many"}}', b'{"fault": {"kind": "Odd"}}',
    b'{"fault": {"why": "x", "__class__": 1}}', b'{"fault": {"why": "x"}, "errno": "many"}',
    b'{"fault": {"why": "x"}, "errno": "1", "cases": {"1": 5}}',
    b'{"fault": {"why": "x"}, "errno": "1", "cases": []}', b'{"done": [], "exec": []}', b"{}",
    b'{"fault": {"why": "x", "status": -1}}', b'{"fault": {"why": "x", "status": 256}}',
    b'{"fault": {"why": ""}}', b'{"fault": {"why": "x", "kind": ["StepError"]}}', b'{"go": 1}',
    b'{"fault": {"why": "x"}, "errno": "-1"}', b'{"fault": {"why": 5}, "errno": "1"}',
    b'{"fault": {"why": "x"}, "errno": "100000"}',
    b'{"exec": [["x", true]]}', b'{"exec": [["x", 1, 2]]}', b'{"done', b"\xff\xfe", b"[]",
]  # fmt: skip


@pytest.mark.parametrize("line", [b'{"go": true}', b'{"alive": true}'])
def test_a_message_of_another_process_is_not_one_of_a_child_at_work(ends, line):
    assert "is not a message of a child" in raised(ends, line + b"\n")


def test_an_error_of_a_child_is_one_line_whatever_it_writes(ends):
    said = raised(ends, b'{"fault": {"why": "is\\nwrong", "remedy": "a\\u2028b", "at": "c\\rd"}}\n')
    assert said == "c d is wrong; a b"


@pytest.mark.parametrize("line", FORGED)
def test_a_message_outside_of_the_protocol_is_an_error(ends, line):
    """Whoever can inspect a process inside can let it send anything."""
    assert "is not a message of the protocol" in raised(ends, line + b"\n")


def test_a_message_without_end_is_an_error(ends):
    parent, child = ends
    pid = os.fork()
    if pid == 0:
        parent.close()
        try:
            while True:
                os.write(child.writer, b"x" * 65536)
        finally:
            os._exit(0)
    child.close()
    with pytest.raises(StepError, match="longer than any message"):
        sync.await_child(parent)
    parent.close()
    os.waitpid(pid, 0)
