"""The ops through ONNX Runtime against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

from rms_deploy.ops.reference import add_rms_norm, rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime

from ..kernels.cuda.cases import assert_same, is_decided
from .one_node import assert_close, node_model, run_node, samples, scale_type, weights

VIEWS = {
    "row": ((5, 111), [-1]),
    "hidden": ((2, 3, 4096), [2]),
    "long-row": ((2, 16385), [-1]),
    "per-head": ((2, 9, 4, 64), [-1]),
    "two-axes": ((2, 3, 7, 11), [2, 3]),
    "whole": ((3, 4, 5), [0, 1, 2]),
    "unordered-axes": ((2, 3, 7, 11), [-1, 2]),
    "columns": ((2, 37, 5, 7), [1]),
    "blocks-of-columns": ((2, 19, 300), [1]),
    "first": ((64, 9), [0]),
    "middle-pair": ((2, 3, 5, 70), [1, 2]),
}


@pytest.fixture(params=VIEWS)
def view(request):
    """Shape of X, axes, and the shape of a scale of n elements."""
    shape, axes = VIEWS[request.param]
    block = sorted(axis % len(shape) for axis in axes)
    scale = [shape[i] if i in block else 1 for i in range(block[0], len(shape))]
    return shape, axes, scale


def test_rms_norm(types, view, round_before_scale):
    shape, axes, scale_shape = view
    x, scale = samples(shape, types[0]), weights(scale_shape, types[1])
    attributes = {"axes": axes, "scale_type": scale_type(types[0], round_before_scale)}
    y = run_node("RMSNorm", {"X": x, "scale": scale}, **attributes)["Y"]
    expected = rms_norm(x, scale, axes=axes, round_before_scale=round_before_scale)
    assert_close(y, expected, round_before_scale=round_before_scale)


def test_add_rms_norm(types, view, round_before_scale):
    shape, axes, scale_shape = view
    x, r, scale = samples(shape, types[0]), samples(shape, types[0], seed=2), weights(scale_shape, types[1])
    attributes = {"axes": axes, "scale_type": scale_type(types[0], round_before_scale)}
    out = run_node("AddRMSNorm", {"X": x, "R": r, "scale": scale}, **attributes)
    y, total = add_rms_norm(x, r, scale, axes=axes, round_before_scale=round_before_scale)
    assert out["Sum"].tobytes() == total.tobytes()
    assert_close(out["Y"], y, round_before_scale=round_before_scale)


def test_partial_rms_norm(types, view, round_before_scale):
    shape, axes, scale_shape = view
    x, scale = samples(shape, types[0]), weights(scale_shape, types[1])
    size = int(np.prod(scale_shape)) // 4 + 1
    attributes = {"axes": axes, "scale_type": scale_type(types[0], round_before_scale), "partial_size": size}
    y = run_node("PartialRMSNorm", {"X": x, "scale": scale}, **attributes)["Y"]
    expected = rms_norm(x, scale, axes=axes, round_before_scale=round_before_scale, partial_size=size)
    assert_close(y, expected, round_before_scale=round_before_scale)


ROWS = {
    "groups": ((2, 3, 4, 64), [-1], (4, 64)),
    "odd-groups": ((2, 3, 5, 33), [-1], (5, 33)),
    "long-groups": ((2, 3, 4099), [-1], (3, 4099)),
    "a-factor-a-group": ((2, 3, 4, 64), [-1], (4, 1)),
    "samples": ((3, 5, 96), [-1], (3, 1, 96)),
    "rows": ((3, 5, 96), [-1], (3, 5, 96)),
    "heads": ((2, 3, 5, 64), [-1], (3, 1, 64)),
    "two-axes": ((2, 3, 7, 11), [2, 3], (3, 7, 11)),
    "samples-of-columns": ((3, 19, 30), [1], (3, 19, 1)),
}


@pytest.mark.parametrize("op", ["RMSNorm", "PartialRMSNorm", "AddRMSNorm"])
@pytest.mark.parametrize("constant", [False, True], ids=["input", "constant"])
@pytest.mark.parametrize(("shape", "axes", "scale_shape"), ROWS.values(), ids=ROWS)
def test_a_scale_of_several_rows(types, op, shape, axes, scale_shape, constant, round_before_scale):
    x, r, scale = samples(shape, types[0]), samples(shape, types[0], seed=2), weights(scale_shape, types[1])
    options = {"axes": axes, **({"partial_size": 5} if op == "PartialRMSNorm" else {})}
    inputs = {"X": x, **({"R": r} if op == "AddRMSNorm" else {}), "scale": scale}
    attributes = {"scale_type": scale_type(types[0], round_before_scale), **options}
    y = run_node(op, inputs, threads=2, initializers=["scale"] if constant else [], **attributes)["Y"]
    options["round_before_scale"] = round_before_scale
    expected = add_rms_norm(x, r, scale, **options)[0] if op == "AddRMSNorm" else rms_norm(x, scale, **options)
    assert_close(y, expected, round_before_scale=round_before_scale)


RECIPROCAL = {"round_before_scale": True, "round_reciprocal": True}


@pytest.mark.parametrize("magnitude", [1.0, 50.0, 1e-3, 1e-6])
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("op", ["RMSNorm", "AddRMSNorm", "PartialRMSNorm"])
def test_a_rounded_reciprocal(op, half, view, magnitude):
    """Bit for bit, where float32 leaves no choice of what 1 / rms is in the half type."""
    shape, axes, scale_shape = view
    x, r = ((magnitude * samples(shape, half, seed=seed).astype(np.float32)).astype(half) for seed in (0, 2))
    inputs = {"X": x, **({"R": r} if op == "AddRMSNorm" else {}), "scale": weights(scale_shape, half)}
    partial = {"partial_size": int(np.prod(scale_shape)) // 4 + 1} if op == "PartialRMSNorm" else {}
    attributes = {"axes": axes, "scale_type": scale_type(half, True), **partial}
    y = run_node(f"{op}Reciprocal", inputs, **attributes)["Y"]
    total = x if op != "AddRMSNorm" else (x.astype(np.float32) + r.astype(np.float32)).astype(half)
    expected = rms_norm(total, inputs["scale"], axes=axes, **RECIPROCAL, **partial)
    block = sorted(axis % len(shape) for axis in axes)
    rows = total.reshape(*shape[: block[0]], -1, *shape[block[-1] + 1 :])
    decided = is_decided(rows, block[0], **partial).reshape(shape)
    assert_same(y, expected, decided)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_rounded_reciprocal_of_extreme_rows(half, axis):
    """Sums of squares that overflow or vanish in float32, zeros, infinities, NaN; reciprocals beyond float16."""
    generator = np.random.default_rng(0)
    sizes = [1, 6e4, 1e-7, 0, 2] if half == "float16" else [1, 3e38, 1e30, 1e-22, 1e-30, 0, 2]
    x = (generator.uniform(-1, 1, (len(sizes) + 2, 133)) * np.array([*sizes, 1, 1])[:, None]).astype(half)
    x[-1, 3], x[-2, 5] = np.nan, np.inf
    x = np.ascontiguousarray(x if axis else x.T)
    scale = weights((133, 1) if axis == 0 else (133,), half)
    for epsilon in (0.0, 1e-6, 1e-12):
        inputs, options = {"X": x, "scale": scale}, {"axes": [axis], "epsilon": epsilon}
        y = run_node("RMSNormReciprocal", inputs, scale_type=scale_type(half, True), **options)["Y"]
        exact = float(np.float32(epsilon))
        expected = rms_norm(x, scale, axes=[axis], epsilon=exact, **RECIPROCAL)
        assert_same(y, expected, is_decided(x, axis, epsilon=exact))


@pytest.mark.parametrize("op", ["RMSNorm", "AddRMSNorm", "PartialRMSNorm"])
def test_a_reciprocal_op_that_scales_in_float32_is_the_plain_one(types, op):
    x = samples((9, 133), types[0])
    inputs = {"X": x, **({"R": x[::-1]} if op == "AddRMSNorm" else {}), "scale": weights((133,), types[1])}
    partial = {"partial_size": 17} if op == "PartialRMSNorm" else {}
    plain, twin = (run_node(name, inputs, **partial) for name in (op, f"{op}Reciprocal"))
    assert all(plain[name].tobytes() == twin[name].tobytes() for name in plain)


@pytest.mark.parametrize("op", ["RMSNorm", "AddRMSNorm", "PartialRMSNorm"])
def test_every_length_around_the_vectors(types, op):
    x = {n: samples((3, n), types[0], seed=n) for n in [*range(1, 71), 127, 128, 129, 191, 193]}
    attributes = {"partial_size": 1} if op == "PartialRMSNorm" else {}
    first = {"X": x[1], **({"R": x[1]} if op == "AddRMSNorm" else {}), "scale": weights((1,), types[1])}
    session = runtime.session(node_model(op, first, dynamic=True, **attributes), threads=1)
    for n, values in x.items():
        scale = weights((n,), types[1], seed=n)
        feeds = {"X": values, "scale": scale}
        if op == "AddRMSNorm":
            feeds["R"] = values[::-1]
            expected = add_rms_norm(values, values[::-1], scale)[0]
        else:
            expected = rms_norm(values, scale, **attributes)
        assert_close(runtime.run(session, feeds)["Y"], expected)


@pytest.mark.parametrize("columns", [2, 3, 15, 17, 33, 255, 256, 257, 515])
def test_every_width_of_columns(types, columns):
    x, scale = samples((2, 21, columns), types[0]), weights((21, 1), types[1])
    y = run_node("RMSNorm", {"X": x, "scale": scale}, axes=[1])["Y"]
    assert_close(y, rms_norm(x, scale, axes=[1]))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
@pytest.mark.parametrize("axes", [[1], [2]])
def test_scalar_scale(types, shape, axes, round_before_scale):
    x, scale = samples((2, 11, 19), types[0]), np.full(shape, weights((1,), types[1])[0])
    attributes = {"axes": axes, "scale_type": scale_type(types[0], round_before_scale)}
    y = run_node("RMSNorm", {"X": x, "scale": scale}, **attributes)["Y"]
    expected = rms_norm(x, scale.reshape(1), axes=axes, round_before_scale=round_before_scale)
    assert_close(y, expected, round_before_scale=round_before_scale)


@pytest.mark.parametrize("op", ["RMSNorm", "AddRMSNorm"])
@pytest.mark.parametrize("n", [1, 7, 96, 4099])
def test_a_constant_scale_gives_the_bits_of_an_input(types, round_before_scale, op, n):
    x, scale = samples((18, n), types[0]), weights((n,), types[1])
    inputs = {"X": x, **({"R": x[::-1]} if op == "AddRMSNorm" else {}), "scale": scale}
    attributes = {"scale_type": scale_type(types[0], round_before_scale)}
    varying, constant = (run_node(op, inputs, initializers=names, **attributes) for names in ([], ["scale"]))
    assert all(varying[name].tobytes() == constant[name].tobytes() for name in varying)
    normalised = varying.get("Sum", x)
    expected = rms_norm(normalised, scale, round_before_scale=round_before_scale)
    assert_close(constant["Y"], expected, round_before_scale=round_before_scale)


@pytest.mark.parametrize("axes", [[1], [-1]])
def test_epsilons(types, axes):
    x = (samples((4, 48, 6), types[0]).astype(np.float32) * 1e-2).astype(samples((1,), types[0]).dtype)
    scale = weights((48, 1) if axes == [1] else (6,), types[1])
    for epsilons in (
        {"epsilon": 0.5},
        {"epsilon": 0.0, "rms_epsilon": 0.25},
        {"epsilon": 0.0, "rms_min": 0.05},
        {"epsilon": 1e-3, "rms_epsilon": 1e-2, "rms_min": 0.06},
    ):
        y = run_node("RMSNorm", {"X": x, "scale": scale}, axes=axes, **epsilons)["Y"]
        # ONNX holds the attributes as float32.
        exact = {name: float(np.float32(value)) for name, value in epsilons.items()}
        assert_close(y, rms_norm(x, scale, axes=axes, **exact))


def test_rounding_orders_differ_in_float16():
    x, scale = samples((16, 256), "float16"), weights((256,), "float32")
    once = run_node("RMSNorm", {"X": x, "scale": scale}, scale_type=1)["Y"]
    twice = run_node("RMSNorm", {"X": x, "scale": scale}, scale_type=10)["Y"]
    assert 0.1 < np.mean(once != twice) < 0.5


def test_defaults_are_the_contract(types):
    x, scale = samples((3, 40), types[0]), weights((40,), types[1])
    assert_close(run_node("RMSNorm", {"X": x, "scale": scale})["Y"], rms_norm(x, scale, axes=[-1], epsilon=1e-6))


def test_a_long_row_with_an_outlier_channel():
    x = np.random.default_rng(0).standard_normal((1, 1_000_000)).astype(np.float32)
    x[0, 12345] = 3000
    y = run_node("RMSNorm", {"X": x, "scale": np.ones(1, np.float32)}, epsilon=0.0)["Y"]
    expected = rms_norm(x, epsilon=0.0, dtype=np.float64)
    # Two roundings of 2^-24, and a statistic at least as good.
    assert np.max(np.abs(y / expected - 1)) < 3 * 2.0**-24
