"""The decomposed twins compute what the modules do."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.exporter.decomposed import decomposed
from rms_deploy.exporter.export import export
from rms_deploy.fusion.fuse import fuse
from rms_deploy.nn import AddRMSNorm, GatedRMSNorm, LayerNorm, PartialRMSNorm, RMSNorm


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


NORMS = {
    "plain": lambda **o: RMSNorm(24, **o),
    "no scale": lambda **o: RMSNorm(24, scale=False, **o),
    "offset": lambda **o: RMSNorm(24, scale_offset=1.0, **o),
    "rms_epsilon": lambda **o: RMSNorm(24, rms_epsilon=0.2, **o),
    "rms_min": lambda **o: RMSNorm(24, rms_min=1.1, **o),
    "two axes": lambda **o: RMSNorm((4, 24), **o),
    "first axis": lambda **o: RMSNorm(3, axes=[-3], **o),
    "groups": lambda **o: RMSNorm(24, scale_shape=(4, 24), **o),
    "partial": lambda **o: PartialRMSNorm(24, 5, **o),
    "partial of two axes": lambda **o: PartialRMSNorm((4, 24), 30, **o),
    "partial of leading axes": lambda **o: PartialRMSNorm((3, 4), 5, axes=[-3, -2], **o),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("order", [{}, {"round_before_scale": True}, {"round_reciprocal": True}], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_twin_is_equal(name, order, dtype) -> None:
    torch.manual_seed(0)
    norm = NORMS[name](**order).to(dtype)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    x = torch.randn(50, 3, 4, 24).to(dtype)
    expected, actual = norm(x), decomposed(norm)(x)
    assert actual.dtype == dtype
    if dtype.itemsize == 2:
        # x * (1 / r) instead of x / r rounds a few elements otherwise; the other order would do so to one in four
        # A float32 sum in another order rounds the reciprocal of a whole row otherwise, in few rows.
        assert float((actual == expected).float().mean()) > (0.97 if "round_reciprocal" in order else 0.99)
    torch.testing.assert_close(actual, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_add_twin() -> None:
    norm = AddRMSNorm(8)
    x, residual = torch.randn(3, 8), torch.randn(3, 8)
    torch.testing.assert_close(decomposed(norm)(x, residual), norm(x, residual))
    scale = torch.randn(3, 1)
    torch.testing.assert_close(decomposed(norm)(x, residual, scale), norm(x, residual, scale))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("round_before_scale", [False, True])
@pytest.mark.parametrize("norm_before_gate", [False, True])
@pytest.mark.parametrize("scale", [{}, {"scale": False}, {"scale_offset": 1.0}, {"scale_shape": (4, 24)}], ids=str)
def test_gated_twin_is_equal(scale, norm_before_gate, round_before_scale, dtype) -> None:
    options = {**scale, "norm_before_gate": norm_before_gate, "round_before_scale": round_before_scale}
    norm = GatedRMSNorm(24, **options).to(dtype)
    x, z, given = (torch.randn(shape).to(dtype) for shape in ((50, 4, 24), (50, 4, 24), (24,)))
    for weight in (None, given):
        expected, actual = norm(x, z, weight), decomposed(norm)(x, z, weight)
        # What float32 rounds otherwise, and in half types up to three roundings that it may cross, by an ulp each.
        torch.testing.assert_close(actual, expected, rtol=8 * torch.finfo(dtype).eps, atol=1e-30)


def test_weight_is_shared_and_gets_gradients() -> None:
    norm = RMSNorm(8)
    twin = decomposed(norm)
    twin(torch.randn(3, 8)).sum().backward()
    assert norm.weight.grad is not None


def test_others_have_no_twin() -> None:
    assert decomposed(LayerNorm(8)) is None
    assert decomposed(torch.nn.RMSNorm(8)) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "RMSNormSiluGate"),
        ({"activation": "sigmoid", "round_before_scale": True}, "RMSNormSigmoidGate"),
        ({"norm_before_gate": False, "round_before_scale": True}, "SiluGateRMSNorm"),
    ],
)
def test_a_gated_norm_is_one_op_in_both_forms(options, kind, dtype) -> None:
    """As `export` writes it, and as `fuse` finds it in the decomposed form, in the order of rounding of the module."""
    norm = GatedRMSNorm(32, **options).to(getattr(torch, dtype))
    inputs = tuple(torch.randn(2, 3, 32).to(norm.weight.dtype) for _ in "xz")
    exported = export(norm, inputs=inputs).model
    found = fuse(export(norm, inputs=inputs, norm="decomposed").model)
    assert not found.near_misses
    for model in (exported, found.model):
        (node,) = model.graph
        scale_type = node.attributes.get("scale_type")
        assert node.op_type == kind
        rounds_first = scale_type is not None and scale_type.as_int() != 1
        assert rounds_first == (options.get("round_before_scale", False) and dtype != "float32")
