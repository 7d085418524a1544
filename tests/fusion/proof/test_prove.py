# ruff: noqa: E501 - a graph a line
"""Each norm is run before it is replaced: a wrong op is found, and left."""

from dataclasses import replace

import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes import expand_skip_norm, fuse_add_rms_norm, fuse_rms_norm
from rms_deploy.fusion.proof import prove as site_proof

CORE = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r)"
NORM = f"{CORE} y = Mul (n, scale)"
SKIP = "com.microsoft.SkipSimplifiedLayerNormalization"
TWO = "float[b,s,8] x, float[b,s,8] z"
ADD = f"h = Add (x, z) {NORM.replace('(x', '(h').replace(', x)', ', h)')}"
HALF = "u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (u, r) h = Cast <to = 10> (n) y = Mul (h, g)"


def test_every_norm_says_how_far_it_is_from_what_it_was(build):
    (norm,) = fuse(build(NORM)).norms
    assert norm.max_ulp == 0
    (norm,) = fuse(build(NORM.replace("n = Div (x, r)", "i = Reciprocal (r) n = Mul (x, i)"))).norms
    assert 0 < norm.max_ulp <= 4


def test_it_can_be_left_out(build):
    (norm,) = fuse(build(NORM), verify=False).norms
    assert norm.max_ulp is None


def changed(monkeypatch, **attributes):
    """A grammar that reads the constants wrongly."""
    right = fuse_rms_norm.replacement_for

    def wrong(found, facts):
        op = right(found, facts)
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


def test_only_the_site_that_differs_is_left(build, monkeypatch):
    second = NORM.replace("(x", "(y").replace(", x)", ", y)").replace("eps", "half")
    for name in "qmern":
        second = second.replace(f"{name} =", f"{name}2 =").replace(f"({name}", f"({name}2")
    second = second.replace(", r)", ", r2)").replace("y = Mul", "z = Mul")
    model = build(f"{NORM} {second}", outputs="float[b,s,8] z")
    changed(monkeypatch, epsilon=0.5)
    result = fuse(model)
    assert (len(result.norms), len(result.near_misses)) == (1, 1)
    assert result.norms[0].node == "z"


def test_equal_sites_run_once(build, monkeypatch):
    layers = []
    for i in range(6):
        a, b = f"x{i}" if i else "x", f"x{i + 1}"
        layers.append(
            f"q{i} = Mul ({a}, {a}) m{i} = ReduceMean (q{i}, last) e{i} = Add (m{i}, eps) r{i} = Sqrt (e{i}) "
            f"n{i} = Div ({a}, r{i}) s{i} = Mul (n{i}, scale) {b} = Exp (s{i})"
        )
    runs = []
    prove = site_proof._prove
    monkeypatch.setattr(site_proof, "_prove", lambda site, gains: runs.append(site) or prove(site, gains=gains))
    assert len(fuse(build(" ".join(layers) + " y = Identity (x6)")).norms) == 6
    assert len(runs) == 1


UNPROVEN = {
    "unknown shape": (
        "a = com.microsoft.Unknown (x)" + NORM.replace("(x", "(a").replace(", x)", ", a)"),
        "is not known",
    ),
}


@pytest.mark.parametrize(("body", "reason"), UNPROVEN.values(), ids=UNPROVEN)
def test_what_cannot_be_run_says_why(body, reason, build):
    (norm,) = fuse(build(body)).norms
    assert norm.max_ulp is None
    assert reason in norm.unproven


def test_large_static_shapes_are_run_small(build):
    model = build(NORM, inputs="float[64,4096,8] x", outputs="float[64,4096,8] y")
    (norm,) = fuse(model).norms
    assert norm.max_ulp == 0


def test_weights_are_not_loaded(build):
    """A scale is an input of the site, so its numbers do not matter."""
    model = ir.from_proto(
        build(NORM.replace("scale", "w"), inputs="float[b,s,512] x, float[512] w", outputs="float[b,s,512] y")
    )
    scale = model.graph.inputs.pop()

    def fail():
        raise AssertionError

    scale.const_value = ir.LazyTensor(fail, dtype=ir.DataType.FLOAT, shape=ir.Shape([512]), name="w")
    model.graph.register_initializer(scale)
    assert len(fuse(model).norms) == 1


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

    monkeypatch.setattr(site_proof, "_run", lacks)
    (norm,) = fuse(build(NORM)).norms
    assert norm.unproven == "onnx's evaluator does not run it: no such op"


def test_a_fault_of_our_own_keeps_its_traceback(build, monkeypatch):
    monkeypatch.setattr(site_proof.Subgraph, "rewritten", lambda self: self.no_such_attribute)
    with pytest.raises(AttributeError, match="no_such_attribute"):
        fuse(build(NORM))


def test_the_standard_op_is_run(build):
    (norm,) = fuse(build("y = RMSNormalization (x, scale)", opset=23)).norms
    assert norm.max_ulp is not None


def test_a_gain_of_precision_is_measured_but_not_refused(build):
    body = CORE.replace("eps", "h") + " y = Mul (n, g)"
    constant = "h = Constant <value = float16 {14131}> ()"
    model = build(f"{constant} {body}", inputs="float16[b,s,8] x, float16[8] g", outputs="float16[b,s,8] y")
    (norm,) = fuse(model, allow_precision_gain=True).norms
    assert norm.max_ulp
    assert norm.note.startswith("precision gained")


def test_a_size_read_from_a_part_of_the_norm(build):
    """The square is computed, not made up, though only its shape is read besides."""
    body = """q = Mul (x, x) h = Shape (q) i = Constant <value = int64 {-1}> () g = Gather (h, i) f = Cast <to = 1> (g)
        t = ReduceSum (q, last) m = Div (t, f) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)"""
    (norm,) = fuse(build(body, inputs="float[b,s,h] x", outputs="float[b,s,h] y")).norms
    assert norm.max_ulp == 0


NATIVE = {
    "RMSNormalization": "y = RMSNormalization <axis = -1, epsilon = 0.25> (x, w)",
    "SimplifiedLayerNormalization": "y = SimplifiedLayerNormalization <axis = -1, epsilon = 0.25> (x, w)",
    "of com.microsoft": "y = com.microsoft.SimplifiedLayerNormalization <axis = -1, epsilon = 0.25> (x, w)",
    "of two axes": "y = com.microsoft.SimplifiedLayerNormalization <axis = 1, epsilon = 0.25> (x, w)",
    "default epsilon": "y = com.microsoft.SimplifiedLayerNormalization (x, w)",
}


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
@pytest.mark.parametrize("body", NATIVE.values(), ids=NATIVE)
def test_a_native_norm_is_run_by_its_formula(body, dtype, build, monkeypatch):
    w = f"{dtype}[4,64] w" if "= 1," in body else f"{dtype}[64] w"
    model = build(body, inputs=f"{dtype}[b,4,64] x, {w}", outputs=f"{dtype}[b,4,64] y", opset=23)
    (norm,) = fuse(model).norms
    assert norm.max_ulp is not None
    # a quarter of the halves is rounded otherwise, if the scale comes before the rounding and not after it
    wrong = [{"epsilon": 3.1e-3}, {"axes": (-3,)}]
    if dtype != "float":
        wrong.append({"scale_type": 1 if "RMSNormalization" in body else int(ir.DataType[dtype.upper()])})
    for attributes in wrong:
        with monkeypatch.context() as patch:
            changed(patch, **attributes)
            result = fuse(model)
            assert not result.norms, attributes
            assert result.near_misses[0].reason.startswith("run on "), attributes
            assert "the op differs" in result.near_misses[0].reason


def test_a_native_norm_of_two_types_is_not_run(build):
    body = "n = RMSNormalization (x, w) y = Cast <to = 10> (n)"
    model = build(body, inputs="float16[b,s,8] x, float[8] w", outputs="float16[b,s,8] y", opset=23)
    (norm,) = fuse(model).norms
    assert norm.max_ulp is None
    assert "RMSNormalization of float16 with a scale of float32, which ONNX does not define" in norm.unproven


SKIPS = {
    "plain": (f"y = {SKIP} (x, z, g)", "TT[b,s,8] y"),
    "bias": (f"y = {SKIP} <epsilon = 0.25> (x, z, g, c)", "TT[b,s,8] y"),
    "bias and sum": (f"y, m, i, t = {SKIP} (x, z, g, c)", "TT[b,s,8] y, TT[b,s,8] t"),
}


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
@pytest.mark.parametrize(("body", "outputs"), SKIPS.values(), ids=SKIPS)
def test_a_norm_with_its_sum_inside_is_run_by_its_formula(body, outputs, dtype, build):
    inputs = "TT[b,s,8] x, TT[b,s,8] z, TT[8] g, TT[8] c"
    (norm,) = fuse(build(body, inputs=inputs.replace("TT", dtype), outputs=outputs.replace("TT", dtype))).norms
    assert norm.max_ulp is not None
    assert norm.max_ulp <= 4
    assert not norm.unproven


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
def test_a_wrong_expansion_is_left(wrong, build, monkeypatch):
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
    body = (
        ADD.replace("scale", "g")
        if dtype == "float"
        else HALF.replace("h =", "k =").replace("(h,", "(k,").replace("(x)", "(h)")
    )
    if dtype != "float":
        body = "h = Add (x, z) " + body.replace("to = 10", f"to = {int(ir.DataType[dtype.upper()])}")
    inputs = "TT[b,s,8] x, TT[b,s,8] z, TT[8] g".replace("TT", dtype)
    result = fuse(build(body, inputs=inputs, outputs=f"{dtype}[b,s,8] y, {dtype}[b,s,8] h"))
    assert [(norm.kind, norm.max_ulp, norm.unproven) for norm in result.norms] == [("AddRMSNorm", 0, "")]


def test_the_distances_of_both_steps_add_up(build, monkeypatch):
    prove = fuse_add_rms_norm.PassProver.__call__
    monkeypatch.setattr(
        fuse_add_rms_norm.PassProver,
        "__call__",
        lambda self, *nodes: prove(self, *nodes).then(site_proof.Proof(7)),
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
    assert not result.near_misses
    assert result.norms[0].note.startswith("its Add stays: run on random rows, the op differs: ")
    assert reason in result.norms[0].note
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
    prove = fuse_add_rms_norm.PassProver._prove
    monkeypatch.setattr(
        fuse_add_rms_norm.PassProver, "_prove", lambda self, *site: runs.append(site) or prove(self, *site)
    )
    result = fuse(build(" ".join(layers) + " y = Identity (x4)", inputs=TWO))
    assert [norm.kind for norm in result.norms] == ["AddRMSNorm"] * 4
    assert len(runs) == 1
