"""The sealed interpreter. The attack it prevents is in tests/security/test_own_executable.py."""

from __future__ import annotations

import os
import sys

import pytest

from pycontain.kernel import seal

pytestmark = pytest.mark.needs_overlay


def test_the_sealed_path_is_on_a_read_only_overlay() -> None:
    sealed = seal.mounted(os.path.realpath(sys.executable))
    assert os.statvfs(sealed).f_flag & os.ST_RDONLY
    with pytest.raises(OSError, match="Read-only file system"):
        os.open(sealed, os.O_WRONLY)


def test_a_sealed_path_is_not_sealed_again() -> None:
    sealed = seal.mounted(os.path.realpath(sys.executable))
    assert seal.mounted(sealed) == sealed
