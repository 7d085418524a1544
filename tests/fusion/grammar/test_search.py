"""From an anchor to every end of a norm: matches, near misses, and nothing at other nodes."""

from __future__ import annotations

import onnx_ir as ir
import pytest

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


HEAD, TAIL = (
    "q = Mul (x, x) m = ReduceMean (q, last)",
    "e = Add (s, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)",
)


def searched_through(build, middle):
    model = ir.from_proto(build(f"{HEAD} {middle} {TAIL}"))
    return search(model.graph[1], Facts(model))


@pytest.mark.parametrize("op", ["Add", "Mul", "Max"])
def test_paths_that_part_and_meet_are_followed_once(op, build):
    """Each of 40 diamonds doubles the paths."""
    links = " ".join(f"a{i} = Identity (s{i}) s{i + 1} = {op} (s{i}, a{i})" for i in range(40))
    result = searched_through(build, f"s0 = Identity (m) {links} s = Identity (s40)")
    assert not result.matches
    assert result.steps <= 4 * 84


def test_a_long_chain_is_given_up_and_said(build):
    links = " ".join(f"s{i + 1} = Identity (s{i})" for i in range(3000))
    result = searched_through(build, f"s0 = Identity (m) {links} s = Identity (s3000)")
    assert result.steps <= 1024
    assert [miss.reason for miss in result.near_misses] == ["more than 1024 nodes read what is computed of it"]


def test_a_chain_of_some_length_is_followed(build):
    links = " ".join(f"s{i + 1} = Identity (s{i})" for i in range(500))
    assert len(searched_through(build, f"s0 = Identity (m) {links} s = Identity (s500)").matches) == 1


def test_what_many_anchors_lead_to_is_not_searched_for_each(build):
    count = 60
    anchors = " ".join(f"m{i} = ReduceMean (q, last)" for i in range(count))
    sums = " ".join(f"s{i + 1} = Add (s{i}, m{i})" for i in range(count))
    model = ir.from_proto(build(f"q = Mul (x, x) {anchors} s0 = Identity (q) {sums} y = Mul (x, s{count})"))
    facts = Facts(model)
    steps = [search(node, facts).steps for node in list(model.graph) if node.op_type == "ReduceMean"]
    assert sum(steps) < 16 * count
