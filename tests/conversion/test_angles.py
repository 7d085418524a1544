"""What computes a sine from positions stays in float32, and nothing else does."""

from __future__ import annotations

from rms_deploy.conversion.angles import nodes_of_angles


def kept(model):
    return [node.op_type for node in nodes_of_angles(model)]


def test_between_a_cast_of_positions_and_a_sine(prepared):
    body = """p = Cast<to = 1>(positions) a = Mul(p, f) c = Concat<axis = -1>(a, a) s = Sin(c) k = Cos(c)
        h = Mul(x, s) y = Mul(h, k)"""
    model = prepared(body, "float[b,8] x, int64[b,1] positions", constants="float[4] f = {1, 0.1, 0.01, 0.001}")
    assert kept(model) == ["Cast", "Mul", "Concat", "Sin", "Cos"]


def test_from_a_range(prepared):
    body = "p = Range(zero, n, one) s = Sin(p) y = Add(x, s)"
    model = prepared(body, "float[b,8] x, float n", constants="float zero = {0}, float one = {1}")
    assert kept(model) == ["Range", "Sin"]


def test_a_sine_of_activations_and_a_mask_are_no_angles(prepared):
    body = "m = Cast<to = 1>(mask) k = Mul(x, m) s = Sin(x) y = Add(s, k)"
    assert kept(prepared(body, "float[b,8] x, int64[b,8] mask")) == []
