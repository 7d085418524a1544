"""What a verification says of its comparisons."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from rms_deploy.verification.difference import difference
from rms_deploy.verification.result import Check, Verification


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
