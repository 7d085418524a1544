"""What a verification says of its comparisons."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from rms_deploy.verification.check import Check, Divergence, Part
from rms_deploy.verification.difference import difference
from rms_deploy.verification.pairs import ValuePair
from rms_deploy.verification.result import Verification


def check(kind: str, output: str, off: float, *, passed: bool = True, formula: float | None = None) -> Check:
    one = np.ones(4)
    apart = None if formula is None else difference(one + formula, one)
    return Check(kind, output, "float64", difference(one + off, one), None, apart, apart, passed=passed, note="")


def verification(*checks: Check, **fields: Any) -> Verification:
    texts = dict.fromkeys(("reference", "candidate", "reference_run", "candidate_run", "truth", "formula"), "text")
    numbers = {"tolerance": 0.1, "formula_tolerance": 1e-7, "seed": 0}
    origin = {"tolerance_origin": "given", "shapes": {"x": (1, 2)}}
    return Verification(**{**texts, **numbers, **origin, **fields}, checks=checks)


def test_it_passes_if_every_comparison_does() -> None:
    good, bad = check("normal", "y", 0.01), check("tiny", "y", 0.0, passed=False)
    assert verification(good).passed
    assert not verification(good, bad).passed


def test_the_worst_failed_before_it_is_far() -> None:
    far, failed, wrong = (
        check("normal", "a", 0.5),
        check("normal", "b", 0.1, passed=False),
        check("huge", "a", np.nan, passed=False),
    )
    assert verification(far, failed).worst is failed
    assert verification(far, failed, wrong).worst is wrong, "NaN counts more than any distance"
    assert verification(far, failed, wrong).worst_by_kind() == [failed, wrong]


def test_the_verdict_says_why_the_worst_passed() -> None:
    good, worst = check("normal", "y", 0.01), replace(check("huge", "y", 1e39), note="the reference is far off")
    assert "relative L2 at most 1e+39 (huge inputs: the reference is far off); " in verification(good, worst).verdict
    assert "relative L2 at most 0.01; " in verification(good).verdict


def test_the_largest_difference_of_the_formulas() -> None:
    assert verification(check("normal", "y", 0.0)).formula_difference is None
    both = verification(check("normal", "y", 0.0, formula=1e-3), check("tiny", "y", 0.0, formula=1e-2))
    assert abs(both.formula_difference - 1e-2) < 1e-12


def test_json() -> None:
    data = verification(check("normal", "y", 0.5, formula=0.25)).to_dict()
    json.dumps(data, allow_nan=False)
    assert data["reference"] == {"model": "text", "run": "text"}
    assert data["shapes"] == {"x": [1, 2]}
    assert data["worst"] == {"kind": "normal", "output": "y"}
    (row,) = data["checks"]
    assert (row["relative_l2"], row["formula"], row["reference_error"]) == (0.5, 0.25, None)


def part(value: str, kind: str, off: float, *, passed: bool = True) -> Part:
    one = np.ones(4)
    return Part(ValuePair(value, value, "node", "module", 4), kind, difference(one + off, one), passed)


def test_what_was_compared() -> None:
    whole = check("normal", "y", 0.0, formula=0.0)
    numbers = verification(check("normal", "y", 0.0))
    assert (numbers.compared, numbers.is_complete, numbers.part_difference) == ("numbers only", False, None)
    assert (verification(whole).compared, verification(whole).is_complete) == ("whole", True)
    parts = part("a", "real", 0.0), part("a", "tiny", 0.5), part("b", "real", 0.0)
    both = verification(whole, parts=parts)
    assert both.compared == both.to_dict()["compared"] == "whole and in 2 parts"
    assert both.part_difference == 0.5
    assert both.passed


def test_a_part_that_differs_fails() -> None:
    assert not verification(
        check("normal", "y", 0.0, formula=0.0), parts=(part("a", "tiny", 1.0, passed=False),)
    ).passed


def test_where_they_part_is_in_the_json() -> None:
    failed = part("a", "tiny", 1.0, passed=False)
    result = verification(
        check("normal", "y", 0.0),
        parts=(failed,),
        first_difference=Divergence(failed.pair, "as deployed", 0.25, failed.difference),
    )
    assert result.to_dict()["first_difference"] == {
        "value": "a",
        "candidate_value": "a",
        "node": "node",
        "module": "module",
        "how": "as deployed",
        "before": 0.25,
        "behind": 1.0,
        "nonfinite_mismatches": 0,
    }
