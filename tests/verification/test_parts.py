"""What the outputs hide shows in the parts, and a wrong pair is no error."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.verification.candidates import Candidate, formula_run, truth_run
from rms_deploy.verification.parts import compare_parts, first_failed
from rms_deploy.verification.tolerance import FORMULA_TOLERANCE
from rms_deploy.verification.verify import verify

IDS = {"ids": np.arange(12).reshape(2, 6)}


def compared(reference, candidate, **options):
    truth, why = truth_run(Candidate.of(reference))
    formula, _ = formula_run(Candidate.of(candidate), truth, why)
    return compare_parts(truth, formula, IDS, tolerance=FORMULA_TOLERANCE, **options)


@pytest.mark.parametrize("dtype", ["float", "float16"])
def test_equal_models_are_equal_in_each_part(decoder, dtype):
    parts = compared(decoder(dtype=dtype), decoder(fused=True, dtype=dtype))
    assert [part.pair.reference for part in parts if part.kind == "real"] == [
        *("x0", "n0_y", "m0", "n1_y", "m1", "n2_y", "m2", "x3", "y")
    ]
    assert {part.kind for part in parts} == {"real", "tiny"}
    assert all(part.passed for part in parts)
    # Float64 rounds off by 1e-16; a row has 16 elements, and each part some ten ops.
    assert max(part.difference.relative_l2 for part in parts) < 1e-14
    assert first_failed(parts) is None


MISTAKES = {
    "epsilon": ({"epsilons": (1e-5, 2e-5, 1e-5)}, "n1_y", "tiny"),
    "tiny epsilon": ({"epsilons": (1e-5, 1e-5, 1.001e-5)}, "n2_y", "tiny"),
    "scale element": ({"bump": 1e-4}, "n2_y", "real"),
    "swapped norms": ({"scales": (1, 0, 2)}, "n0_y", "real"),
}


@pytest.mark.parametrize("dtype", ["float", "float16"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_where_it_is(decoder, mistake, dtype):
    options, value, kind = MISTAKES[mistake]
    parts = compared(decoder(dtype=dtype), decoder(fused=True, dtype=dtype, **options))
    first = first_failed(parts)
    assert (first.pair.reference, first.pair.candidate) == (value, value)
    assert first.how == f"in float64, for {kind} numbers"
    assert first.before == 0
    assert first.difference.relative_l2 > 10 * FORMULA_TOLERANCE
    wrong = {part.pair.reference for part in parts if not part.passed}
    assert wrong == ({"n0_y", "n1_y"} if mistake == "swapped norms" else {value}), "each part is judged by itself"


def test_verify_finds_an_epsilon_that_the_whole_model_hides(decoder):
    """The mean square is 1e6: 1e-5 more under the root changes nothing."""
    result = verify(decoder(), decoder(fused=True, epsilons=(1e-5, 2e-5, 1e-5)))
    assert all(check.passed for check in result.checks)
    assert result.formula_difference < FORMULA_TOLERANCE
    assert not result.passed
    assert result.first_difference.pair.reference == "n1_y"
    assert result.compared == "whole and in 9 parts"


def test_a_pair_that_is_none_is_no_error():
    """The i-th reader of a weight in one model is not the i-th in the other."""

    def model(*products, factor=1.0):
        text = (
            '<ir_version: 8, opset_import: ["" : 18]> g (float[n,2] x) => (float[n,2] y) '
            f"<float[2,2] w = {{1, 2, 3, 4}}, float f = {{{factor}}}> "
            f"{{ p = Exp(x) q = Sigmoid(x) {' '.join(products)} c = Mul(a, f) y = Sub(c, b) }}"
        )
        return onnx.parser.parse_model(text)

    products = ("a = MatMul(p, w)", "b = MatMul(q, w)")
    result = verify(model(*products), model(*reversed(products)))
    assert result.passed
    assert result.compared == "whole and in 1 part", "y alone"
    assert not verify(model(*products), model(*reversed(products), factor=1.001)).passed


def product(body):
    header = '<ir_version: 8, opset_import: ["" : 18]> g (float[2,3,2] x) => (float[2,3,2] y)'
    weights = "<float[2,2] w = {1, 2, 3, 4}, int64[2] flat = {-1, 2}, int64[3] shape = {2, 3, 2}>"
    return onnx.parser.parse_model(f"{header} {weights} {{ {body} }}")


def test_values_of_unlike_shapes_are_no_pair():
    flat = "a = Exp(x) b = Reshape(a, flat) c = MatMul(b, w) d = Reshape(c, shape) y = Neg(d)"
    result = verify(product("a = Exp(x) c = MatMul(a, w) y = Neg(c)"), product(flat))
    assert result.passed
    assert result.compared == "whole"


@pytest.mark.parametrize("ends", ["(float[2,0] x) => (float[2,0] y)", "(float x) => (float y)"])
def test_an_empty_input_and_a_scalar_can_be_compared(ends):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {ends} {{ y = Exp(x) }}')
    assert verify(model, model).compared == "whole"


def test_what_does_not_run_on_tiny_numbers_has_no_parts():
    """For x = 0 the products are 4 and 6, and 1 is an index of the table; for tiny ones it is -9."""
    body = """table = Constant<value_floats=[1.0, 2.0, 3.0]>() a = Exp(x) c = MatMul(a, w)
        low = ReduceMin<keepdims=0>(c) l = Log(low) i = Cast<to=7>(l) g = Gather(table, i) y = Add(c, g)"""
    result = verify(product(body), product(body), inputs={"x": np.zeros((2, 3, 2), np.float32)})
    assert result.passed
    assert result.compared == "whole"


def test_less_memory_gives_fewer_parts(decoder):
    many = compared(decoder(), decoder(fused=True))
    few = compared(decoder(), decoder(fused=True), memory=16000)
    assert 2 < len({part.pair for part in few}) < len({part.pair for part in many})
    assert all(part.passed for part in few)


def test_models_that_share_no_weight_have_no_parts(decoder):
    other = decoder()
    for name in ("table", "w0", "w1", "w2", "head"):
        value = other.graph.initializers[name]
        value.const_value = ir.tensor(2 * value.const_value.numpy(), name=name)
    assert compared(decoder(), other) == ()
