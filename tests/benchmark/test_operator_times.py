"""The events of a profiler, made up, are summed up."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark.operator_times import fold, norm_sizes


def node(name, op, ts, dur, **sizes):
    sizes = {"activation_size": "0", "parameter_size": "0", "output_size": "0", **sizes}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op, **sizes}}


def run(ts, *durations):
    """A run of three nodes; the last is in the body of a loop, whose own event holds it."""
    events = [
        node("mm", "FusedMatMul", ts, durations[0]),
        node("pow", "Pow", ts + 10, durations[1], activation_size="64", output_size="64"),
        node("body", "Add", ts + 20, durations[2]),
        node("loop", "Loop", ts + 20, 1000),
    ]
    whole = {"cat": "Session", "name": "model_run", "ts": ts - 1, "dur": 90, "args": {}}
    return [*events, {"cat": "Node", "name": "mm_fence_before", "ts": ts, "dur": 500, "args": {}}, whole]


EVENTS = [*run(100, 999, 999, 999), *run(200, 10, 5, 1), *run(300, 30, 5, 1), *run(400, 20, 5, 1)]


def test_each_node_counts_in_its_category_and_the_median_run_stands():
    result = fold(EVENTS, {"pow": False}, latency=100, skip=1)
    assert [(o.category, o.name, o.calls, o.microseconds) for o in result.operators] == [
        ("matmul", "FusedMatMul", 1, 20),
        ("norms", "Pow", 1, 5),
        ("rest", "Add", 1, 1),
    ]
    assert result.runs == 3
    assert result.microseconds() == 26
    assert result.share("norms") == pytest.approx(5 / 26)
    assert (result.norm_bytes, result.bandwidth) == (0, None), "decomposed"


def test_the_cost_of_the_profiler_is_subtracted_from_every_node():
    """36 us with the profiler and 28 without: 2 us for each of four nodes."""
    two = [event for ts in (200, 300, 400) for event in (*run(ts, 20, 5, 1), node("mm2", "FusedMatMul", ts + 15, 10))]
    result = fold([*run(100, 9, 9, 9), *two], {"pow": False}, latency=28)
    assert result.overhead == 2
    assert {o.name: o.microseconds for o in result.operators} == {"FusedMatMul": 26, "Pow": 3, "Add": 0}


def test_a_latency_from_a_quicker_moment_takes_no_more_than_the_shortest_node():
    """26 us with the profiler and 2 without would be 8 us a node; but a node took 1 us, and at most 1 is cut off."""
    result = fold(EVENTS, {"pow": False}, latency=2, skip=1)
    assert result.overhead == 2
    assert {o.name: o.microseconds for o in result.operators} == {"FusedMatMul": 18, "Pow": 3, "Add": 0}


def test_no_profiler_takes_more_than_ten_microseconds_for_a_node():
    result = fold([*run(100, 500, 500, 500), *run(2000, 500, 400, 300)], {"pow": False}, latency=2, skip=1)
    assert result.overhead == 10
    assert {o.name: o.microseconds for o in result.operators} == {"FusedMatMul": 490, "Pow": 390, "Add": 290}


def test_the_bytes_of_norms_are_those_of_one_run():
    assert norm_sizes(EVENTS, {"pow": True}) == [128]
    assert fold(EVENTS, {"pow": True}, latency=26).norm_bytes == 128
    assert norm_sizes(EVENTS, {"pow": True, "body": False}) == []


def test_nothing_was_run():
    result = fold([], {}, latency=1)
    assert (result.operators, result.share("norms")) == ((), 0.0)
