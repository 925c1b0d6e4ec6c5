"""Steps from mount options. What the options do in the kernel is tested in tests/conformance."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import SpecError
from pycontain.kernel import const as c
from pycontain.plan import mounts, steps
from pycontain.spec.parse import parse


def planned(*wanted: dict[str, Any], own_cgroup: bool = True) -> tuple[list[Any], tuple[str, ...]]:
    config = {"ociVersion": "1.2.0", "root": {"path": "r"}, "mounts": list(wanted)}
    return mounts.mount_steps(parse(json.dumps(config)).mounts, "/bundle", own_cgroup, "/bundle/r")


def one(mount: dict[str, Any], **how: bool) -> Any:
    [step], _ = planned(mount, **how)
    return step


def tmpfs(*options: str) -> Any:
    return one({"destination": "/x", "type": "tmpfs", "options": list(options)})


def test_a_mount_is_a_bind_mount_a_remount_or_a_file_system():
    bind = {"destination": "/x", "source": "/y", "options": ["bind"]}
    assert isinstance(one(bind), steps.MountBind)
    assert isinstance(one({**bind, "options": ["bind", "remount"]}), steps.Remount)
    assert isinstance(tmpfs(), steps.MountFilesystem)


def test_every_mount_has_its_path_in_the_configuration():
    made, _ = planned({"destination": "/a", "type": "tmpfs"}, {"destination": "/b", "type": "proc"})
    assert [step.why for step in made] == ["mounts[0]", "mounts[1]"]


ROOT = ["/", "/..", "/a/..", ".", "/."]


@pytest.mark.parametrize("destination", ROOT)
def test_no_new_file_system_is_mounted_on_the_root_itself(destination):
    for mount in ({"type": "tmpfs"}, {"options": ["bind", "remount"]}, {"type": "cgroup"}):
        with pytest.raises(SpecError, match=r"mounts\[0\].destination = .*is the root itself"):
            one({"destination": destination, **mount}, own_cgroup=False)


@pytest.mark.parametrize("destination", ROOT)
def test_a_bind_mount_becomes_the_root_and_read_only_later(destination):
    bind = {"destination": destination, "source": "/s", "options": ["bind", "ro", "rprivate"]}
    [step], later = planned(bind)
    assert (step.target, step.source, step.on, later) == ("/", "/s", 0, ("/",))
    assert mounts.root_propagation([step]) == c.MS_PRIVATE


def test_mounts_that_the_root_covers_are_read_only_at_once():
    """It cannot be changed any more when everything is created."""
    bind = {"destination": "/", "source": "/s", "options": ["bind", "ro"]}
    early = {"destination": "/run", "type": "tmpfs", "options": ["ro"]}
    made, later = planned(early, bind, {**bind, "options": ["bind"]})
    assert later == ()
    assert [step.on for step in made] == [c.MOUNT_ATTR_RDONLY, c.MOUNT_ATTR_RDONLY, 0]
    assert mounts.root_propagation(made) == 0


@pytest.mark.parametrize(
    ("mount", "ignored"),
    [
        ({"source": "/y", "options": ["bind", "mode=755,size=1k", "ro"]}, "mode=755,size=1k"),
        ({"source": "/y", "options": ["rbind", "sync", "async", "defaults"]}, "sync"),
        ({"source": "/y", "options": ["bind", "tmpcopyup"]}, "tmpcopyup"),
        ({"options": ["bind", "remount", "size=1"]}, "size=1"),
        ({"type": "cgroup", "options": ["nsdelegate"]}, "nsdelegate"),
        ({"type": "ramfs", "options": ["mode=755", "tmpcopyup"]}, "tmpcopyup"),
        ({"type": "tmpfs", "options": ["mode=755", "tmpcopyup", "sync"]}, ""),
        ({"options": ["remount", "size=1"]}, ""),
        ({"source": "/y", "options": ["bind", "ro", "rprivate", "nolazytime", "silent"]}, ""),
    ],
)
def test_options_that_mean_nothing_to_a_mount_are_ignored_with_a_warning(mount, ignored):
    step = one({"destination": "/x", **mount}, own_cgroup=False)
    assert ",".join(step.ignored) == ignored
    said = mounts.warnings([step])
    assert len(said) == bool(ignored)
    if ignored:
        assert said[0].startswith(f"mounts[0].options: {ignored} is ignored: ")
        assert "/x" in said[0]


@pytest.mark.parametrize(
    ("destination", "target"),
    [("/a/b", "/a/b"), ("a/b", "/a/b"), ("/a/../../b", "/b"), ("//a//b/", "/a/b")],
)
def test_targets_are_absolute_and_normalized(destination, target):
    assert one({"destination": destination, "type": "tmpfs"}).target == target


@pytest.mark.parametrize(
    ("source", "path"), [("/s", "/s"), ("s", "/bundle/s"), ("../s", "/s"), ("./s/", "/bundle/s")]
)
def test_relative_sources_are_below_the_bundle(source, path):
    step = one({"destination": "/x", "source": source, "options": ["rbind"]})
    assert (step.source, step.recursive) == (path, True)


def test_sources_of_file_systems_are_not_paths():
    assert one({"destination": "/x", "type": "tmpfs", "source": "shm"}).source == "shm"
    assert one({"destination": "/x", "type": "tmpfs"}).source == "tmpfs"


def test_unknown_options_are_passed_to_the_file_system():
    assert tmpfs("size=1m", "nosuid", "mode=755", "nr_inodes=3").options == (
        "size=1m", "mode=755", "nr_inodes=3",
    )  # fmt: skip


def test_options_joined_by_commas_are_split_as_by_mount_2():
    assert tmpfs("size=1m,mode=755", "", ",").options == ("size=1m", "mode=755")
    assert tmpfs("lowerdir=/a\\,b").options == ("lowerdir=/a\\,b",)
    assert tmpfs('context="a,b"').options == ('context="a,b"',)


def test_the_superblock_is_read_only_unless_it_is_filled_later():
    assert one({"destination": "/x", "type": "sysfs", "options": ["ro"]}).options == ("ro",)
    assert tmpfs("ro").options == ()
    assert (tmpfs("ro").on, tmpfs("ro").readonly_later) == (0, True)


def test_a_read_only_dev_becomes_read_only_later():
    dev = {"destination": "/dev", "type": "tmpfs", "options": ["ro", "nosuid"]}
    [step], later = planned(dev)
    assert (step.on, later) == (c.MOUNT_ATTR_NOSUID, ("/dev",))


def test_every_read_only_tmpfs_becomes_read_only_later_unless_it_is_hidden():
    """Links in the image can lead to it from anywhere, such as /var/run to /run."""
    run = {"destination": "/run", "type": "tmpfs", "options": ["ro"]}
    config = {"ociVersion": "1.2.0", "root": {"path": "r"}, "mounts": [run, run]}
    made, later = mounts.mount_steps(parse(json.dumps(config)).mounts, "/bundle", True, "/bundle/r")
    assert [(step.readonly_later, bool(step.on)) for step in made] == [(False, True), (True, False)]
    assert later == ("/run",)


def test_propagation_keeps_its_order():
    step = tmpfs("private", "rshared", "slave")
    assert step.propagation == ((c.MS_PRIVATE, False), (c.MS_SHARED, True), (c.MS_SLAVE, False))


@given(st.lists(st.sampled_from([*mounts.ATTRIBUTES, *mounts.RECURSIVE_ATTRIBUTES])))
def test_of_contradicting_options_the_last_one_wins(words):
    step = one({"destination": "/x", "type": "sysfs", "options": words})
    for table, on, off in (
        (mounts.ATTRIBUTES, step.on, step.off),
        (mounts.RECURSIVE_ATTRIBUTES, step.recursive_on, step.recursive_off),
    ):
        state: dict[int, bool] = {}
        for word in words:
            if word in table and not table[word][1] & c.MOUNT_ATTR__ATIME:
                set_, clear = table[word]
                state[set_ | clear] = bool(set_)
        for bit, wanted in state.items():
            assert bool(on & bit) == wanted
            assert wanted or off & bit


@given(
    st.lists(
        st.sampled_from([w for w in mounts.ATTRIBUTES if "atime" in w and "dir" not in w]),
        min_size=1,
    )
)
def test_exactly_one_kind_of_access_time_is_set(words):
    step = tmpfs(*words)
    assert step.on & c.MOUNT_ATTR__ATIME == mounts.ATTRIBUTES[words[-1]][0] & c.MOUNT_ATTR__ATIME
    assert step.off & c.MOUNT_ATTR__ATIME == c.MOUNT_ATTR__ATIME, "else the kernel returns EINVAL"


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"destination": "/x"}, "file system type"),
        ({"destination": "/x", "type": "none"}, "file system type"),
        ({"destination": "/proc", "type": "tmpfs"}, "proc"),
    ],
)
def test_an_invalid_mount_is_refused(mount, words):
    with pytest.raises(SpecError, match=words):
        planned(mount)


def test_cgroup_means_cgroup2_or_the_containers_part_of_the_hosts():
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup"}
    assert one(mount).kind == "cgroup2"
    assert isinstance(one(mount, own_cgroup=False), steps.MountCgroup)
