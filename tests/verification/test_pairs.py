"""Which values two models seem to share: by weights, not by names."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir

from rms_deploy.verification.pairs import pairs
from rms_deploy.verification.wide import stream_weights


def paired(reference: str, candidate: str) -> list[tuple[str, str]]:
    models = [parse(body) for body in (reference, candidate)]
    weights = [stream_weights(model, {v: v.const_value for v in model.graph.initializers.values()}) for model in models]
    return [(p.reference, p.candidate) for p in pairs(models[0], weights[0], models[1], weights[1])]


def parse(body: str) -> ir.Model:
    header = '<ir_version: 8, opset_import: ["" : 18]> g (float[n,2] x, int64[n] ids) => (float[n,2] y)'
    weights = "<float[2,2] v = {1, 2, 3, 4}, float[2,2] w = {5, 6, 7, 8}, float[2] s = {1, 2}, float[2] b = {1, 2}>"
    return ir.from_proto(onnx.parser.parse_model(f"{header} {weights} {{ {body} }}"))


BODY = "a = Exp(x) b1 = MatMul(a, v) c = Exp(b1) d = MatMul(c, w) y = Exp(d)"


def test_what_a_weight_is_multiplied_with_and_the_product():
    renamed = "z = Sqrt(x) k = MatMul(z, v) l = Exp(k) m = Exp(l) n1 = MatMul(m, w) y = Neg(n1)"
    assert paired(BODY, renamed) == [("a", "z"), ("b1", "k"), ("c", "m"), ("d", "n1")]


def test_a_weight_behind_a_transpose_or_a_cast_is_one():
    body = "t = Transpose<perm=[1,0]>(w) t2 = Cast<to=1>(t) a = Exp(x) b1 = MatMul(a, t2) y = Exp(b1)"
    assert paired(body, body) == [("a", "a"), ("b1", "b1")]
    assert paired(body, body.replace("[1,0]", "[0,1]")) == []


def test_a_table_is_paired_by_its_rows_and_not_by_the_indices():
    body = "i = Add(ids, ids) r = Gather(v, i) a = Exp(r) y = Add(a, x)"
    assert paired(body, body) == [("r", "r")]


def test_inputs_and_outputs_of_the_model_are_no_pairs():
    body = "y = MatMul(x, v)"
    assert paired(body, body) == []


def test_other_weights_other_ops_and_unequal_counts_are_no_pairs():
    assert paired(BODY, BODY.replace("MatMul(a, v)", "MatMul(a, w)")) == []
    assert paired(BODY, BODY.replace("MatMul(c, w)", "Gemm(c, w)")) == [("a", "a"), ("b1", "b1")]


def test_vectors_are_no_weights():
    """The scale of a norm would pair what a swap of two norms put in its place."""
    body = "a = Exp(x) z = Mul(a, s) y = Exp(z)"
    assert paired(body, body) == []


def test_where_a_value_is_made():
    model = parse(BODY)
    model.graph[0].name = "/model/layers.0/norm/Exp"
    weights = stream_weights(model, {v: v.const_value for v in model.graph.initializers.values()})
    first, second, *_ = pairs(model, weights, model, weights)
    assert (first.node, first.module) == ("/model/layers.0/norm/Exp", "model/layers.0/norm")
    assert (second.node, second.module) == ("MatMul", "")
