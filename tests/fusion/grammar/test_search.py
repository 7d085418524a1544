"""From an anchor to every end of a norm: matches, near misses, and nothing at other nodes."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Stage
from rms_deploy.fusion.grammar.search import search
from rms_deploy.onnx_model.analysis import Facts

CORE = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r)"


def searched(proto, name="m", **options):
    model = ir.from_proto(proto)
    anchor = next(node for node in model.graph if node.outputs[0].name == name)
    return search(anchor, Facts(model), **options)


def test_the_end_of_a_norm(build):
    result = searched(build(f"{CORE} y = Mul (n, scale)"))
    (match,) = result.matches
    assert (match.value.name, match.stage, match.axes, match.n) == ("y", Stage.SCALED, (-1,), 8)
    assert (match.x.name, match.scale.name, match.anchor.outputs[0].name) == ("x", "scale", "m")
    assert not result.near_misses


def test_several_ends(build):
    more = "y = Mul (n, scale) a = Mul (n, half) e2 = Add (m, half) r2 = Sqrt (e2) n2 = Div (x, r2)"
    outputs = "float[b,s,8] y, float[b,s,8] a, float[b,s,8] n2"
    result = searched(build(f"{CORE} {more}", outputs=outputs))
    assert sorted(match.value.name for match in result.matches) == ["a", "n2", "y"]


def test_a_norm_ends_where_something_else_reads_it(build):
    (match,) = searched(
        build(f"{CORE} y = Mul (n, scale) a = Exp (n)", outputs="float[b,s,8] y, float[b,s,8] a")
    ).matches
    assert (match.value.name, match.scale) == ("n", None)


def test_a_near_miss_is_said_once(build):
    more = "y = Div (z, r) a = Div (z, r)"
    proto = build(
        f"{CORE} {more}",
        inputs="float[b,s,8] x, float[b,s,8] z",
        outputs="float[b,s,8] y, float[b,s,8] a, float[b,s,8] n",
    )
    result = searched(proto)
    assert [match.value.name for match in result.matches] == ["n"]
    assert [(miss.node, miss.piece) for miss in result.near_misses] == [("y", "normed"), ("a", "normed")]


def test_a_gain_of_precision_has_to_be_allowed(build):
    half = "c = Constant <value = float16 {14131}> () " + CORE.replace("eps", "c") + " y = Mul (n, g)"
    proto = build(half, inputs="float16[b,s,8] x, float16[8] g", outputs="float16[b,s,8] y")
    result = searched(proto)
    assert not result.matches
    assert result.near_misses[0].reason.endswith("; `allow_precision_gain=True` fuses it")
    result = searched(proto, allow_gain=True)
    assert (len(result.matches), result.near_misses) == (1, [])


def test_other_nodes_anchor_nothing(build):
    for name in ("q", "e", "r", "n", "y"):
        result = searched(build(f"{CORE} y = Mul (n, scale)"), name)
        assert (result.matches, result.near_misses) == ([], [])
