"""What a result says of its points."""

from __future__ import annotations

from dataclasses import replace

from rms_deploy.benchmark.result import CandidateResult, parts, point_name

from .made_result import result


def test_a_candidate_is_named_after_its_model():
    assert CandidateResult("a.onnx").name == "a.onnx"
    assert CandidateResult("a.onnx", name="fused").name == "fused"


def test_the_first_point_stands_for_the_result():
    made = result()
    assert made.candidates == made.points[0].candidates
    assert made.shapes == {"x": (1, 64)}
    assert made.failed
    assert [point_name(point) for point in made.points] == ["seq 1", "seq 16", "seq 128"]
    assert point_name(result(sweep=False).points[0]) == ""


def test_the_parts_of_a_result():
    made = result()
    assert parts(made) == [list(made.points)]
    first, *others = made.points
    split = replace(made, points=(replace(first, part="a"), *(replace(point, part="b") for point in others)))
    assert [[point.dims["seq"] for point in part] for part in parts(split)] == [[1], [16, 128]]
    assert point_name(split.points[0]) == "a, seq 1"
    assert point_name(replace(first, part="a", dims={})) == "a"
