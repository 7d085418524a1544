"""The value in which the numbers of two models part, where the formula is the same or not known."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.verification.bisect import first_difference
from rms_deploy.verification.candidates import Candidate

IDS = {"ids": np.arange(12).reshape(2, 6)}


def parted(reference, candidate, **options):
    options = {"tolerance": 1e-5, "library": False, **options}
    return first_difference(Candidate.of(reference), Candidate.of(candidate), IDS, **options)


@pytest.mark.parametrize("fused", [False, True])
def test_the_first_value_that_differs(decoder, fused):
    found = parted(decoder(residual=1.0), decoder(fused=fused, epsilons=(1e-5, 1e-1, 1e-5), residual=1.0))
    assert found.pair.reference == "n1_y"
    assert found.how == "as deployed"
    assert found.before < 1e-6, "rounding of float32, 6e-8 an op"
    assert found.difference.relative_l2 > 1e-3


def test_nothing_differs(decoder):
    assert parted(decoder(), decoder(fused=True)) is None


def test_an_output_is_named_where_nothing_in_front_of_it_differs(decoder):
    wrong = decoder()
    output = wrong.graph.outputs[0]
    head = output.producer()
    half = ir.node("Mul", [head.outputs[0], wrong.graph.initializers["n0_epsilon"]])
    wrong.graph.append(half)
    head.outputs[0].name, half.outputs[0].name, half.outputs[0].type = "z", "y", output.type
    wrong.graph.outputs[0] = half.outputs[0]
    found = parted(decoder(), wrong)
    assert found.pair.reference == "y"
    assert found.before < 1e-6, "rounding of float32"


def test_a_model_that_does_not_run_in_this_way(decoder):
    wrong = decoder(fused=True)
    wrong.functions.clear()
    assert parted(decoder(), wrong) is None
