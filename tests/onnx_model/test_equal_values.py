"""Values that are computed alike are one."""

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts

EQUAL = {
    "one operator": "a = Abs (x) b = Abs (x)",
    "a chain": "a0 = Transpose <perm = [0,2,1]> (x) a = Exp (a0) b0 = Transpose <perm = [0,2,1]> (x) b = Exp (b0)",
    "equal constants": "a = Add (x, half) k = Constant <value = float {0.5}> () b = Add (x, k)",
    "casts that lose nothing": "c = Cast <to = 11> (x) a = Exp (x) i = Identity (x) b = Exp (i)",
    "one input left out at the end": "a = Clip (x, half) b = Clip (x, half, )",
}
OTHER = {
    "another attribute": "a = Transpose <perm = [0,2,1]> (x) b = Transpose <perm = [1,0,2]> (x)",
    "another input": "a = Abs (x) b = Abs (z)",
    "another constant": "a = Add (x, half) b = Add (x, two)",
    "other operators": "a = Exp (x) b = Abs (x)",
    "random numbers": "a = RandomNormalLike (x) b = RandomNormalLike (x)",
    "sums in two types": (
        "h = Cast <to = 10> (x) k = Cast <to = 10> (z) a0 = Add (h, k) a = Cast <to = 1> (a0) "
        "u = Cast <to = 1> (h) v = Cast <to = 1> (k) b = Add (u, v)"
    ),
    "two outputs": "a, b = Split <num_outputs = 2> (x)",
}


def same(body, build):
    model = build(f"{body} y = Add (a, b)", inputs="float[4,4,4] x, float[4,4,4] z", outputs="float[?,?,?] y")
    ours = ir.from_proto(model)
    return Facts(ours).same(*list(ours.graph)[-1].inputs)


@pytest.mark.parametrize("body", [b for name, b in EQUAL.items() if "left out" not in name])
def test_equal(body, build):
    assert same(body, build)


@pytest.mark.parametrize("body", OTHER.values(), ids=OTHER)
def test_not_equal(body, build):
    assert not same(body, build)


def test_an_input_that_is_left_out_by_an_empty_name(build):
    model = build("a = Clip (x, half) b = Clip (x, half) y = Add (a, b)")
    model.graph.node[1].input.append("")
    ours = ir.from_proto(model)
    assert Facts(ours).same(*list(ours.graph)[-1].inputs)


def test_what_a_caller_may_replace_equals_nothing(build):
    model = build("a = Add (x, half) k = Constant <value = float {0.5}> () b = Add (x, k) y = Add (a, b)")
    model.graph.input.append(onnx.helper.make_tensor_value_info("half", 1, []))
    ours = ir.from_proto(model)
    assert not Facts(ours).same(*list(ours.graph)[-1].inputs)
