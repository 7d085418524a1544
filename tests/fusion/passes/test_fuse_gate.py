# ruff: noqa: E501 - a graph a line
"""A norm and its gate become one op where the op rounds as the model does, and stay two where it would not.

Numbers are compared with float64. In float32 a norm and its gate round some fifteen times: 16 eps of the element. In half
types what float32 rounds is far below one ulp; it changes an element only where it crosses a rounding boundary, by one
ulp before the last product, two after it, and in few elements.
"""

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import onnxruntime
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect
from rms_deploy.fusion.passes import fuse_gate
from rms_deploy.fusion.passes.fuse_gate import FuseGate
from rms_deploy.ops import schemas
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.reference import gated_rms_norm
from rms_deploy.ops.ulp import ulp_distance
from rms_deploy.runtime import onnxruntime_session as runtime

from ..gated_numbers import assert_near

FRONT, BEHIND, SIGMOID = "SiluGateRMSNorm", "RMSNormSiluGate", "RMSNormSigmoidGate"
CODES = {"float": 1, "float16": 10, "bfloat16": 16}
NUMPY = {"float": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
EPSILON = 3e-4
ONNXRUNTIME = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])

CORE = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r)"
SILU = "s = Sigmoid (z) g = Mul (z, s)"
IN_FRONT = f"{SILU} h = Mul (x, g) {CORE} y = Mul (n, w)"
BEHIND_IT = f"h = Identity (x) {CORE} k = Mul (n, w) {SILU} y = Mul (k, g)"
BOTH = {FRONT: IN_FRONT, BEHIND: BEHIND_IT}
INPUTS = "float[b,s,8] x, float[b,s,8] z, float[8] w"

WIDE = "a = Cast <to = 1> (x) c = Cast <to = 1> (z)"
WIDE_SILU = "s = Sigmoid (c) g = Mul (c, s)"
HALVES = {
    "Mamba2": (FRONT, f"{WIDE} {WIDE_SILU} h = Mul (a, g) {CORE} k = Cast <to = TT> (n) y = Mul (w, k)", True),
    "in front, once": (
        FRONT,
        f"{WIDE} {WIDE_SILU} h = Mul (a, g) {CORE} v = Cast <to = 1> (w) k = Mul (n, v) y = Cast <to = TT> (k)",
        False,
    ),
    "Qwen3-Next": (
        BEHIND,
        f"h = Cast <to = 1> (x) {CORE} k = Cast <to = TT> (n) o = Mul (w, k) p = Cast <to = 1> (o) c = Cast <to = 1> (z) "
        f"{WIDE_SILU} u = Mul (p, g) y = Cast <to = TT> (u)",
        True,
    ),
    "Kimi": (
        BEHIND,
        f"h = Cast <to = 1> (x) {CORE} v = Cast <to = 1> (w) o = Mul (n, v) c = Cast <to = 1> (z) {WIDE_SILU} "
        "u = Mul (o, g) y = Cast <to = TT> (u)",
        False,
    ),
}
"""Op, graph, and whether it rounds before it scales."""


def ops(result):
    return [node.op_type for node in result.model.graph]


def feeds_of(dtype="float", shape=(3, 5, 8)):
    """A row of zeros, rows of magnitudes around the epsilon, and gates that are large and negative too."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape) * 10.0 ** generator.integers(-3, 2, [*shape[:-1], 1])
    x.reshape(-1, shape[-1])[-1] = 0
    z, w = 4 * generator.standard_normal(shape), generator.uniform(-2, 2, 8)
    return {name: array.astype(NUMPY[dtype]) for name, array in (("x", x), ("z", z), ("w", w))}


def check(model, kind, feeds, scale=None, *, norms=1, **options):
    """`model` fuses to one op `kind`, whose body and kernel give the numbers of float64, and fusing again does nothing."""
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == [kind] * norms
    assert not any(norm.unproven for norm in result.norms)
    assert not result.near_misses
    fused = ir.to_proto(result.model)
    schemas.register()
    onnx.checker.check_model(fused, full_check=True)
    onnx.shape_inference.infer_shapes(fused, check_type=True, strict_mode=True, data_prop=True)
    scale = feeds.get("w") if scale is None else scale
    options |= {"gate": OPS[kind].gate, "before": kind == FRONT}
    expected = gated_rms_norm(feeds["x"], feeds["z"], scale, epsilon=EPSILON, **options)
    feeds = {value.name: feeds[value.name] for value in fused.graph.input}
    assert_near(onnx.reference.ReferenceEvaluator(fused).run(None, feeds)[0], expected)
    is_known = {each.domain: each.version for each in fused.opset_import}[""] < 24 or ONNXRUNTIME >= (1, 24)
    if is_known and (feeds["x"].dtype != ml_dtypes.bfloat16 or ops(result) == [kind]):
        assert_near(next(iter(runtime.run(runtime.session(fused), feeds).values())), expected)
    again = fuse(fused)
    assert (again.norms, again.near_misses) == ((), ())
    assert ir.to_proto(again.model).SerializeToString(deterministic=True) == fused.SerializeToString(deterministic=True)
    return result


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("opset", [13, 18, 23])
def test_float32(kind, opset, build):
    body = BOTH[kind].replace(
        "m = ReduceMean (q, last)", "m = ReduceMean <axes = [-1]> (q)" if opset < 18 else "m = ReduceMean (q, last)"
    )
    assert ops(check(build(body, inputs=INPUTS, opset=opset), kind, feeds_of())) == [kind]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", HALVES)
def test_half_types_round_as_the_model_does(name, dtype, build):
    kind, body, before_scale = HALVES[name]
    inputs = f"{dtype}[b,s,8] x, {dtype}[b,s,8] z, {dtype}[8] w"
    model = build(body.replace("TT", str(CODES[dtype])), inputs=inputs, outputs=f"{dtype}[b,s,8] y")
    result = check(model, kind, feeds_of(dtype), round_before_scale=before_scale)
    assert ops(result) == [kind]
    assert [value.name for value in result.model.graph[0].inputs] == ["x", "z", "w"]
    assert result.norms[0].rounding == ("before scale" if before_scale else "once")


@pytest.mark.parametrize(
    "sigmoid", ["g = Sigmoid (z)", "a1 = Neg (z) a2 = Exp (a1) a3 = Add (one, a2) g = Reciprocal (a3)"]
)
def test_a_sigmoid_behind(sigmoid, build):
    body = f"h = Identity (x) {CORE} k = Mul (n, w) {sigmoid} y = Mul (g, k)"
    feeds = {**feeds_of(), "z": np.linspace(-8, 8, 120, dtype=np.float32).reshape(3, 5, 8)}
    expected = gated_rms_norm(*feeds.values(), epsilon=EPSILON, gate="SigmoidGate")
    result = fuse(build(body, inputs=INPUTS, opset=18))
    assert (ops(result), result.near_misses) == ([SIGMOID], ())
    assert not result.norms[0].unproven
    (y,) = runtime.run(runtime.session(ir.to_proto(result.model)), feeds).values()
    assert_near(y, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["Qwen3-Next", "Kimi"])
def test_a_sigmoid_rounds_as_the_model_does(name, dtype, build):
    _, body, before_scale = HALVES[name]
    body = body.replace(WIDE_SILU, "g = Sigmoid (c)").replace("TT", str(CODES[dtype]))
    model = build(body, inputs=f"{dtype}[b,s,8] x, {dtype}[b,s,8] z, {dtype}[8] w", outputs=f"{dtype}[b,s,8] y")
    assert ops(check(model, SIGMOID, feeds_of(dtype), round_before_scale=before_scale)) == [SIGMOID]


def test_a_sigmoid_in_front_stays(build):
    result = fuse(build(IN_FRONT.replace(SILU, "g = Sigmoid (z)"), inputs=INPUTS, opset=18))
    assert ops(result) == ["Sigmoid", "Mul", "RMSNorm"]
    assert not result.near_misses


@pytest.mark.parametrize("gate", ["g = Sigmoid (k)", "s = Sigmoid (k) g = Mul (k, s)"], ids=["sigmoid", "silu"])
def test_an_activation_of_the_norm_is_no_gate(gate, build):
    """norm(x) * sigmoid(norm(x)) is silu behind a norm, and nothing is missed."""
    result = fuse(build(f"h = Identity (x) {CORE} k = Mul (n, w) {gate} y = Mul (k, g)", inputs=INPUTS))
    assert set(ops(result)) == {"RMSNorm", "Sigmoid", "Mul"}
    assert not result.near_misses


def test_the_orders_of_rounding_differ():
    """So the test above sees a wrong one."""
    x, z, w = feeds_of("float16").values()
    for before in (True, False):
        one, other = (
            gated_rms_norm(x, z, w, epsilon=EPSILON, before=before, round_before_scale=first) for first in (True, False)
        )
        assert np.count_nonzero(ulp_distance(one, other)) > one.size // 10


SILUS = {
    "sigmoid first": ("s = Sigmoid (z) g = Mul (s, z)", 18),
    "of copies": ("i = Identity (z) s = Sigmoid (i) g = Mul (z, s)", 18),
    "Swish": ("g = Swish (z)", 24),
    "Swish, alpha": ("g = Swish <alpha = 1.0> (z)", 24),
    "z / (1 + exp(-z))": ("p = Neg (z) o = Exp (p) s = Add (o, one) g = Div (z, s)", 18),
    "z / (exp(-z) + 1)": ("p = Neg (z) o = Exp (p) s = Add (one, o) g = Div (z, s)", 18),
    "z * (1 / (1 + exp(-z)))": ("p = Neg (z) o = Exp (p) t = Add (o, one) s = Div (one, t) g = Mul (z, s)", 18),
    "z * reciprocal(1 + exp(-z))": ("p = Neg (z) o = Exp (p) t = Add (o, one) s = Reciprocal (t) g = Mul (s, z)", 18),
}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("silu", "opset"), SILUS.values(), ids=SILUS)
def test_spellings_of_silu(silu, opset, kind, build):
    assert ops(check(build(BOTH[kind].replace(SILU, silu), inputs=INPUTS, opset=opset), kind, feeds_of())) == [kind]


NO_SILUS = {
    "HardSwish": ("g = HardSwish (z)", 18),
    "Swish, another alpha": ("g = Swish <alpha = 1.5> (z)", 24),
    "Gelu": ("g = Gelu (z)", 20),
    "QuickGelu": ("t = Mul (z, half) s = Sigmoid (t) g = Mul (z, s)", 18),
    "of two tensors": ("s = Sigmoid (x) g = Mul (z, s)", 18),
    "2 + exp(-z)": ("p = Neg (z) o = Exp (p) s = Add (o, two) g = Div (z, s)", 18),
    "1 + exp(z)": ("o = Exp (z) s = Add (o, one) g = Div (z, s)", 18),
    "(1 + exp(-z)) / z": ("p = Neg (z) o = Exp (p) s = Add (o, one) g = Div (s, z)", 18),
    "one of higher rank": ("p = Neg (z) o = Exp (p) s = Add (o, eps111) g = Div (z, s)", 18),
}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("other", "opset"), NO_SILUS.values(), ids=NO_SILUS)
def test_other_activations_stay(other, opset, kind, build):
    result = fuse(build(BOTH[kind].replace(SILU, other), inputs=INPUTS, opset=opset))
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert not result.near_misses


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("old", ["(x, g)", "(k, g)"])
def test_operands_in_the_other_order(kind, old, build):
    body = BOTH[kind].replace(old, f"({old[4]}, {old[1]})")
    assert ops(check(build(body, inputs=INPUTS), kind, feeds_of())) == [kind]


@pytest.mark.parametrize("kind", BOTH)
def test_x_is_its_own_gate(kind, build):
    body = BOTH[kind].replace("(z", "(x")
    model = build(body, inputs="float[b,s,8] x, float[8] w")
    feeds = feeds_of()
    check(model, kind, {**feeds, "z": feeds["x"]})


def test_two_equal_casts_and_a_float32_op(build):
    """The op is one of float32, as the result stays float32: the proof begins before the casts."""
    body = f"a = Cast <to = 1> (x) c = Cast <to = 1> (z) d = Cast <to = 1> (z) s = Sigmoid (c) g = Mul (d, s) h = Mul (a, g) {CORE} y = Mul (n, w)"
    model = build(f"o = Exp (z0) z = Tanh (o) {body}", inputs="float16[b,s,8] x, float16[b,s,8] z0, float[8] w")
    (norm,) = fuse(model).norms
    assert (norm.kind, norm.dtype, norm.unproven) == (FRONT, "float32", "")


def test_an_equal_z_far_behind_is_not_run(build):
    """Both operands of the silu are computed alike, in more nodes than are run: nothing is proven, and all is right."""
    chain = [f"c{i} = Tanh ({f'c{i - 1}' if i else 'z'}) d{i} = Tanh ({f'd{i - 1}' if i else 'z'})" for i in range(3)]
    body = " ".join([*chain, f"s = Sigmoid (c2) g = Mul (d2, s) h = Mul (x, g) {CORE} y = Mul (n, w)"])
    result = fuse(build(body, inputs=INPUTS))
    assert [norm.kind for norm in result.norms] == [FRONT]


@pytest.mark.parametrize("kind", BOTH)
def test_without_a_scale(kind, build):
    body = BOTH[kind].replace("y = Mul (n, w)", "y = Identity (n)").replace("k = Mul (n, w)", "k = Identity (n)")
    model = build(body, inputs="float[b,s,8] x, float[b,s,8] z")
    assert kind in ops(check(model, kind, feeds_of(), np.float32(1)))


def test_a_weightless_norm_of_a_half_type_behind_which_the_gate_is(build):
    """x / rms is rounded, then gated: that is what the op does if it rounds before it scales by one."""
    body = HALVES["Qwen3-Next"][1].replace("o = Mul (w, k) p = Cast <to = 1> (o)", "p = Cast <to = 1> (k)")
    model = build(body.replace("TT", "10"), inputs="float16[b,s,8] x, float16[b,s,8] z", outputs="float16[b,s,8] y")
    check(model, BEHIND, feeds_of("float16"), np.float16(1), round_before_scale=True)


@pytest.mark.parametrize("kind", BOTH)
def test_several_axes_that_end_with_the_last(kind, build):
    body = BOTH[kind].replace("last", "a").replace("q =", "a = Constant <value_ints = [-2,-1]> () q =")
    model = build(body, inputs="float[b,4,8] x, float[b,4,8] z, float[4,8] w", outputs="float[b,4,8] y")
    feeds = {**feeds_of(shape=(3, 4, 8)), "w": np.linspace(-2, 2, 32, dtype=np.float32).reshape(4, 8)}
    check(model, kind, feeds, axes=(-2, -1))


@pytest.mark.parametrize("kind", BOTH)
def test_axes_that_do_not_end_with_the_last_keep_their_gate(kind, build):
    body = BOTH[kind].replace("last", "a").replace("q =", "a = Constant <value_ints = [1]> () q =")
    model = build(body, inputs="float[b,4,8] x, float[b,4,8] z, float[4,1] w", outputs="float[b,4,8] y")
    assert [norm.kind for norm in fuse(model).norms] == ["RMSNorm"]


@pytest.mark.parametrize("kind", BOTH)
def test_the_constants_of_the_norm_stay(kind, build):
    """An epsilon outside of the root, and a floor."""
    core = "q = Mul (h, h) m = ReduceMean (q, last) r0 = Sqrt (m) r1 = Add (r0, eps) r = Max (r1, floor) n = Div (h, r)"
    model = build(BOTH[kind].replace(CORE, core), inputs=INPUTS)
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == [kind]
    feeds = feeds_of()
    (actual,) = runtime.run(runtime.session(ir.to_proto(result.model)), feeds).values()
    options = {"epsilon": 0, "rms_epsilon": EPSILON, "rms_min": 0.3, "before": kind == FRONT}
    assert_near(actual, gated_rms_norm(feeds["x"], feeds["z"], feeds["w"], **options))


@pytest.mark.parametrize("kind", BOTH)
def test_not_asked_for(kind, build):
    result = fuse(build(BOTH[kind], inputs=INPUTS), gate=False)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert not result.near_misses


@pytest.mark.parametrize("kind", BOTH)
def test_a_norm_that_is_fused_already_takes_its_gate(kind, build):
    before = fuse(build(BOTH[kind], inputs=INPUTS), gate=False).model
    result = fuse(before)
    assert [norm.kind for norm in result.norms] == [kind]
    assert not FuseGate()(result.model).modified


@pytest.mark.parametrize("kind", BOTH)
def test_without_bodies(kind, build):
    result = fuse(build(BOTH[kind], inputs=INPUTS), functions=False)
    assert ops(result) == [kind]
    assert not result.model.functions


@pytest.mark.parametrize("kind", BOTH)
def test_the_sigmoid_stays_for_what_else_reads_it(kind, build):
    model = build(f"{BOTH[kind]} t = Exp (s)", inputs=INPUTS, outputs="float[b,s,8] y, float[b,s,8] t")
    assert sorted(ops(check(model, kind, feeds_of()))) == sorted(["Sigmoid", "Exp", kind])


@pytest.mark.parametrize("kind", BOTH)
def test_silu_stays_for_what_else_reads_it(kind, build):
    model = build(BOTH[kind], inputs=INPUTS, outputs="float[b,s,8] y, float[b,s,8] g")
    assert sorted(ops(check(model, kind, feeds_of()))) == sorted(["Sigmoid", "Mul", kind])


READ = {
    "the product is an output": (FRONT, "", "h", "x * silu(z) is read by others too"),
    "the product is read": (FRONT, "t = Exp (h)", "t", "x * silu(z) is read by others too"),
    "the norm is an output": (BEHIND, "", "k", "the norm is read by others too"),
    "the norm is read": (BEHIND, "t = Exp (k)", "t", "the norm is read by others too"),
}


@pytest.mark.parametrize(("kind", "more", "output", "reason"), READ.values(), ids=READ)
def test_what_others_read_stays(kind, more, output, reason, build):
    model = build(f"{BOTH[kind]} {more}", inputs=INPUTS, outputs=f"float[b,s,8] y, float[b,s,8] {output}")
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    (miss,) = result.near_misses
    assert (miss.piece, miss.left) == ("gate", "gate")
    assert reason in miss.reason
    assert [miss.reason for miss in inspect(result.model).near_misses] == [miss.reason]


@pytest.mark.parametrize("kind", BOTH)
def test_what_reads_the_shape_alone_reads_that_of_x(kind, build):
    between = "h" if kind == FRONT else "k"
    model = build(f"{BOTH[kind]} t = Shape ({between})", inputs=INPUTS, outputs="float[b,s,8] y, int64[3] t")
    result = check(model, kind, feeds_of())
    assert sorted(ops(result)) == sorted(["Shape", kind])


@pytest.mark.parametrize("z", ["Neg (c)", "Expand (c, t)"], ids=["is made later", "is made of it"])
def test_what_reads_the_shape_before_z_is_there(z, build):
    body = BEHIND_IT.replace(SILU, f"t = Shape (k) z = {z} {SILU}")
    model = build(body, inputs=INPUTS.replace(" z", " c"), outputs="float[b,s,8] y, int64[3] t")
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == [BEHIND]
    fused = ir.to_proto(result.model)
    schemas.register()
    onnx.checker.check_model(fused, full_check=True)
    feeds = feeds_of()
    y, t = runtime.run(runtime.session(fused), {"x": feeds["x"], "c": feeds["z"], "w": feeds["w"]}).values()
    z = -feeds["z"] if z == "Neg (c)" else feeds["z"]
    assert_near(y, gated_rms_norm(feeds["x"], z, feeds["w"], epsilon=EPSILON))
    assert t.tolist() == [3, 5, 8]


BROADCAST = ["float[8] z", "float[1,1,8] z", "float[b,s,1] z", "float[b,1,8] z"]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("gate", BROADCAST)
def test_a_gate_that_is_broadcast_stays(gate, kind, build):
    result = fuse(build(BOTH[kind], inputs=f"float[b,s,8] x, {gate}, float[8] w"))
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert not result.near_misses


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("gate", ["float[?,s,8] z", "float[c,s,8] z"])
def test_a_gate_of_a_shape_that_is_not_proven_stays(gate, kind, build):
    result = fuse(build(BOTH[kind], inputs=f"float[b,s,8] x, {gate}, float[8] w"))
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert "are not proven to have one shape" in result.near_misses[0].reason


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("shape", ["[?,s,8]", "[?,?,8]", ""])
def test_unknown_sizes_prove_nothing(shape, kind, build):
    """One of them may be 1, and be broadcast."""
    model = build(BOTH[kind].replace("Mul (n, w)", "Identity (n)"), inputs=f"float{shape} x, float{shape} z")
    for value in [] if shape else model.graph.input:
        value.type.tensor_type.ClearField("shape")
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert "are not proven to have one shape" in result.near_misses[0].reason


def test_in_another_graph(build):
    body = f"""
        {SILU} h = Mul (x, g) y = If (c) <
            then_branch = t () => (float[b,s,8] y1) {{ {CORE} y1 = Mul (n, w) }},
            else_branch = f () => (float[b,s,8] y2) {{ y2 = Identity (x) }}
        >
    """
    result = fuse(build(body, inputs=f"{INPUTS}, bool c"))
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]


def test_inside_a_branch(build):
    body = f"""
        y = If (c) <
            then_branch = t () => (float[b,s,8] y1) {{ {IN_FRONT.replace("y =", "y1 =")} }},
            else_branch = f () => (float[b,s,8] y2) {{ y2 = Identity (x) }}
        >
    """
    result = fuse(build(body, inputs=f"{INPUTS}, bool c"))
    assert [norm.kind for norm in result.norms] == [FRONT]


ROUNDED = {
    "the product in front": f"s = Sigmoid (z) g = Mul (z, s) p = Mul (x, g) h = Cast <to = 1> (p) {CORE} k = Cast <to = 10> (n) y = Mul (k, w)",
    "silu(z) in front": f"s = Sigmoid (z) g0 = Mul (z, s) g = Cast <to = 1> (g0) a = Cast <to = 1> (x) h = Mul (a, g) {CORE} k = Cast <to = 10> (n) y = Mul (k, w)",
    "the gate behind": f"h = Cast <to = 1> (x) {CORE} k = Cast <to = 10> (n) o = Mul (k, w) {SILU} y = Mul (o, g)",
    "silu(z) behind": HALVES["Qwen3-Next"][1].replace("c = Cast <to = 1> (z) s = Sigmoid (c) g = Mul (c, s)", "s = Sigmoid (z) g0 = Mul (z, s) g = Cast <to = 1> (g0)").replace("TT", "10"),
    "once before the gate": f"h = Cast <to = 1> (x) {CORE} v = Cast <to = 1> (w) k = Mul (n, v) o = Cast <to = 10> (k) p = Cast <to = 1> (o) c = Cast <to = 1> (z) {WIDE_SILU} u = Mul (p, g) y = Cast <to = 10> (u)",
}  # fmt: skip


@pytest.mark.parametrize("body", ROUNDED.values(), ids=ROUNDED)
def test_a_rounding_that_the_op_does_not_make(body, build):
    inputs = "float16[b,s,8] x, float16[b,s,8] z, float16[8] w"
    model = build(body, inputs=inputs, outputs="float16[b,s,8] y")
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    (miss,) = result.near_misses
    assert miss.left == "gate"
    assert "half type" in miss.reason


def test_a_gate_in_float32_beside_a_half_type(build):
    """x has a half type, z is float32: the op is one of float32, and the casts stay."""
    body = f"a = Cast <to = 1> (x) {SILU} h = Mul (a, g) {CORE} k = Cast <to = 10> (n) y = Mul (w, k)"
    model = build(body, inputs="float16[b,s,8] x, float[b,s,8] z, float16[8] w", outputs="float16[b,s,8] y")
    feeds = {**feeds_of("float16"), "z": feeds_of()["z"]}
    result = fuse(model)
    assert ops(result) == ["Cast", FRONT, "Cast", "Mul"]
    (actual,) = onnx.reference.ReferenceEvaluator(ir.to_proto(result.model)).run(None, feeds)
    wide = gated_rms_norm(feeds["x"], feeds["z"], epsilon=EPSILON, before=True, dtype=np.float64)
    assert_near(actual, wide.astype(np.float16) * feeds["w"])


def test_behind_a_half_norm_a_gate_from_float32_stays(build):
    body = HALVES["Qwen3-Next"][1].replace("c = Cast <to = 1> (z)", "c = Identity (z)").replace("TT", "10")
    model = build(body, inputs="float16[b,s,8] x, float[b,s,8] z, float16[8] w", outputs="float16[b,s,8] y")
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert "has another type than the norm" in result.near_misses[0].reason


@pytest.mark.parametrize("kind", BOTH)
def test_float64_stays(kind, build):
    body = BOTH[kind].replace("(z)", "(d)").replace("(z, s)", "(d, s)")
    body = f"d = Cast <to = 11> (z) {body}".replace("(x, g)", "(x, f)").replace("(k, g)", "(k, f)")
    body = body.replace("g = Mul (d, s)", "g = Mul (d, s) f = Cast <to = 1> (g)")
    result = fuse(build(body, inputs=INPUTS))
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]


def test_half_types_of_old_opsets_work_in_float32(build):
    """Below opset 15 a body is for one type."""
    body = HALVES["Mamba2"][1].replace("TT", "10").replace("(q, last)", "<axes = [-1]> (q)")
    inputs = "float16[b,s,8] x, float16[b,s,8] z, float16[8] w"
    model = build(body, inputs=inputs, outputs="float16[b,s,8] y", opset=13)
    assert ops(fuse(model)) == ["Cast", "Cast", FRONT, "Cast", "Mul"]


def test_a_sum_keeps_its_gate_outside(build):
    body = BEHIND_IT.replace("h = Identity (x)", "h = Add (x, z)")
    assert ops(fuse(build(body, inputs=INPUTS))) == ["AddRMSNorm", "Sigmoid", "Mul", "Mul"]


def test_a_rounded_reciprocal_keeps_its_gate_outside(build):
    body = HALVES["Qwen3-Next"][1].replace(
        "n = Div (h, r) k = Cast <to = TT> (n)", "i = Reciprocal (r) j = Cast <to = TT> (i) k = Mul (x, j)"
    )
    inputs = "float16[b,s,8] x, float16[b,s,8] z, float16[8] w"
    result = fuse(build(body.replace("TT", "10"), inputs=inputs, outputs="float16[b,s,8] y"))
    assert [norm.kind for norm in result.norms] == ["RMSNormReciprocal"]


GROUPED = "h0 = Mul (x, g) h = Reshape (h0, split)"
JOIN = "j = Reshape (n, join)"
IN_GROUPS = f"{SILU} {GROUPED} {CORE} {JOIN} y = Mul (w, j)"
SHAPES = "split = Constant <value_ints = [0,0,2,4]> () join = Constant <value_ints = [0,0,8]> ()"


def in_groups(feeds, kind, **options):
    x, z, w = (feeds[name].reshape(*feeds[name].shape[:-1], 2, 4) for name in "xzw")
    y = gated_rms_norm(x, z, w, epsilon=EPSILON, before=kind == FRONT, **options)
    return y.reshape(feeds["x"].shape)


def test_groups_in_front(build):
    result = fuse(build(f"{SHAPES} {IN_GROUPS}", inputs=INPUTS))
    assert [(norm.kind, norm.scale, norm.n, norm.unproven) for norm in result.norms] == [
        (FRONT, "float32[2, 4]", 4, "")
    ]
    feeds = feeds_of()
    (actual,) = runtime.run(runtime.session(ir.to_proto(result.model)), feeds).values()
    assert_near(actual, in_groups(feeds, FRONT))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_groups_in_front_of_half_types(dtype, build):
    body = (
        f"{SHAPES} {WIDE} {WIDE_SILU} {GROUPED.replace('x', 'a')} {CORE} {JOIN} k = Cast <to = TT> (j) y = Mul (w, k)"
    )
    inputs = f"{dtype}[b,s,8] x, {dtype}[b,s,8] z, {dtype}[8] w"
    result = fuse(build(body.replace("TT", str(CODES[dtype])), inputs=inputs, outputs=f"{dtype}[b,s,8] y"))
    assert [(norm.kind, norm.dtype, norm.rounding) for norm in result.norms] == [(FRONT, dtype, "before scale")]
    feeds = feeds_of(dtype)
    (actual,) = onnx.reference.ReferenceEvaluator(ir.to_proto(result.model)).run(None, feeds)
    assert_near(actual, in_groups(feeds, FRONT, round_before_scale=True))


def test_groups_behind(build):
    body = f"{SHAPES} h = Reshape (x, split) {CORE} v = Reshape (w, rows) k = Mul (n, v) j = Reshape (k, join) {SILU} y = Mul (j, g)"
    model = build(f"rows = Constant <value_ints = [2,4]> () {body}", inputs=INPUTS)
    result = fuse(model)
    assert [(norm.kind, norm.scale) for norm in result.norms] == [(BEHIND, "float32[2, 4]")]
    feeds = feeds_of()
    (actual,) = runtime.run(runtime.session(ir.to_proto(result.model)), feeds).values()
    assert_near(actual, in_groups(feeds, BEHIND))


@pytest.mark.parametrize("kind", BOTH)
def test_one_group_needs_no_reshape(kind, build):
    shapes = SHAPES.replace("[0,0,2,4]", "[0,0,1,8]")
    body = (
        IN_GROUPS
        if kind == FRONT
        else f"h = Reshape (x, split) {CORE} k = Mul (n, w) j = Reshape (k, join) {SILU} y = Mul (j, g)"
    )
    assert check(build(f"{shapes} {body}", inputs=INPUTS), kind, feeds_of()).model.graph[-1].op_type == kind


@pytest.mark.parametrize("kind", BOTH)
def test_rows_of_a_scale_keep_the_reshapes_though_a_group_is_a_row(kind, build):
    """Row i of [1, 3, 4, 8] takes row i / 4 of the scale, and row i of [2, 3, 2, 8] would take i / 2 % 3."""
    shapes = "split = Constant <value_ints = [1,3,4,8]> () join = Constant <value_ints = [2,3,2,8]> ()"
    norm = f"h = Reshape (h0, split) {CORE} k = Mul (n, w) j = Reshape (k, join)"
    body = f"{SILU} h0 = Mul (x, g) {norm} y = Identity (j)"
    if kind == BEHIND:
        body = f"h0 = Identity (x) {norm} {SILU} y = Mul (j, g)"
    model = build(f"{shapes} {body}", inputs="float[2,3,2,8] x, float[2,3,2,8] z, float[3,1,8] w")
    result = fuse(model, verify=False)
    assert [norm.kind for norm in result.norms] == [kind]
    feeds = {**feeds_of(shape=(2, 3, 2, 8)), "w": np.linspace(-2, 2, 24, dtype=np.float32).reshape(3, 1, 8)}
    (actual,) = runtime.run(runtime.session(ir.to_proto(result.model)), feeds).values()
    x, z = (feeds[name].reshape(1, 3, 4, 8) for name in "xz")
    expected = gated_rms_norm(x, z, feeds["w"], epsilon=EPSILON, before=kind == FRONT)
    assert_near(actual, expected.reshape(2, 3, 2, 8))


def test_a_weight_of_unknown_size_behind_no_groups_stays_a_product(build):
    result = fuse(build(IN_FRONT, inputs=INPUTS.replace("float[8] w", "float[?] w")))
    assert ops(result) == [FRONT, "Mul"]
    assert not [miss for miss in result.near_misses if miss.left == "gate"]


def test_groups_that_are_not_put_together_again_behind(build):
    """The gate has the shape that x has in groups; nothing says that z has them."""
    body = f"{SHAPES} h = Exp (x) {CORE} j = Reshape (n, join) {SILU} y = Mul (j, g)"
    model = build(body, inputs="float[b,s,2,4] x, float[b,s,8] z")
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert "is not undone for z" in result.near_misses[0].reason


def test_groups_of_unknown_size(build):
    body = IN_GROUPS.replace("(h0, split)", "(h0, p)").replace("(n, join)", "(n, o)")
    result = fuse(build(body, inputs=f"{INPUTS}, int64[4] p, int64[3] o"))
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert "the size of the groups that w scales is not known" in [miss.reason for miss in result.near_misses]


def test_a_scale_of_other_rows_stays(build):
    """Of as many elements as two rows hold, which no row of a group is."""
    shapes = SHAPES.replace("[0,0,8]", "[0,-1]")
    model = build(
        f"{shapes} {IN_GROUPS}", inputs="float[b,3,8] x, float[b,3,8] z, float[24] w", outputs="float[b,24] y"
    )
    result = fuse(model)
    (norm,) = result.norms
    feeds = {**feeds_of(shape=(3, 3, 8)), "w": np.linspace(-2, 2, 24, dtype=np.float32)}
    (actual,) = runtime.run(runtime.session(ir.to_proto(result.model)), feeds).values()
    x, z = (feeds[name].reshape(3, 3, 2, 4) for name in "xz")
    assert norm.kind == FRONT
    assert_near(actual, gated_rms_norm(x, z, feeds["w"].reshape(3, 2, 4), epsilon=EPSILON, before=True).reshape(3, 24))


@pytest.mark.parametrize("kind", BOTH)
def test_a_wrong_gate_stays_outside(kind, build, monkeypatch):
    """The op gets the wrong constants: running both forms shows it."""
    right = fuse_gate._replace

    def wrong(gate, into, facts):
        gate.norm.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.5)
        right(gate, into, facts)

    model = build(BOTH[kind], inputs=INPUTS)
    apart = ir.to_proto(fuse(model, gate=False).model).SerializeToString(deterministic=True)
    monkeypatch.setattr(fuse_gate, "_replace", wrong)
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    (miss,) = result.near_misses
    assert (miss.piece, miss.left) == ("gate", "gate")
    assert "run on random rows, the op differs" in miss.reason
    assert ir.to_proto(result.model).SerializeToString(deterministic=True) == apart
    assert fuse(model, verify=False).norms[0].kind == kind, "without the proof it would be fused"


def test_equal_gates_run_once(build, monkeypatch):
    layers, names = [], ("s", "g", "h", "q", "m", "e", "r", "n", "y")
    for i in range(3):
        layer = IN_FRONT.replace("(x,", f"({f'y{i - 1}' if i else 'x'},")
        for name in names:
            layer = layer.replace(f"{name} =", f"{name}{i} =").replace(f"({name},", f"({name}{i},")
            layer = layer.replace(f"({name})", f"({name}{i})").replace(f", {name})", f", {name}{i})")
        layers.append(layer)
    runs = []
    right = fuse_gate.PassProver._prove
    monkeypatch.setattr(fuse_gate.PassProver, "_prove", lambda self, *cut: runs.append(cut) or right(self, *cut))
    result = fuse(build(" ".join([*layers, "y = Identity (y2)"]), inputs=INPUTS))
    assert [norm.kind for norm in result.norms] == [FRONT] * 3
    assert len(runs) == 1
