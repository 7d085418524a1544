"""The norm operators of others, held against what the runtimes say of them."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import onnxruntime.capi.onnxruntime_pybind11_state as state
import pytest

from rms_deploy.ops.foreign_ops import (
    CONTRIB_DOMAIN,
    FOREIGN_NORMS,
    RMS_NORMALIZATION,
    SIMPLIFIED_LAYER_NORMALIZATION,
    ForeignNorm,
    foreign_norm,
)
from rms_deploy.ops.forms import NormForm

NORMS = pytest.mark.parametrize("norm", FOREIGN_NORMS.values(), ids=FOREIGN_NORMS)


@NORMS
def test_the_domain_that_we_write_is_the_one_that_has_it(norm: ForeignNorm) -> None:
    known = {schema.domain for schema in state.get_all_operator_schema() if schema.name == norm.op_type}
    if norm.domains[0] == "" and norm is not SIMPLIFIED_LAYER_NORMALIZATION:
        assert onnx.defs.has(norm.op_type)
    else:
        assert known <= set(norm.domains) | {"com.ms.internal.nhwc"}
        assert known


@NORMS
def test_the_default_epsilon_is_that_of_the_schema(norm: ForeignNorm) -> None:
    if norm.form == NormForm.STANDARD:
        default = onnx.defs.get_schema(norm.op_type).attributes["epsilon"].default_value.f
        assert default == pytest.approx(norm.epsilon)


def test_a_node_by_its_type_and_domain() -> None:
    assert foreign_norm(ir.node("RMSNormalization", [])) is RMS_NORMALIZATION
    for domain in ("", CONTRIB_DOMAIN):
        assert (
            foreign_norm(ir.node("SimplifiedLayerNormalization", [], domain=domain)) is SIMPLIFIED_LAYER_NORMALIZATION
        )
    for op_type, domain in (("RMSNormalization", "acme"), ("RMSNorm", "rms_deploy"), ("Relu", "")):
        assert foreign_norm(ir.node(op_type, [], domain=domain)) is None
