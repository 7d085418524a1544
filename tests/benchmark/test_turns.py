"""Each candidate once in a round, another first in each."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark import turns as module
from rms_deploy.benchmark.turns import turns


def test_another_candidate_begins_each_round():
    order = [(number, name) for number, name in turns("abc", 4)]
    assert "".join(name for _, name in order) == "abc" + "bca" + "cab" + "abc"
    assert [number for number, _ in order] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert list(turns([], 2)) == []


def test_a_candidate_that_is_removed_ends_its_round_and_takes_no_further_part():
    names, seen = list("abc"), []
    for number, name in turns(names, 3):
        seen.append((number, name))
        if (number, name) == (0, "b"):
            names.remove("b")
    assert "".join(name for _, name in seen) == "abc" + "ca" + "ac"


@pytest.mark.parametrize(("threads", "pauses"), [(1, 0), (2, 6)])
def test_threads_get_time_to_fall_asleep(monkeypatch, threads, pauses):
    slept = []
    monkeypatch.setattr(module, "sleep", slept.append)
    assert len(list(turns("ab", 3, threads=threads))) == 6
    assert len(slept) == pauses
