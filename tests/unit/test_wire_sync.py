"""The protocol of parent and child: both ends in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pycontain.errors import KernelError, ProgramError, StepError
from pycontain.wire import sync
from pycontain.wire.sync import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    parent, child = Channel.pair()
    yield parent, child
    parent.close()
    child.close()


def test_messages_arrive_one_by_one_and_in_order(ends):
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
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == sync.EXIT_FAILED
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
    with pytest.raises((StepError, ValueError)):
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


def test_descriptors_are_closed_on_execve_and_only_once(ends):
    parent, child = ends
    assert not any(os.get_inheritable(fd) for fd in parent.fds | child.fds)
    assert len(parent.fds | child.fds) == 6
    parent.close()
    parent.close()
    assert parent.fds == set()
