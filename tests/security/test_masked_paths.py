"""
Masked and read-only paths.

CVE-2025-31133, CVE-2025-62161: what covered a masked file was the *container's* /dev/null, which
the image or a volume had replaced with a link to another file.
"""

from __future__ import annotations

import os
import stat

import pytest

from tests.security.attack import bind_by_path, in_a_child, mount_by_path

pytestmark = pytest.mark.needs_root

# What engines grant root. With CAP_SYS_ADMIN it could unmount the masks, as in any container.
CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE",
]  # fmt: skip
SETS = ("bounding", "effective", "permitted")
MASKED = ["/secret", "/secrets", "/proc/kallsyms", "/proc/irq", "/missing", "/link"]


@pytest.fixture
def made(bundle):
    changes = {"linux.maskedPaths": MASKED, "linux.readonlyPaths": ["/fixed", "/proc/sys"]}
    made = bundle("", {**changes, "process.capabilities": dict.fromkeys(SETS, CAPABILITIES)})
    (made.rootfs / "secret").write_text("SECRET\n")
    (made.rootfs / "secrets/deep").mkdir(parents=True)
    (made.rootfs / "secrets/deep/file").write_text("SECRET\n")
    (made.rootfs / "behind").write_text("SECRET\n")
    (made.rootfs / "link").symlink_to("behind")
    (made.rootfs / "fixed").mkdir()
    (made.rootfs / "fixed/file").write_text("fixed\n")
    return made


def output(runtime, made, script):
    made.edit({"process.args": ["sh", "-c", f"exec 2>&1; {script}"]})
    return runtime.run(made).out


READ = "cat /secret /behind /link /proc/kallsyms; ls -A /secrets /proc/irq; stat -c %t:%T /secret"


def test_masked_paths_show_nothing(runtime, made):
    assert output(runtime, made, READ).split() == ["/proc/irq:", "/secrets:", "1:3"]


WAYS = {
    "unmounting": "umount /secret; umount -l /secrets",
    "unmounting through /proc": "umount /proc/1/root/secret",
    "binding under another name": "mkdir /tmp/x; mount --bind / /tmp/x; cat /tmp/x/secret",
    "another proc": "mkdir /tmp/x; mount -t proc x /tmp/x; cat /tmp/x/kallsyms | head -1",
    "the first process's root": "cat /proc/1/root/secret /proc/self/root/secrets/deep/file",
    "the working directory of the first process": "cat /proc/1/cwd/secret",
    "removing the mask": "rm -f /secret; rm -rf /secrets",
    "moving it away": "mv /secret /tmp/; mv /secrets /tmp/; cat /tmp/secret /tmp/secrets/deep/file",
    "a hard link": "ln /secret /tmp/hard; cat /tmp/hard",
    "writing to the mask": "echo SECRET > /secret; echo SECRET > /secrets/new; cat /secrets/*",
    "changing the mount": "mount -o remount,rw /secrets; echo SECRET > /secrets/x; cat /secrets/x",
    "changing a read-only path": "mount -o remount,rw /fixed; echo x > /fixed/file; rm -f /fixed/*",
    "a sysctl": "echo SECRET > /proc/sys/kernel/domainname; cat /proc/sys/kernel/domainname",
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_that_the_program_tries_unmasks_a_path(runtime, made, way):
    said = output(runtime, made, f"({WAYS[way]}); {READ}; cat /fixed/file")
    assert "SECRET" not in said
    assert said.endswith("1:3\nfixed\n")


def test_a_process_of_exec_finds_the_paths_masked(runtime, made):
    made.edit({"process.args": ["sleep", "100"]})
    container = runtime.started(made)
    said = runtime("exec", "--cap", "CAP_DAC_READ_SEARCH", container, "sh", "-c", READ).out
    assert said.split() == ["/proc/irq:", "/secrets:", "1:3"]


# --- the container's /dev/null -------------------------------------------------------------------


def test_a_file_bound_over_null_masks_nothing(runtime, made):
    """A volume at /dev/null, as it could be given to any engine."""
    (made.path / "evil").write_text("EVIL\n")
    evil = {"destination": "/dev/null", "type": "bind", "source": "evil", "options": ["bind"]}
    made.edit({"mounts": [*made.config["mounts"], evil]})
    assert "EVIL" not in output(runtime, made, "cat /secret")


def test_a_link_in_place_of_null_masks_nothing(runtime, made):
    made.edit({"mounts": made.config["mounts"][:1]})
    (made.rootfs / "dev/null").symlink_to("/proc/sys/kernel/hostname")
    assert "box" not in output(runtime, made, "cat /secret")


@pytest.mark.control
def test_a_naive_mask_is_what_the_image_chose(made):
    (made.rootfs / "dev/null").symlink_to(made.path / "evil")
    (made.path / "evil").write_text("EVIL\n")

    def run():
        bind_by_path(made.rootfs / "dev/null", made.rootfs / "secret")
        return (made.rootfs / "secret").read_text()

    assert in_a_child(run) == "EVIL\n"


SAME_MODE = "chmod $(stat -c %a /secret) /secret"


def test_the_hosts_null_device_cannot_be_changed(runtime, made):
    """Root owns the masking inode; one chmod 0 would make the host's null device unusable."""
    said = output(runtime, made, f"{SAME_MODE}; chown 0 /secret; touch /secret; echo x >/secret")
    assert said.count("Read-only file system") == 3
    assert len(said.splitlines()) == 3


@pytest.mark.control
def test_a_naive_mask_lets_root_change_the_null_device(made):
    os.mknod(made.path / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))

    def run():
        bind_by_path(made.path / "null", made.rootfs / "secret")
        os.chmod(made.rootfs / "secret", 0)
        return stat.S_IMODE(os.stat(made.path / "null").st_mode)

    assert in_a_child(run) == 0


@pytest.mark.control
def test_a_naive_mask_of_a_link_leaves_its_target_readable(made):
    """Covering the configured path and not what it leads to."""

    def run():
        os.unlink(made.rootfs / "link")
        (made.rootfs / "link").mkdir()
        mount_by_path("tmpfs", made.rootfs / "link")
        return (made.rootfs / "behind").read_text()

    assert in_a_child(run) == "SECRET\n"
