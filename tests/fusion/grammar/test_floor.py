"""Floors, and what bounds statistics without changing them."""

import numpy as np
import pytest

MEAN = "q = Mul (x, x) m = ReduceMean (q, last)"
FLOORS = {
    "Clip, no upper bound": "d = Clip (r, floor) y = Div (x, d)",
    "Where, Less": "c = Less (r, floor) d = Where (c, floor, r) y = Div (x, d)",
    "Where, Greater": "c = Greater (floor, r) d = Where (c, floor, r) y = Div (x, d)",
    "Max, twice": "k = Max (r, zero) d = Max (k, floor) y = Div (x, d)",
}


@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS)
def test_a_floor_of_the_root(floor, build, check):
    zero = "zero = Constant <value = float {0}> ()"
    (norm,) = check(build(f"{zero} {MEAN} r = Sqrt (m) {floor}")).norms
    assert norm.rms_min == pytest.approx(0.3)


def test_the_attribute_of_an_old_clip(build, check):
    body = "q = Mul (x, x) m = ReduceMean <axes = [-1]> (q) r = Sqrt (m) d = Clip <min = 0.25> (r) y = Div (x, d)"
    assert check(build(body, opset=9)).norms[0].rms_min == 0.25


def test_an_empty_name_is_no_upper_bound(build, check):
    model = build(f"{MEAN} r = Sqrt (m) d = Clip (r, floor) y = Div (x, d)")
    model.graph.node[3].input.append("")
    assert check(model).norms[0].rms_min == pytest.approx(0.3)


def test_the_largest_number_of_a_smaller_type_is_a_bound(build, near_miss):
    body = f"top = Constant <value = float {{65504}}> () {MEAN} r = Sqrt (m) d = Clip (r, floor, top) y = Div (x, d)"
    near_miss(build(body), piece="rms_min", reason="clipped from above")


NEAR_MISSES = {
    "a floor of the inverse": ("i = Reciprocal (r) d = Max (i, floor) y = Mul (x, d)", "the inverse of the statistics"),
    "an infinite floor": (
        f"top = Constant <value = float {{{np.float32(3e38)}}}> () t = Mul (top, top) d = Max (r, t) y = Div (x, d)",
        "the floor is inf",
    ),
    "another condition": ("c = Less (x, floor) d = Where (c, floor, r) y = Div (x, d)", "where a condition holds"),
    "the smaller": ("c = Less (r, floor) d = Where (c, r, floor) y = Div (x, d)", "where a condition holds"),
}


@pytest.mark.parametrize(("end", "reason"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(end, reason, build, near_miss):
    near_miss(build(f"{MEAN} r = Sqrt (m) {end}"), piece="rms_min", reason=reason)
