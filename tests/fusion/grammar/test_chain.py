"""Copies, a cast and one Reshape are walked over, up to a value that more than one node reads."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.grammar.chain import ends_with_last, is_read_once, reader, rounded, says, sources
from rms_deploy.onnx_model.analysis import Facts

INPUTS = "float[b,8] x, int64[2] n"
WALKED = "a = Exp (x) b = Identity (a) c = Reshape (b, n) d = Cast <to = 1> (c)"


@pytest.fixture
def values(build):
    def values(body, output="float[b,8] y"):
        model = ir.from_proto(build(body, inputs=INPUTS, outputs=output))
        named = {value.name: value for node in model.graph for value in node.outputs}
        return named, Facts(model)

    return values


def test_sources(values):
    named, facts = values(f"{WALKED} y = Neg (d)")
    found, view = sources(named["d"], facts)
    assert [value.name for value in found] == ["d", "c", "b", "a"]
    assert view is named["c"].producer()


def test_one_reshape_is_walked_over(values):
    named, facts = values("a = Exp (x) b = Reshape (a, n) c = Reshape (b, n) y = Neg (c)")
    found, view = sources(named["c"], facts)
    assert [value.name for value in found] == ["c", "b"]
    assert view is named["c"].producer()


def test_casts_to_another_type_are_not_walked_over(values):
    named, facts = values("a = Cast <to = 10> (x) b = Cast <to = 1> (a) y = Neg (b)")
    assert [value.name for value in sources(named["b"], facts)[0]] == ["b"]


@pytest.mark.parametrize(
    ("body", "end", "has_view", "is_cast"),
    [
        ("b = Reshape (a, n) c = Cast <to = 10> (b) d = Identity (c)", "d", True, True),
        ("b = Cast <to = 10> (a) c = Reshape (b, n) d = Identity (c)", "d", True, True),
        ("b = Cast <to = 16> (a) c = Cast <to = 10> (b) d = Identity (c)", "a", False, False),
        ("b = Cast <to = 10> (a) c = Cast <to = 1> (b) d = Cast <to = 10> (c)", "b", False, True),
        ("b = Reshape (a, n) c = Reshape (b, n) d = Cast <to = 10> (c)", "b", True, False),
    ],
)
def test_rounded(body, end, has_view, is_cast, values):
    named, facts = values(f"a = Exp (x) {body} y = Neg (d)", "float16[b,8] y")
    value, view, to = rounded(named["a"], ir.DataType.FLOAT16, facts)
    assert (value.name, view is not None, to is not None) == (end, has_view, is_cast)


def test_what_is_an_output_goes_no_further(values):
    named, facts = values("a = Exp (x) y = Identity (a) z = Cast <to = 10> (y)")
    assert rounded(named["a"], ir.DataType.FLOAT16, facts)[0] is named["y"]


def test_readers(values):
    named, _ = values("a = Exp (x) s = Shape (a) y = Reshape (a, s) z = Mul (y, y)")
    assert reader(named["a"]) is None
    assert is_read_once(named["a"])
    assert not is_read_once(named["y"])
    assert reader(named["s"]) is named["y"].producer()


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", True),
        ("<axes = [-2, -1]>", True),
        ("<axes = [1]>", True),
        ("<axes = [-2]>", False),
        ("<axes: ints = @axes>", False),
        ("<epsilon: float = @epsilon>", True),
    ],
)
def test_axes_that_end_with_the_last(attributes, expected):
    """What a call of the function says is not known inside."""
    model = ir.from_onnx_text(f"""<ir_version: 10, opset_import: ["": 21, "l": 1]>
    g (float[2,8] x, float[8] w) => (float[2,8] y) {{ y = l.F <axes = [-2], epsilon = 0.5> (x, w) }}
    <opset_import: ["": 21, "rms_deploy": 1], domain: "l"> F <axes, epsilon> (x, w) => (y) {{
      y = rms_deploy.RMSNorm {attributes} (x, w)
    }}""")
    ((norm,),) = (function.graph for function in model.functions.values())
    assert ends_with_last(norm, Facts(model)) == expected
    assert says(norm, "axes") == ("@axes" not in attributes)
