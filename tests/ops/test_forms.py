"""The forms of a norm."""

from __future__ import annotations

import json

import pytest

from rms_deploy.errors import InputError
from rms_deploy.ops.forms import FORM_MEANINGS, NormForm, norm_form


def test_a_form_is_its_name() -> None:
    assert NormForm.TENSORRT_PLUGIN == "tensorrt-plugin" == str(NormForm.TENSORRT_PLUGIN)
    assert f"{NormForm.FUSED}, {json.dumps(NormForm.FUSED)}" == 'fused, "fused"'
    assert {NormForm.FUSED: 1}["fused"] == 1


def test_every_form_is_explained() -> None:
    assert list(FORM_MEANINGS) == list(NormForm)


def test_a_form_by_its_name() -> None:
    assert norm_form("fused", argument="target") is NormForm.FUSED
    assert norm_form(NormForm.STANDARD, argument="target") is NormForm.STANDARD


def test_an_unknown_form_and_one_that_is_not_taken() -> None:
    with pytest.raises(InputError, match="target 'fast' is not known; use fused, standard, onnxruntime, decomposed, t"):
        norm_form("fast", argument="target")
    with pytest.raises(InputError, match=r"norm 'onnxruntime' is not known; use fused, decomposed$"):
        norm_form("onnxruntime", argument="norm", accepted=(NormForm.FUSED, NormForm.DECOMPOSED))
