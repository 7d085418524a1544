# ruff: noqa: E501 - a graph a line
"""Nodes are run before and after a pass rewrites them: a wrong sum stays an Add, a wrong expansion is a near miss."""

import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes import expand_skip_norm, fuse_add_rms_norm
from rms_deploy.fusion.passes.lower_to_primitives import LowerToPrimitives
from rms_deploy.fusion.proof import prove
from rms_deploy.fusion.proof.prove_pass import PassProver
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.nodes import norm_nodes

from ..passes.one_norm import one_norm

CORE = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r)"
ADD = f"h = Add (x, z) {CORE} y = Mul (n, scale)"
HALF = "h = Add (x, z) u = Cast <to = 1> (h) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (u, r) k = Cast <to = 10> (n) y = Mul (k, g)"


SKIP = "com.microsoft.SkipSimplifiedLayerNormalization"


TWO = "float[b,s,8] x, float[b,s,8] z"


SKIPS = {
    "plain": (f"y = {SKIP} (x, z, g)", "TT[b,s,8] y"),
    "bias": (f"y = {SKIP} <epsilon = 0.25> (x, z, g, c)", "TT[b,s,8] y"),
    "bias and sum": (f"y, m, i, t = {SKIP} (x, z, g, c)", "TT[b,s,8] y, TT[b,s,8] t"),
}


def swapped(node, facts, expand=expand_skip_norm._expand):
    """Bias and scale the wrong way round."""
    x, skip, scale, bias = node.inputs
    for index, value in enumerate((x, skip, bias, scale)):
        node.replace_input_with(index, value)
    return expand(node, facts)


def another_axis(node, facts, expand=expand_skip_norm._expand):
    norm = expand(node, facts)
    norm.attributes["axis"] = ir.AttrInt64("axis", -2)
    return norm


def another_epsilon(node, facts, expand=expand_skip_norm._expand):
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-2)
    return expand(node, facts)


def another_order(node, facts, expand=expand_skip_norm._expand):
    """x + bias + skip"""
    x, _, _, bias = node.inputs
    node.replace_input_with(0, bias if bias is not None else x)
    node.replace_input_with(3, x)
    return expand(node, facts)


def no_bias(node, facts, expand=expand_skip_norm._expand):
    node.replace_input_with(3, None)
    return expand(node, facts)


@pytest.mark.parametrize("wrong", [swapped, another_axis, another_epsilon, another_order, no_bias])
def test_a_wrong_expansion_is_a_near_miss(wrong, build, monkeypatch):
    body, outputs = SKIPS["bias and sum"]
    inputs = "float[b,5,8] x, float[b,5,8] z, float[8] g, float[8] c"
    model = build(body, inputs=inputs, outputs=outputs.replace("TT", "float").replace("s,", "5,"))
    monkeypatch.setattr(expand_skip_norm, "_expand", wrong)
    result = fuse(model)
    assert [node.op_type for node in result.model.graph] == ["SkipSimplifiedLayerNormalization"]
    assert [miss.piece for miss in result.near_misses] == ["verify"]
    assert result.near_misses[0].reason.startswith("run on random rows, the op differs")
    assert fuse(model, verify=False).norms, "without the proof it would be fused"


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_a_sum_and_its_norm_are_run_together(dtype, build):
    body = ADD.replace("scale", "g")
    if dtype != "float":
        body = HALF.replace("to = 10", f"to = {int(ir.DataType[dtype.upper()])}")
    inputs = "TT[b,s,8] x, TT[b,s,8] z, TT[8] g".replace("TT", dtype)
    result = fuse(build(body, inputs=inputs, outputs=f"{dtype}[b,s,8] y, {dtype}[b,s,8] h"))
    assert [(norm.kind, norm.max_ulp, norm.unproven) for norm in result.norms] == [("AddRMSNorm", 0, "")]


def test_the_distances_of_both_steps_add_up(build, monkeypatch):
    right = fuse_add_rms_norm.PassProver.__call__
    monkeypatch.setattr(
        fuse_add_rms_norm.PassProver,
        "__call__",
        lambda self, *nodes: right(self, *nodes).then(prove.Proof(7)),
    )
    (norm,) = fuse(build(ADD, inputs=TWO)).norms
    assert norm.max_ulp == 7


def with_its_inputs(change):
    """The residual pass, with something wrong about the op that it puts there."""
    right = fuse_add_rms_norm._replace

    def wrong(add, norm, place, facts):
        node = right(add, norm, place, facts)
        change(node)
        return node

    return wrong


WRONG_SUMS = {
    "attributes lost": (lambda op: op.attributes.clear(), "ulp"),
    "an operand twice": (lambda op: op.replace_input_with(1, op.inputs[0]), "ulp"),
    "outputs the wrong way round": (lambda op: op.outputs[0].replace_all_uses_with(op.outputs[1], True), "ulp"),
    "the sum is x": (
        lambda op: op.outputs[1].replace_all_uses_with(op.inputs[0], replace_graph_outputs=True),
        "the sum is another",
    ),
}


@pytest.mark.parametrize(("change", "reason"), WRONG_SUMS.values(), ids=WRONG_SUMS)
def test_a_wrong_residual_stays_an_add(change, reason, build, monkeypatch):
    model = build(ADD.replace("eps", "half"), inputs=TWO, outputs="float[b,s,8] y, float[b,s,8] h")
    apart = ir.to_proto(fuse(model, residual=False).model).SerializeToString(deterministic=True)
    monkeypatch.setattr(fuse_add_rms_norm, "_replace", with_its_inputs(change))
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    (miss,) = result.near_misses
    assert (miss.piece, miss.left) == ("residual", "residual")
    assert miss.reason.startswith("the Add h stays: run on random rows, the op differs: ")
    assert reason in miss.reason
    assert ir.to_proto(result.model).SerializeToString(deterministic=True) == apart
    assert fuse(model, verify=False).norms[0].kind == "AddRMSNorm", "without the proof it would be fused"


def test_equal_sums_run_once(build, monkeypatch):
    layers = []
    for i in range(4):
        norm = ADD.replace("y =", f"x{i + 1} =").replace("(x, z)", f"({f'x{i}' if i else 'x'}, z)")
        for name in "hqmern":
            norm = norm.replace(f"{name} =", f"{name}{i} =").replace(f"({name}", f"({name}{i}")
            norm = norm.replace(f", {name})", f", {name}{i})")
        layers.append(norm)
    runs = []
    right = fuse_add_rms_norm.PassProver._prove
    monkeypatch.setattr(
        fuse_add_rms_norm.PassProver, "_prove", lambda self, *cut: runs.append(cut) or right(self, *cut)
    )
    result = fuse(build(" ".join(layers) + " y = Identity (x4)", inputs=TWO))
    assert [norm.kind for norm in result.norms] == ["AddRMSNorm"] * 4
    assert len(runs) == 1


NORMS = [op for op in OPS.values() if op.is_shifted or op.is_quantized or op.prologue == "AddFloat32"]


class Another(ir.passes.InPlacePass):
    """Writes a norm as primitives, with another value of an attribute."""

    def __init__(self, attribute=None):
        super().__init__()
        self.attribute = attribute

    def call(self, model):
        (node,) = norm_nodes(model)
        if self.attribute is not None:
            node.attributes[self.attribute.name] = self.attribute
        return LowerToPrimitives()(model)


def proof_of(op, dtype, attribute=None):
    given = {"y_scale": 0.05, "output_dtype": 17} if op.is_quantized else {}
    model = one_norm(op.name, dtype, sum_dtype="float32", opset=20, **given)
    (node,) = norm_nodes(model)
    return PassProver(Another(attribute), Facts(model))([node], node.outputs)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("op", NORMS, ids=lambda op: op.name)
def test_every_norm_is_run_by_its_body(op, dtype):
    assert proof_of(op, dtype) == prove.Proof(0)


@pytest.mark.parametrize("op", NORMS, ids=lambda op: op.name)
def test_another_norm_is_told_apart(op):
    proof = proof_of(op, "float16", ir.AttrFloat32("epsilon", 0.5))
    assert not proof.passed
    assert proof.why_not.startswith("run on ")


@pytest.mark.parametrize("y_scale", [0.0498, 0.1])
def test_another_scale_of_a_quantised_norm_is_told_apart(y_scale):
    op = OPS["RMSNormQuantize"]
    proof = proof_of(op, "float16", ir.AttrFloat32("y_scale", y_scale))
    assert not proof.passed
    assert proof.why_not.endswith("codes differ")
