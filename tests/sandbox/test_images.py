"""A sandbox on an image, which is made here by umoci and brought by skopeo."""

from __future__ import annotations

from pathlib import Path

import pytest

import pycontain
from pycontain.errors import HostError, UsageError
from pycontain.image import store
from tests.image.conftest import image, layout, root  # noqa: F401 -- fixtures

pytestmark = pytest.mark.needs_root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone."""
    path = tmp_path / "cache"
    monkeypatch.setattr(store, "home", lambda: str(path))
    return path


def test_an_image_is_the_root(image, cache: Path) -> None:  # noqa: F811
    name = image(env=["WHO=me"], cmd=["false"])
    with pycontain.Sandbox(image=name, files={"in": b"1"}) as box:
        assert (
            box.run(["sh", "-c", "cat /data/given; echo $WHO; cat in"]).text
            == "from the image\nme\n1"
        )
        assert box.run(["sh", "-c", "touch /data/x /etc/x /x"]).status != 0
        assert box.run(["sh", "-c", "cat /etc/disk"]).status != 0, "its devices are none"
        before = {str(path) for path in cache.rglob("*")}
    with pycontain.Sandbox(image=name) as box:
        assert box.run(["ls"]).text == ""
    assert {str(path) for path in cache.rglob("*")} == before, "nothing is written to the cache"


def test_an_invalid_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((HostError, UsageError)):
        pycontain.Sandbox(image=f"oci:{tmp_path}/nothing:x")


def test_image_rootfs_and_python_exclude_each_other() -> None:
    for wrong in (
        {"image": "oci:x", "python": True},
        {"image": "oci:x", "rootfs": "/"},
        {"python": False},
    ):
        with pytest.raises(UsageError):
            pycontain.Sandbox(**wrong)
    with pytest.raises(HostError):
        pycontain.Sandbox(rootfs="/nothing/there")
