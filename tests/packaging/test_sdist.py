"""The source distribution: what is needed to build, to install and to test."""

from __future__ import annotations

import subprocess
import tarfile

import pytest

from tests.packaging.conftest import ROOT, built

LEFT_OUT = {".ci/run"}


def test_the_source_distribution_has_every_file_of_the_source():
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("this is not a checkout")
    with tarfile.open(built("*.tar.gz")) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    assert set(done.stdout.splitlines()) - packed == LEFT_OUT


def test_the_source_distribution_has_no_compiled_file():
    with tarfile.open(built("*.tar.gz")) as file:
        assert not [name for name in file.getnames() if name.endswith((".so", ".pyc"))]
