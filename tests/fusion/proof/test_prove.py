# ruff: noqa: E501 - a graph a line
"""Each norm is run before it is replaced: a wrong op is a near miss."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes import fuse_rms_norm
from rms_deploy.fusion.proof import prove, reference_ops

CORE = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r)"
NORM = f"{CORE} y = Mul (n, scale)"
HALF = "u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (u, r) h = Cast <to = 10> (n) y = Mul (h, g)"


def test_every_norm_says_how_far_it_is_from_what_it_was(build):
    (norm,) = fuse(build(NORM)).norms
    assert norm.max_ulp == 0
    (norm,) = fuse(build(NORM.replace("n = Div (x, r)", "i = Reciprocal (r) n = Mul (x, i)"))).norms
    assert 0 < norm.max_ulp <= 4


def test_without_the_proof_no_distance_is_given(build):
    (norm,) = fuse(build(NORM), verify=False).norms
    assert norm.max_ulp is None


def changed(monkeypatch, **attributes):
    """A grammar that reads the constants wrongly."""
    right = fuse_rms_norm.replacement_for

    def wrong(match, facts):
        op = right(match, facts)
        return replace(op, attributes={**op.attributes, **attributes})

    monkeypatch.setattr(fuse_rms_norm, "replacement_for", wrong)


WRONG = {
    "epsilon": ({"epsilon": 3.1e-4}, "run on "),
    "epsilon lost": ({"epsilon": 0.0}, "run on "),
    "epsilon outside": ({"epsilon": 0.0, "rms_epsilon": 3e-4}, "run on "),
    "axes": ({"axes": (1,)}, "run on random rows"),
    "floor": ({"rms_min": 0.02}, "run on small rows"),
}


@pytest.mark.parametrize(("attributes", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_op_is_not_fused(attributes, reason, build, monkeypatch):
    model = build(NORM.replace("scale", "half"))
    before = ir.to_proto(ir.from_proto(model)).SerializeToString(deterministic=True)
    changed(monkeypatch, **attributes)
    result = fuse(model)
    assert not result.norms
    assert result.near_misses[0].piece == "verify"
    assert result.near_misses[0].reason.startswith(reason)
    assert ir.to_proto(result.model).SerializeToString(deterministic=True) == before
    assert fuse(model, verify=False).norms, "without the proof it would be fused"


def test_the_wrong_order_of_rounding_is_not_fused(build, monkeypatch):
    changed(monkeypatch, scale_type=1)
    result = fuse(build(HALF, inputs="float16[b,s,64] x, float16[64] g", outputs="float16[b,s,64] y"))
    assert not result.norms
    assert "are rounded otherwise" in result.near_misses[0].reason


def test_only_the_norm_that_differs_is_a_near_miss(build, monkeypatch):
    second = NORM.replace("(x", "(y").replace(", x)", ", y)").replace("eps", "half")
    for name in "qmern":
        second = second.replace(f"{name} =", f"{name}2 =").replace(f"({name}", f"({name}2")
    second = second.replace(", r)", ", r2)").replace("y = Mul", "z = Mul")
    model = build(f"{NORM} {second}", outputs="float[b,s,8] z")
    changed(monkeypatch, epsilon=0.5)
    result = fuse(model)
    assert (len(result.norms), len(result.near_misses)) == (1, 1)
    assert result.norms[0].node == "z"


def test_equal_subgraphs_run_once(build, monkeypatch):
    layers = []
    for i in range(6):
        a, b = f"x{i}" if i else "x", f"x{i + 1}"
        layers.append(
            f"q{i} = Mul ({a}, {a}) m{i} = ReduceMean (q{i}, last) e{i} = Add (m{i}, eps) r{i} = Sqrt (e{i}) "
            f"n{i} = Div ({a}, r{i}) s{i} = Mul (n{i}, scale) {b} = Exp (s{i})"
        )
    runs = []
    right = prove._prove
    monkeypatch.setattr(prove, "_prove", lambda subgraph, gains: runs.append(subgraph) or right(subgraph, gains=gains))
    assert len(fuse(build(" ".join(layers) + " y = Identity (x6)")).norms) == 6
    assert len(runs) == 1


@pytest.mark.parametrize("attributes", [{"epsilon": 0.1}, {"rms_epsilon": 0.1}, {"rms_min": 2.0}])
def test_a_gain_of_precision_is_held_to_the_exact_norm(attributes, build, monkeypatch):
    body = CORE.replace("eps", "h") + " y = Mul (n, g)"
    constant = "h = Constant <value = float16 {14131}> ()"
    model = build(f"{constant} {body}", inputs="float16[b,s,8] x, float16[8] g", outputs="float16[b,s,8] y")
    changed(monkeypatch, **attributes)
    result = fuse(model, allow_precision_gain=True)
    assert not result.norms
    assert result.near_misses[0].reason.startswith("run on random rows, the op differs")


def test_what_the_evaluator_lacks_is_said(build, monkeypatch):
    def lacks(*_):
        raise NotImplementedError("no such op")

    monkeypatch.setattr(prove, "_run", lacks)
    (norm,) = fuse(build(NORM)).norms
    assert norm.unproven == "onnx's evaluator does not run it: no such op"


@pytest.mark.parametrize("step", ["cut", "_prove"])
def test_a_fault_in_the_proof_is_a_norm_that_was_not_run(step, build, monkeypatch):
    def fails(*_, **__):
        raise KeyError("no_such_thing")

    monkeypatch.setattr(prove, step, fails)
    (norm,) = fuse(build(NORM)).norms
    assert (norm.max_ulp, norm.unproven) == (None, "the proof cannot be made: 'no_such_thing'")


def test_a_gain_of_precision_is_measured_but_fused_all_the_same(build):
    body = CORE.replace("eps", "h") + " y = Mul (n, g)"
    constant = "h = Constant <value = float16 {14131}> ()"
    model = build(f"{constant} {body}", inputs="float16[b,s,8] x, float16[8] g", outputs="float16[b,s,8] y")
    (norm,) = fuse(model, allow_precision_gain=True).norms
    assert norm.max_ulp
    assert norm.note.startswith("precision gained")


@pytest.mark.parametrize("error", [TypeError, AttributeError, RuntimeError, MemoryError])
def test_whatever_the_evaluator_raises_is_no_traceback(error, build, monkeypatch):
    def fails(*_, **__):
        raise error("no such thing")

    monkeypatch.setattr(prove.onnx.reference, "ReferenceEvaluator", fails)
    (norm,) = fuse(build(NORM)).norms
    assert norm.max_ulp is None
    assert norm.unproven == "onnx's evaluator does not run it: no such thing"


def test_an_op_that_fails_where_the_norm_runs_is_not_fused(build, monkeypatch):
    right, runs = prove._run, []

    def fails_second(*arguments):
        runs.append(arguments)
        if len(runs) == 2:
            return np.broadcast_shapes((2,), (3,))
        return right(*arguments)

    monkeypatch.setattr(prove, "_run", fails_second)
    (miss,) = fuse(build(NORM)).near_misses
    assert miss.reason.startswith("run on random rows, the op fails: shape mismatch")


def test_a_fault_in_a_reference_op_is_a_norm_that_was_not_run(build, monkeypatch):
    monkeypatch.setattr(reference_ops, "_normed", lambda *_: None)
    model = build("y = SimplifiedLayerNormalization <axis = -1, epsilon = 3e-4> (x, scale)")
    (norm,) = fuse(model).norms
    assert norm.max_ulp is None
    assert norm.unproven.startswith("onnx's evaluator does not run it: ")


@pytest.mark.parametrize("shape", ["b,s,0", "b,0,8", "0,s,8"])
def test_sizes_of_zero(shape, build):
    model = build(NORM.replace("Mul (n, scale)", "Exp (n)"), inputs=f"float[{shape}] x", outputs=f"float[{shape}] y")
    (norm,) = fuse(model).norms
    assert norm.max_ulp == 0
