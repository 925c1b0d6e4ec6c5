"""Human-readable amounts of memory and durations."""

from __future__ import annotations

import pytest

from pycontain.errors import UsageError
from pycontain.units import duration, size


@pytest.mark.parametrize(
    ("text", "bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512k", 512 * 1024),
        ("512m", 512 << 20),
        ("512M", 512 << 20),
        ("512MB", 512 << 20),
        ("512MiB", 512 << 20),
        ("1.5g", 3 << 29),
        ("2 gb", 2 << 30),
        ("1t", 1 << 40),
        ("1p", 1 << 50),
        ("9007199254740993", 9007199254740993),  # a float would lose the last digit
    ],
)
def test_memory_may_have_a_unit(text, bytes):
    assert size(text, "--memory") == bytes


@pytest.mark.parametrize(
    "text",
    ["", "m", "x", "1x", "-1", "-5", "1e3", "1..5m", "1mm", "0x10", "1,5m", ".5m", "-1m", "١"],
)
def test_an_invalid_amount_of_memory_is_refused(text):
    with pytest.raises(UsageError, match="is not an amount of memory"):
        size(text, "--memory")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("250ms", 0.25), ("1m30s", 90), ("1h", 3600), ("1.5s", 1.5), ("100us", 1e-4)],
)
def test_a_duration_is_read_in_gos_format(text, seconds):
    assert duration(text, "--interval") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "0s", "-1s", "5 s", "1.2.3s", "5days"])
def test_an_invalid_duration_is_refused(text):
    with pytest.raises(UsageError, match="is not a duration"):
        duration(text, "--interval")
