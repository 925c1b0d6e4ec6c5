"""
A state that another user, who can write there, has put into our --root.

Its file could name any process as a container's first: `exec` would start a program as root in its
namespaces, and `delete` would kill it.
"""

from __future__ import annotations

import os
import shutil

import pytest

OTHER_USER = 12345


@pytest.fixture
def forged(runtime, bundle):
    """The id of a state directory that another user created, for a running process."""
    id = runtime.started(bundle("echo up; sleep 100"))
    runtime.wait_for_text(id, "up")
    forged = runtime.new_id()
    folder = runtime.root / forged
    shutil.copytree(runtime.root / id, folder)
    for path in (folder, *folder.iterdir()):
        os.chown(path, OTHER_USER, OTHER_USER)
    yield forged
    shutil.rmtree(folder)


VERBS = {
    "exec": ["exec", "ID", "echo", "hello"],
    "state": ["state", "ID"],
    "ps": ["ps", "ID"],
    "kill": ["kill", "ID", "KILL"],
    "pause": ["pause", "ID"],
    "delete": ["delete", "ID"],
    "delete --force": ["delete", "--force", "ID"],
}


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_no_command_trusts_the_state_of_another_user(runtime, forged, words):
    said = runtime.refuses(*(forged if word == "ID" else word for word in words))
    assert f"{runtime.root / forged} belongs to user {OTHER_USER}, not to user 0" in said
    assert "choose a --root" in said
    assert (runtime.root / forged / "state.json").exists()


def test_list_leaves_out_the_state_of_another_user(runtime, forged):
    assert forged not in runtime.ok("list", "--quiet").words


@pytest.mark.control
def test_the_same_state_owned_by_root_is_trusted(runtime, forged):
    os.chown(runtime.root / forged, 0, 0)
    assert runtime.ok("exec", forged, "echo", "hello").out == "hello\n"


def test_a_link_to_our_state_is_not_a_container(runtime, bundle):
    id = runtime.started(bundle("sleep 100"))
    link = runtime.new_id()
    (runtime.root / link).symlink_to(id)
    assert "does not exist" in runtime.refuses("exec", link, "true")
    (runtime.root / link).unlink()
