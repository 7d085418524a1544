"""Means from two counts of a server."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark.server_times import ServerTimes

BEFORE = {"requests": 10, "executions": 10, "queue": 1000, "compute": 5000}


def test_means_of_what_was_counted_in_between():
    after = {"requests": 14, "executions": 12, "queue": 9000, "compute": 65000}
    assert ServerTimes.between(BEFORE, after) == ServerTimes(4, queue=2.0, compute=15.0, batched=2.0)


@pytest.mark.parametrize("after", [BEFORE, dict.fromkeys(BEFORE, 0)])
def test_nothing_in_between_and_a_server_that_started_again(after):
    assert ServerTimes.between(BEFORE, after) is None
