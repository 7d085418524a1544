"""Numbers as people read them."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark.report.numbers import duration, ratio


@pytest.mark.parametrize(
    ("microseconds", "text"), [(1.25, "1.2 us"), (999.9, "999.9 us"), (1500, "1.50 ms"), (2.5e6, "2.50 s")]
)
def test_latencies_have_a_unit_that_can_be_read(microseconds, text):
    assert duration(microseconds) == text


def test_a_ratio_that_is_not_1_is_not_shown_as_1():
    assert [ratio(value) for value in (1, 1.004, 0.9961, 1.01, 2)] == ["1.00", "1.0040", "0.9961", "1.01", "2.00"]
