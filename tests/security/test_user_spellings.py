"""
The identity of a process: numbers only, and no groups but those requested.

CVE-2016-3697: a numeric user was looked up as a *name* in the container's passwd. CVE-2026-30892:
a user was parsed as root. CVE-2022-36109 and others: the caller's groups were kept.
"""

from __future__ import annotations

import os

import pytest

from pycontain.errors import UsageError
from pycontain.runtime.exec import _user
from pycontain.spec.records import User

IDS = ["sh", "-c", "grep -E '^(Uid|Gid|Groups):' /proc/self/status | tr -s '\\t ' ' '"]
EVIL_PASSWD = "1000:x:0:0:root:/root:/bin/sh\nroot:x:0:0::/root:/bin/sh\n"

pytestmark = pytest.mark.needs_root


def ids(uid, gid, groups=""):
    return [
        f"Uid: {uid} {uid} {uid} {uid}",
        f"Gid: {gid} {gid} {gid} {gid}",
        f"Groups: {groups}",
    ]


@pytest.fixture
def container(runtime, bundle):
    made = bundle("sleep 100")
    (made.rootfs / "etc/passwd").write_text(EVIL_PASSWD)
    (made.rootfs / "etc/group").write_text("1000:x:0:\n")
    return runtime.started(made)


ACCEPTED = [
    ("0", ids(0, 0)),
    ("1", ids(1, 0)),  # CVE-2026-30892: was root
    ("1000", ids(1000, 0)),  # CVE-2016-3697: was the user *named* 1000
    ("1000:1000", ids(1000, 1000)),
    ("007:0", ids(7, 0)),
    ("4294967294:4294967294", ids(4294967294, 4294967294)),
]


def test_a_number_is_a_user_id(runtime, container):
    for user, wanted in ACCEPTED:
        done = runtime.ok("exec", "--user", user, container, *IDS)
        assert [line.rstrip() for line in done.lines] == [line.rstrip() for line in wanted], user


REFUSED = (
    "root", "1000x", "0x3e8", "+1", "-1", "--1", " 1", "1 ", "1_0", "\N{ARABIC-INDIC DIGIT ONE}",
    "1:", ":", ":1", "1:1:1", "1:-1", "1: 0", "4294967295", "1:4294967295", "4294967296",
    "18446744073709551616", "1e3", "1.0", "1\n", "nobody:nogroup",
)  # fmt: skip


@pytest.mark.parametrize("user", REFUSED)
def test_anything_but_a_number_is_refused(user):
    with pytest.raises(UsageError, match="--user"):
        _user(User(at="process.user"), user, ())


def test_a_name_of_the_containers_passwd_is_refused(runtime, container):
    assert "--user" in runtime.refuses("exec", "--user", "root", container, *IDS)


def naive_by_name(user):
    """As the C library's tools do: a name first, then a number."""
    for line in EVIL_PASSWD.splitlines():
        name, _, uid, *_ = line.split(":")
        if name == user:
            return int(uid)
    return int(user)


@pytest.mark.control
def test_a_naive_lookup_makes_a_number_root():
    assert naive_by_name("1000") == 0


@pytest.mark.control
def test_a_naive_parser_accepts_what_is_refused():
    taken = []
    for user in REFUSED:
        try:
            taken.append(int(user))
        except ValueError:
            continue
    assert {1, -1, 10, 4294967295} <= set(taken)


def test_the_callers_groups_are_dropped(runtime, bundle):
    made = bundle("", {"process.args": IDS, "process.user": {"uid": 5, "gid": 6}})
    done = runtime.output(made, extra_groups=[4, 27])
    assert [line.rstrip() for line in done.lines] == [line.rstrip() for line in ids(5, 6)]


def test_the_callers_groups_are_dropped_by_exec(runtime, container):
    done = runtime.ok("exec", "--user", "5:6", container, *IDS, extra_groups=[4, 27])
    assert [line.rstrip() for line in done.lines] == [line.rstrip() for line in ids(5, 6)]


@pytest.mark.control
def test_a_naive_change_of_user_keeps_the_callers_groups():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([4, 27])
        os.setresgid(6, 6, 6)  # and no setgroups
        os.setresuid(5, 5, 5)
        os.write(writer, repr(os.getgroups()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        assert stream.read() == "[4, 27]"
    os.waitpid(pid, 0)
