"""Norms with a shift, a residual of another type, or a float32 sum, through ONNX Runtime's CPU provider."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from rms_deploy.errors import RunError
from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.reference import outputs_of
from rms_deploy.runtime import onnxruntime_session as runtime

from ..kernels.cuda.cases import assert_same, is_decided
from .one_node import (
    assert_close,
    assert_shifted_close,
    element_type,
    model_of,
    node_model,
    op_inputs,
    run_node,
    samples,
    scale_type,
    shifts,
    weights,
)

ADDS = [name for name, op in OPS.items() if op.is_add and not op.is_quantized]
SHIFTED = [name for name, op in OPS.items() if op.is_shifted]
EVERY_OP = pytest.mark.parametrize("name", sorted({*ADDS, *SHIFTED}))
EVERY_SUM = pytest.mark.parametrize(
    ("name", "sum_type"),
    [*((name, None) for name in sorted({*ADDS, *SHIFTED})), *((name, "float32") for name in ADDS)],
    ids=lambda part: part or "T",
)
"""Each op, with R of the type of X; and each that has one, with a float32 R."""

VIEWS = {
    "row": ((5, 111), [-1], (111,)),
    "one-element": ((9, 1), [-1], (1,)),
    "hidden": ((2, 3, 4096), [2], (4096,)),
    "long-row": ((2, 16385), [-1], (16385,)),
    "groups": ((2, 3, 4, 64), [-1], (4, 64)),
    "odd-groups": ((2, 3, 5, 33), [-1], (5, 33)),
    "samples": ((3, 5, 96), [-1], (3, 1, 96)),
    "a-factor-a-group": ((2, 3, 4, 64), [-1], (4, 1)),
    "two-axes": ((2, 3, 7, 11), [2, 3], (7, 11)),
    "one-factor": ((3, 70), [-1], (1,)),
    "a-scalar": ((3, 70), [-1], ()),
}


FAST = ("row", "odd-groups", "one-factor")
"""The views that every run of the tests takes."""


def assert_outputs(op, inputs, out, **attributes):
    """Against the reference. Sum is exact."""
    expected = dict(zip(("Y", "Sum"), outputs_of(op, inputs, **attributes), strict=False))
    rounds = attributes.get("scale_type", 1) != 1
    assert {name: (array.dtype, array.shape) for name, array in out.items()} == {
        name: (array.dtype, array.shape) for name, array in expected.items()
    }
    number = ~np.isnan(expected.get("Sum", inputs["X"]).astype(np.float32))
    assert "Sum" not in out or out["Sum"][number].tobytes() == expected["Sum"][number].tobytes()
    assert "Sum" not in out or np.isnan(out["Sum"][~number].astype(np.float32)).all()
    if op.is_reciprocal and rounds:
        axes = tuple(attributes["axes"])
        size = int(np.prod([inputs["X"].shape[axis] for axis in axes]))
        rows = (out["Sum"].astype(inputs["X"].dtype) if op.is_add else inputs["X"]).reshape(-1, size)
        assert_same(out["Y"].reshape(rows.shape), expected["Y"].reshape(rows.shape), is_decided(rows))
    elif op.is_shifted:
        assert_shifted_close(out["Y"], expected["Y"], inputs["shift"], round_before_scale=rounds)
    else:
        assert_close(out["Y"], expected["Y"], round_before_scale=rounds)


@pytest.mark.parametrize("constant", [False, True], ids=["input", "constant"])
@pytest.mark.parametrize(
    ("shape", "axes", "scale_shape"),
    [pytest.param(*view, id=name, marks=() if name in FAST else pytest.mark.slow) for name, view in VIEWS.items()],
)
@EVERY_SUM
def test_against_the_reference(types, name, sum_type, shape, axes, scale_shape, constant, round_before_scale):
    op = OPS[name]
    inputs = op_inputs(op, shape, scale_shape, types, sum_type)
    attributes = {"axes": axes, "scale_type": scale_type(types[0], round_before_scale)}
    constants = [name for name in ("scale", "shift") if name in inputs] if constant else []
    out = run_node(name, inputs, threads=2, initializers=constants, **attributes)
    assert_outputs(op, inputs, out, **attributes)


@EVERY_SUM
def test_every_length_around_the_vectors(types, name, sum_type):
    op = OPS[name]
    session = runtime.session(node_model(name, op_inputs(op, (3, 1), (1,), types, sum_type), dynamic=True), threads=1)
    for n in [*range(1, 71), 127, 128, 129, 191, 193]:
        inputs = op_inputs(op, (3, n), (n,), types, sum_type)
        assert_outputs(op, inputs, runtime.run(session, inputs))


@EVERY_OP
def test_the_epsilons(types, name):
    op = OPS[name]
    inputs = op_inputs(op, (6, 70), (70,), types)
    for epsilons in ({"epsilon": 0.5}, {"epsilon": 0.0, "rms_epsilon": 0.25}, {"epsilon": 0.0, "rms_min": 40.0}):
        assert_outputs(op, inputs, run_node(name, inputs, **epsilons), **epsilons)


@pytest.mark.parametrize("name", SHIFTED)
def test_a_shift_is_added_where_the_scale_was_applied(name):
    """In float16 the order of scaling first and rounding is another number in every third element."""
    op = OPS[name]
    inputs = op_inputs(op, (16, 256), (256,), ("float16", "float16"))
    once, twice = (run_node(name, inputs, scale_type=order)["Y"] for order in (1, 10))
    assert 0.1 < np.mean(once != twice) < 0.6


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_float32_sum_is_normalised_unrounded(half):
    """With a scale of 2^11, the rounding of the sum alone decides what Y is."""
    inputs = op_inputs(OPS["AddRMSNorm"], (8, 200), (200,), (half, half))
    outs = {name: run_node(name, inputs) for name in ("AddRMSNorm", "AddFloat32RMSNorm")}
    assert outs["AddRMSNorm"]["Sum"].tobytes() == outs["AddFloat32RMSNorm"]["Sum"].tobytes()
    assert np.mean(outs["AddRMSNorm"]["Y"] != outs["AddFloat32RMSNorm"]["Y"]) > 0.1


def test_in_float32_a_float32_sum_is_the_sum():
    inputs = op_inputs(OPS["AddRMSNorm"], (8, 200), (200,), ("float32", "float32"))
    plain, wide = (run_node(name, inputs) for name in ("AddRMSNorm", "AddFloat32RMSNorm"))
    assert [array.tobytes() for array in plain.values()] == [array.tobytes() for array in wide.values()]


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_float32_sum_keeps_what_x_would_lose(half):
    """R is float32, and 2^-16 of X: the norm reads the sum rounded to the type of X, Sum is not rounded to it."""
    x = np.ones((3, 64), element_dtype(half))
    r = np.full((3, 64), 2.0**-16, np.float32)
    out = run_node("AddRMSNorm", {"X": x, "R": r, "scale": np.ones(64, element_dtype(half))}, epsilon=0.0)
    assert (out["Sum"] == 1 + np.float32(2.0**-16)).all()
    assert (out["Y"] == 1).all()


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@EVERY_SUM
def test_squares_that_float32_cannot_hold(name, sum_type, dtype, epsilon):
    """The statistic is redone in float64, and the quotient taken there."""
    op = OPS[name]
    inputs = op_inputs(op, (8, 77), (77,), (dtype, "float32"), sum_type)
    sizes = np.array([1, 1e38, 1e30, 1e19, 1e-15, 1e-22, 1e-30, 2])[:, None]
    signs = np.random.default_rng(3).uniform(-1, 1, (8, 77))
    inputs["X"] = (signs * sizes).astype(element_dtype(dtype))
    if op.is_add:
        inputs["R"] = (signs[::-1] * sizes / 2).astype(inputs["R"].dtype)
    out = run_node(name, inputs, epsilon=epsilon)
    assert np.isfinite(out["Y"].astype(np.float32)).all()
    assert_outputs(op, inputs, out, epsilon=float(np.float32(epsilon)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@EVERY_SUM
def test_values_that_are_no_numbers(name, sum_type, dtype):
    """They go where the formula sends them, and no further than their own row."""
    op = OPS[name]
    inputs = op_inputs(op, (9, 40), (40,), (dtype, "float32"), sum_type)
    x = inputs["X"]
    x[0], x[1, 3], x[2, 4], x[3, 5] = 0, np.nan, np.inf, -np.inf
    x[4, 0], x[4, 39] = np.nan, np.inf
    if op.is_add:
        inputs["R"][0], inputs["R"][5, 0], inputs["R"][6, 39] = 0, np.nan, np.inf
        inputs["R"][2, 4] = -np.inf
    if op.is_shifted:
        inputs["shift"][7], inputs["shift"][8] = np.nan, np.inf
    inputs["scale"][9] = np.nan
    for epsilon in (0.0, 1e-6):
        out = run_node(name, inputs, epsilon=epsilon)
        assert_outputs(op, inputs, out, epsilon=float(np.float32(epsilon)))


@EVERY_SUM
def test_threads_give_the_same_bits(types, name, sum_type):
    op = OPS[name]
    inputs = op_inputs(op, (64, 1000), (1000,), types, sum_type)
    outs = [run_node(name, inputs, threads=threads) for threads in (1, 2, 3)]
    for output in outs[0]:
        assert len({out[output].tobytes() for out in outs}) == 1


@pytest.mark.parametrize("sum_type", [None, "float32"], ids=["T", "float32"])
@pytest.mark.parametrize("name", ADDS)
def test_memory_that_is_reused(types, name, sum_type):
    """A chain whose buffers ONNX Runtime may share between inputs and outputs, the same tensor twice among them."""
    op = OPS[name]
    inputs = op_inputs(op, (40, 257), (257,), types, sum_type)
    factors = [name for name in ("scale", "shift") if name in inputs]
    nodes = [helper.make_node("Identity", [value], [f"{value}0"]) for value in ("X", "R")]
    nodes += [
        helper.make_node(name, [f"X{i}", f"R{i}", *factors], [f"X{i + 1}", f"R{i + 1}"], domain=DOMAIN)
        for i in range(4)
    ]
    if sum_type is None:
        nodes[2].input[1] = "X0"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info(n, element_type(a.dtype), a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info("X4", element_type(inputs["X"].dtype), (40, 257))],
    )
    y = runtime.run(runtime.session(model_of(graph), threads=1), inputs)["X4"]
    feeds = dict(inputs)
    if sum_type is None:
        feeds["R"] = feeds["X"]
    for _ in range(4):
        out = run_node(name, feeds)
        feeds["X"], feeds["R"] = out["Y"], out["Sum"]
    assert y.tobytes() == feeds["X"].tobytes()


@EVERY_SUM
def test_types_and_shapes_of_the_outputs_are_known(types, name, sum_type):
    op = OPS[name]
    inputs = op_inputs(op, (2, 3, 64), (64,), types, sum_type)
    model = node_model(name, inputs)
    for output in model.graph.output:
        output.ClearField("type")
    texts = {"float32": "tensor(float)", "float16": "tensor(float16)", "bfloat16": "tensor(bfloat16)"}
    names = [types[0], *([inputs["R"].dtype.name] if op.is_add else [])]
    known = [(value.type, value.shape) for value in runtime.session(model).get_outputs()]
    assert known == [(texts[name], [2, 3, 64]) for name in names]


@EVERY_OP
@pytest.mark.parametrize("shape", [(0, 8), (3, 0)], ids=str)
def test_empty_tensors(name, shape):
    op = OPS[name]
    inputs = op_inputs(op, shape, (1,), ("float16", "float16"), "float32")
    for array in run_node(name, inputs).values():
        assert array.shape == shape


X, SCALE = samples((2, 3, 8), "float32"), weights((8,), "float32")


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 8), (3, 8)], ids=str)
@pytest.mark.parametrize("name", SHIFTED)
def test_a_shift_of_another_shape_than_scale(name, shape):
    inputs = op_inputs(OPS[name], X.shape, (8,), ("float32", "float32")) | {"shift": shifts(shape, "float32")}
    with pytest.raises(RunError) as error:
        run_node(name, inputs)
    text = f"shift has shape [{','.join(map(str, shape))}]; use that of scale, [8]"
    assert str(error.value) == f"{name} node 'norm': {text}"


@pytest.mark.parametrize(
    ("name", "sum_type", "part"),
    [
        ("RMSNormShift", "float16", "a shift"),
        ("AddRMSNormShift", "float16", "a shift"),
        ("AddFloat32RMSNorm", "float16", "a float32 sum"),
        ("AddRMSNorm", "float32", "a residual of another type than X"),
        ("AddRMSNormReciprocal", "float32", "a residual of another type than X"),
    ],
)
def test_axes_that_end_before_the_last(name, sum_type, part):
    inputs = op_inputs(OPS[name], (2, 3, 8), (3, 1), ("float16", "float16"), sum_type)
    with pytest.raises(RunError) as error:
        run_node(name, inputs, axes=[1])
    text = f"axes is [1], X has rank 3; use axes that end with the last: a norm with {part} takes no others"
    assert str(error.value) == f"{name} node 'norm': {text}"


@pytest.mark.parametrize(
    ("changed", "dtype"), [("R", "float16"), ("R", "bfloat16"), ("shift", "float16"), ("shift", "float32")]
)
def test_types_that_the_contract_has_not(changed, dtype):
    """R is float32 or of the type of X, and shift of the type of scale."""
    x_type = "float32" if changed == "R" and dtype == "float16" else "float16"
    inputs = op_inputs(OPS["AddRMSNormShift"], (2, 8), (8,), (x_type, "float32" if dtype == "float16" else x_type))
    inputs[changed] = inputs[changed].astype(element_dtype(dtype))
    with pytest.raises(RunError, match="AddRMSNormShift"):
        runtime.session(node_model("AddRMSNormShift", inputs))
