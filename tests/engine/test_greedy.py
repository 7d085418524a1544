"""Which kinds become plugins, by tables of the times of engines."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rms_deploy.engine.greedy import greedy

KINDS = ("a", "b", "c")


def search(times, *, engines=100):
    """What `greedy` chose, and the engines that it built in order, by a table of times."""
    built = [frozenset()]

    def is_faster(candidate, other):
        assert other in built, "what it is compared with was built before"
        built.append(candidate)
        return times[candidate] < times[other]

    chosen = greedy(KINDS, is_faster, goes_on=lambda: len(built) < engines)
    return chosen, built


def table(**gains):
    """Microseconds of each engine, where each plugin gains or loses by itself."""
    sets = chain.from_iterable(combinations(KINDS, size) for size in range(len(KINDS) + 1))
    return {frozenset(kinds): 100 - sum(gains[kind] for kind in kinds) for kinds in sets}


@pytest.mark.parametrize(
    ("gains", "chosen"),
    [
        ({"a": 3, "b": 2, "c": 1}, "abc"),
        ({"a": -3, "b": -2, "c": -1}, ""),
        ({"a": 3, "b": -1, "c": 1}, "ac"),
        ({"a": -9, "b": 1, "c": 1}, "bc"),
        ({"a": 0, "b": 0, "c": 0}, ""),
    ],
)
def test_the_kinds_that_win_become_plugins(gains, chosen):
    assert search(table(**gains))[0] == set(chosen)


def test_all_and_none_come_first():
    _, built = search(table(a=3, b=-1, c=1))
    assert built == [frozenset(), frozenset("abc"), frozenset("bc"), frozenset("ac"), frozenset("a")]


def test_it_ends_with_the_best_so_far_where_the_time_is_over():
    chosen, built = search(table(a=-9, b=1, c=1), engines=3)
    assert (chosen, len(built)) == (set(), 3)


def test_one_kind_needs_two_engines():
    built = []
    assert greedy(["a"], lambda candidate, _: not built.append(candidate)) == {"a"}
    assert built == [{"a"}]


@given(st.fixed_dictionaries(dict.fromkeys(KINDS, st.integers(-9, 9))))
def test_plugins_that_gain_by_themselves_are_chosen_and_no_engine_is_built_twice(gains):
    chosen, built = search(table(**gains))
    assert chosen == {kind for kind, gain in gains.items() if gain > 0} or table(**gains)[chosen] == min(
        table(**gains).values()
    )
    assert len(built) == len(set(built)) <= 2 + len(KINDS)
