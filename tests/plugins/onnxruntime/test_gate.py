"""Norms with a gate through ONNX Runtime's CPU provider against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

from rms_deploy.errors import RunError
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.reference import gated_rms_norm

from .one_node import assert_gated_close, gates, run_node, samples, scale_type, weights

OPS_WITH_GATES = [op for op in OPS.values() if op.is_gated]
GATED = pytest.mark.parametrize("op", OPS_WITH_GATES, ids=lambda op: op.name)

VIEWS = {
    "row": ((5, 111), [-1], (111,)),
    "one-element": ((9, 1), [-1], (1,)),
    "hidden": ((2, 3, 4096), [2], (4096,)),
    "long-row": ((2, 16385), [-1], (16385,)),
    "groups": ((2, 3, 4, 64), [-1], (4, 64)),
    "odd-groups": ((2, 3, 5, 33), [-1], (5, 33)),
    "two-axes": ((2, 3, 7, 11), [2, 3], (7, 11)),
    "a-scalar": ((3, 70), [-1], (1,)),
}


def expected_of(op, x, z, scale, **options):
    return gated_rms_norm(x, z, scale, gate=op.gate, before=op.gates_first, **options)


@GATED
@pytest.mark.parametrize("constant", [False, True], ids=["input", "constant"])
@pytest.mark.parametrize(("shape", "axes", "scale_shape"), VIEWS.values(), ids=VIEWS)
def test_against_the_reference(types, op, shape, axes, scale_shape, constant, round_before_scale):
    inputs = {"X": samples(shape, types[0]), "Z": gates(shape, types[0]), "scale": weights(scale_shape, types[1])}
    options = {"axes": axes, "scale_type": scale_type(types[0], round_before_scale)}
    y = run_node(op.name, inputs, threads=2, initializers=["scale"] if constant else [], **options)["Y"]
    expected = expected_of(op, *inputs.values(), axes=axes, round_before_scale=round_before_scale)
    assert_gated_close(y, expected, round_before_scale=round_before_scale)


@GATED
def test_squares_that_float32_cannot_hold(op):
    """The statistic is redone in float64; the gate is 1 and more, so that the product does not overflow."""
    x, scale = np.full((2, 40), 1e30, np.float32), weights((40,), "float32")
    x[1] = 1e-30
    z = np.linspace(1.3, 2, 80, dtype=np.float32).reshape(2, 40)
    y = run_node(op.name, {"X": x, "Z": z, "scale": scale}, epsilon=0.0)["Y"]
    assert_gated_close(y, expected_of(op, x, z, scale, epsilon=0.0))


@GATED
def test_gates_at_the_ends_of_float32(op):
    """exp(-z) overflows below -88.4, where the gate is zero and should be -3.7e-37 or nearer; a NaN stays one."""
    z = np.array([[-1e30, -120, -88.8, -88.5, -88.3, -87, -17, -1e-20, 0, 1e-20, 17, 88, 1000, np.nan]], np.float32)
    x, scale = np.ones_like(z), np.ones(1, np.float32)
    with np.errstate(over="ignore"):
        y = run_node(op.name, {"X": x, "Z": z, "scale": scale}, epsilon=1.0)["Y"]
    if op.gates_first:
        assert np.isnan(y).all()
        z = z[:, :-1]
        x = x[:, :-1]
        y = run_node(op.name, {"X": x, "Z": z, "scale": scale}, epsilon=1.0)["Y"]
    expected = expected_of(op, x, z, scale, epsilon=1.0)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=3.7e-37)


@GATED
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_float32_x_holds_16_bit_values(half, op):
    """See test_promoted.py: all tensors are rounded as they are read, and the result as it is written."""
    dtype = element_dtype(half)
    inputs = {"X": samples((7, 133), "float32"), "Z": gates((7, 133), "float32"), "scale": weights((133,), "float32")}
    wide = run_node(op.name, inputs, scale_type=scale_type(half, round_before_scale=True))["Y"]
    narrow = {name: array.astype(dtype) for name, array in inputs.items()}
    plain = run_node(op.name, narrow, scale_type=scale_type(half, round_before_scale=True))["Y"]
    assert wide.tobytes() == plain.astype(np.float32).tobytes()
    expected = expected_of(op, *narrow.values(), round_before_scale=True)
    assert_gated_close(plain, expected, round_before_scale=True)


@GATED
def test_threads_give_the_same_bits(op):
    inputs = {
        "X": samples((64, 1000), "float32"),
        "Z": gates((64, 1000), "float32"),
        "scale": weights((1000,), "float32"),
    }
    one, two = (run_node(op.name, inputs, threads=threads)["Y"] for threads in (1, 2))
    assert one.tobytes() == two.tobytes()


@GATED
def test_what_is_refused(op):
    x, scale = samples((2, 3, 8), "float32"), weights((8,), "float32")
    for z, axes, text in [
        (x[:, :1], [-1], "Z has shape [2,1,8]; use that of X, [2,3,8]"),
        (x[0], [-1], "Z has shape [3,8]; use that of X, [2,3,8]"),
        (x, [1], "axes is [1], X has rank 3; use axes that end with the last: a norm with a gate takes no others"),
    ]:
        with pytest.raises(RunError) as error:
            run_node(op.name, {"X": x, "Z": z, "scale": scale[:1]}, axes=axes, dynamic=True)
        assert str(error.value).endswith(f"{op.name} node 'norm': {text}")


@GATED
def test_no_rows(op):
    x = np.empty((0, 8), np.float32)
    assert run_node(op.name, {"X": x, "Z": x, "scale": weights((8,), "float32")})["Y"].shape == (0, 8)
